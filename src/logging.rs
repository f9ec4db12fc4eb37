//! The log: one line an event, for people or as JSON.
//!
//! Invariant: what comes from outside cannot forge a line. Whatever would change the lines around it is escaped here, in
//! one place, for every line.

use crate::{cli::LogFormat, explain::escaped};
use env_logger::fmt::Formatter;
use log::{
    LevelFilter, Record,
    kv::{self, Key, Value, VisitSource},
};
use serde::{Serializer, ser::SerializeMap};
use std::{
    borrow::Cow,
    io::{self, Write},
};

/// Sets up the log for the process. `RUST_LOG` wins over `default_filter`.
pub fn init(format: LogFormat, default_filter: &str) {
    let mut builder = env_logger::Builder::new();
    // What it says is an error for each request that it cannot read, so that anyone could fill the disk. RUST_LOG can name it.
    builder.filter_module("actix_http", LevelFilter::Off);
    builder.parse_env(env_logger::Env::default().default_filter_or(default_filter));
    match format {
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json_line),
    };
    builder.init();
}

/// `[2026-03-02T17:14:07Z INFO  runhound::receiver] accepted delivery=… run=…`
fn text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (time, level) = (out.timestamp(), record.level());
    let style = out.default_level_style(level);
    write!(out, "[{time} {style}{level:<5}{style:#} {}] {}", record.target(), escaped(&message(record)))?;
    each_field(record, |key, value| write!(out, " {key}={}", quoted(value)))?;
    writeln!(out)
}

/// An object a line: `time`, `level`, `target`, `message`, and the fields of the event.
fn json_line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut json = serde_json::Serializer::new(&mut *out);
    let mut line = json.serialize_map(None)?;
    line.serialize_entry("time", &jiff::Timestamp::now())?;
    line.serialize_entry("level", &record.level().as_str().to_lowercase())?;
    line.serialize_entry("target", record.target())?;
    line.serialize_entry("message", &escaped(&message(record)))?;
    each_field(record, |key, value| line.serialize_entry(key, &escaped(value)).map_err(io::Error::from))?;
    line.end()?;
    writeln!(out)
}

fn message<'a>(record: &Record<'a>) -> Cow<'a, str> {
    record.args().as_str().map_or_else(|| record.args().to_string().into(), Cow::Borrowed)
}

/// A value as it can stand between others.
fn quoted(value: &str) -> Cow<'_, str> {
    let value = escaped(value);
    let is_plain = !value.is_empty() && !value.contains(|char: char| char.is_whitespace() || "\"=\\".contains(char));
    if is_plain { value } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")).into() }
}

/// Hands out the fields of an event, one after the other.
fn each_field(record: &Record<'_>, write: impl FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
    struct Fields<W>(W);
    impl<'kvs, W: FnMut(&str, &str) -> io::Result<()>> VisitSource<'kvs> for Fields<W> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            let text = value.to_borrowed_str().map_or_else(|| value.to_string().into(), Cow::Borrowed);
            (self.0)(key.as_str(), &text).map_err(kv::Error::from)
        }
    }
    record.key_values().visit(&mut Fields(write)).map_err(io::Error::other)
}
