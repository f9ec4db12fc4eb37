//! The text of the file of sent IDs: reading any layout, writing ours, and telling a torn end from damage.
//!
//! Invariant: no I/O. Ours is what `JSON.stringify({ sent }, null, 2)` writes, with other keys before `sent`.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

const OPENING: &str = "\"sent\": [";
const CLOSING: &[u8] = b"\n  ]\n}";
const CLOSING_EMPTY: &[u8] = b"]\n}";

/// Where the text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) offset: usize,
    pub(super) what: String,
}

/// Where the next ID goes in a text laid out as ours: over the closing brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The byte after the last ID, or after the opening bracket.
    pub(super) offset: u64,
    is_empty: bool,
}

impl Tail {
    /// The bytes to write at the tail's offset, and the tail after that.
    pub(super) fn append(self, ids: &[&str]) -> (Vec<u8>, Self) {
        let mut text = Vec::new();
        let mut tail = self;
        for id in ids {
            push(&mut text, id, tail.is_empty);
            tail.is_empty = false;
        }
        tail.offset += text.len() as u64;
        text.extend_from_slice(tail.closing());
        (text, tail)
    }

    /// What stands after the offset of a whole text.
    pub(super) const fn closing(self) -> &'static [u8] {
        if self.is_empty { CLOSING_EMPTY } else { CLOSING }
    }
}

fn push(text: &mut Vec<u8>, id: &str, is_first: bool) {
    text.extend_from_slice(if is_first { b"\n    " } else { b",\n    " });
    text.extend_from_slice(serde_json::Value::from(id).to_string().as_bytes());
}

/// A file's content on its way into a new file.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Other keys than `sent`, with their values as they stood.
    pub(super) others: Vec<(String, Box<RawValue>)>,
    ids: Vec<u8>,
}

impl Document {
    pub(super) fn push(&mut self, id: &str) {
        let is_first = self.ids.is_empty();
        push(&mut self.ids, id, is_first);
    }

    /// The whole text in our layout.
    pub(super) fn text(&self) -> (Vec<u8>, Tail) {
        let mut text = b"{\n".to_vec();
        for (name, value) in &self.others {
            let name = serde_json::Value::from(name.as_str());
            text.extend_from_slice(format!("  {name}: {value},\n").as_bytes());
        }
        text.extend_from_slice(format!("  {OPENING}").as_bytes());
        text.extend_from_slice(&self.ids);
        let tail = Tail { offset: text.len() as u64, is_empty: self.ids.is_empty() };
        text.extend_from_slice(tail.closing());
        (text, tail)
    }
}

/// The byte at which the lines of the last `ids` IDs begin, in a text laid out as ours.
pub(super) fn start_of_last(bytes: &[u8], ids: usize) -> usize {
    // The two lines after them are the closing brackets, and the comma before them was written with them.
    let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at.saturating_sub(1)).nth(ids + 1).unwrap_or(0)
}

/// No more IDs than this are in a text. In our layout it is one more than there are: the name of their list has quotes too.
#[expect(clippy::naive_bytecount, reason = "as fast as the file is read")]
pub(super) fn most_ids(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'"').count() / 2
}

/// What a text holds beside its IDs.
#[derive(Debug)]
pub(super) struct Read {
    /// Other keys than `sent`, with their values as they stand.
    pub(super) others: Vec<(String, Box<RawValue>)>,
    /// Where to append, if the end is laid out as ours.
    pub(super) tail: Option<Tail>,
}

/// Reads a text, handing each ID to `take` in order. After a flaw, what was taken means nothing.
pub(super) fn read(bytes: &[u8], mut take: impl FnMut(&str)) -> Result<Read, Flaw> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let flaw = |error: &serde_json::Error| Flaw { offset: offset(bytes, error), what: what(error) };
    let visitor = FileVisitor { take: &mut take };
    let (others, sent_is_last) = json.deserialize_map(visitor).map_err(|error| flaw(&error))?;
    json.end().map_err(|error| flaw(&error))?;
    let tail = if !sent_is_last {
        None
    } else if bytes.ends_with(b"\"sent\": []\n}") {
        Some(Tail { offset: (bytes.len() - CLOSING_EMPTY.len()) as u64, is_empty: true })
    } else if bytes.ends_with(b"\"\n  ]\n}") {
        Some(Tail { offset: (bytes.len() - CLOSING.len()) as u64, is_empty: false })
    } else {
        None
    };
    Ok(Read { others, tail })
}

