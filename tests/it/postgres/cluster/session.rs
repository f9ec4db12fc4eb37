//! One session of a person, who sends a statement and reads its answer, or waits for it in vain.

use crate::harness::{PATIENCE, Process};
use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// After each answer.
const END: &str = "-- answered";

#[derive(Debug)]
pub(crate) struct Session {
    _psql: Process,
    statements: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Session {
    pub(super) fn new(psql: &mut Command) -> Self {
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"]);
        let mut psql = Process(psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(psql.0.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Self { statements: psql.0.stdin.take().unwrap(), _psql: psql, lines }
    }

    /// Sends a statement and reads its answer: a row a line, with `|` between columns.
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        self.send(sql);
        self.answer(PATIENCE).unwrap_or_else(|| panic!("no answer to {sql}"))
    }

    /// Sends a statement and waits for nothing.
    pub(crate) fn send(&mut self, sql: &str) {
        writeln!(self.statements, "{sql};\n\\echo {END}").unwrap();
    }

    /// The answer to the statement that was sent, if it comes in this time.
    #[track_caller]
    pub(crate) fn answer(&mut self, patience: Duration) -> Option<String> {
        let mut answer = Vec::new();
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) if line == END => return Some(answer.join("\n")),
                Ok(line) => answer.push(line),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("the session has ended: {answer:?}"),
            }
        }
    }
}