/// The error's byte in the text; the library tells line and column.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    (before + error.column().saturating_sub(1)).min(bytes.len())
}

fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

struct FileVisitor<'t, F> {
    take: &'t mut F,
}

impl<'de, F: FnMut(&str)> Visitor<'de> for FileVisitor<'_, F> {
    type Value = (Vec<(String, Box<RawValue>)>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list `sent`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut others = Vec::new();
        let mut has_sent = false;
        let mut sent_is_last = false;
        while let Some(name) = map.next_key::<String>()? {
            sent_is_last = name == "sent";
            if !sent_is_last {
                others.push((name, map.next_value()?));
            } else if has_sent {
                return Err(A::Error::custom("`sent` stands there twice"));
            } else {
                map.next_value_seed(Ids { take: &mut *self.take })?;
                has_sent = true;
            }
        }
        if !has_sent {
            return Err(A::Error::custom("there is no list `sent`"));
        }
        Ok((others, sent_is_last))
    }
}

struct Ids<'t, F> {
    take: &'t mut F,
}

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for Ids<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&str)> Visitor<'de> for Ids<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of IDs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Id { take: &mut *self.take })?.is_some() {}
        Ok(())
    }
}

struct Id<'t, F> {
    take: &'t mut F,
}

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for Id<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: FnMut(&str)> Visitor<'_> for Id<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an ID, which is a text")
    }

    fn visit_str<E>(self, id: &str) -> Result<(), E> {
        (self.take)(id);
        Ok(())
    }
}

/// What stands before the tear in a text whose last append was cut short.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) others: Vec<(String, Box<RawValue>)>,
    pub(super) ids: Vec<String>,
}

/// Reads the whole IDs at the start of a text in our layout that is not valid JSON; `None` if it does not
/// even begin as ours.
pub(super) fn salvage(bytes: &[u8]) -> Option<Torn> {
    let opening = format!("  {OPENING}");
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut at = 0;
    for line in lines {
        if line.starts_with(opening.as_bytes()) {
            break;
        }
        at += line.len();
    }
    let head_len = at + opening.len();
    let mut head = bytes.get(..head_len)?.to_vec();
    head.extend_from_slice(CLOSING_EMPTY);
    let others = read(&head, |_| ()).ok()?.others;
    let mut rest = bytes.get(head_len..)?;
    let mut ids = Vec::new();
    while let Some(text) = rest.strip_prefix(if ids.is_empty() { &b"\n    "[..] } else { b",\n    " }) {
        let mut json = serde_json::Deserializer::from_slice(text).into_iter::<String>();
        let Some(Ok(id)) = json.next() else {
            break;
        };
        ids.push(id);
        rest = text.get(json.byte_offset()..).unwrap_or_default();
    }
    Some(Torn { others, ids })
}

/// Every ID that can be read in a text, however damaged: a text between quotes that stands where one can stand in a list.
pub(super) fn readable_ids(bytes: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    if read(bytes, |id| ids.push(id.to_owned())).is_ok() {
        return ids;
    }
    ids.clear();
    let name = b"\"sent\"";
    let mut at = bytes.windows(name.len()).position(|text| text == name).map_or(0, |at| at + name.len());
    let mut before = b'[';
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let mut json = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
        let id = if rest.starts_with(b"\"") { json.next().and_then(Result::ok) } else { None };
        let after = rest.get(json.byte_offset()..).unwrap_or_default().trim_ascii_start();
        match id {
            Some(id) if b"[,".contains(&before) && matches!(after.first(), None | Some(b',' | b']')) => {
                ids.push(id);
                at += json.byte_offset();
            }
            _ => at += 1,
        }
        before = match bytes.get(at - 1) {
            Some(b'\n') => b',',
            Some(byte) if byte.is_ascii_whitespace() => before,
            Some(byte) => *byte,
            None => before,
        };
    }
    ids
}

#[cfg(test)]
mod tests;
