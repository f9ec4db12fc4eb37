//! The journal file: records in checksummed groups, append-only.
//!
//! A group is a header line and the lines of its records:
//!
//! ```text
//! {"group":3,"bytes":214,"crc32":"9ae0daaf"}
//! {"accept":{"key":"30433642","end":1772471647,…}}
//! ```
//!
//! `group` counts from 1 in each file, `bytes` is the length of the records' lines, and `crc32` (IEEE) covers
//! `group`, `bytes` and those lines.
//!
//! Invariant: what `append` has returned `Ok` for is on disk, in a file that is reachable by its name. After a
//! write or sync that failed the file is never touched again: a new one takes its place.

use super::weight::Weight;
use crate::ledger::{
    disk::{self, Stamp, Storage, Stored},
    record::{FORMAT, Record},
};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    borrow::{Borrow, Cow},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The longest header line, with room to spare.
const HEADER_MAX_BYTES: usize = 100;

/// A new journal is handed to the disk in pieces of about so much.
const PIECE_BYTES: usize = 1 << 20;

const HEADER_START: &[u8] = b"{\"group\":";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    group: u64,
    bytes: usize,
    crc32: String,
}

/// The checksum of a group so far: of its number and its length.
fn begin_checksum(group: u64, bytes: usize) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(format!("{group} {bytes}\n").as_bytes());
    hasher
}

fn checksum(group: u64, lines: &[u8]) -> String {
    let mut hasher = begin_checksum(group, lines.len());
    hasher.update(lines);
    in_hexadecimal(hasher)
}

fn in_hexadecimal(hasher: Hasher) -> String {
    format!("{:08x}", hasher.finalize())
}

fn header(group: u64, bytes: usize, crc32: &str) -> Vec<u8> {
    format!("{{\"group\":{group},\"bytes\":{bytes},\"crc32\":\"{crc32}\"}}\n").into_bytes()
}

fn encode(group: u64, lines: &[u8]) -> Vec<u8> {
    let mut bytes = header(group, lines.len(), &checksum(group, lines));
    bytes.extend_from_slice(lines);
    bytes
}

/// What the header of a new journal's only group says, and what its records weigh.
fn header_of_first<R: Borrow<Record>>(records: impl Iterator<Item = R>) -> (Vec<u8>, Weight) {
    let (mut weight, mut bytes, mut lines) = (Weight::default(), 0, Hasher::new());
    for record in records {
        let line = record.borrow().line();
        weight.count(record.borrow(), line.len());
        bytes += line.len();
        lines.update(&line);
    }
    let mut hasher = begin_checksum(1, bytes);
    hasher.combine(&lines);
    (header(1, bytes, &in_hexadecimal(hasher)), weight)
}

/// A whole group at the start of `bytes`: its number, its lines, and its length.
fn decode(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let head_len = bytes.iter().take(HEADER_MAX_BYTES).position(|byte| *byte == b'\n')? + 1;
    let header: Header = serde_json::from_slice(bytes.get(..head_len)?).ok()?;
    let len = head_len.checked_add(header.bytes)?;
    let lines = bytes.get(head_len..len)?;
    (checksum(header.group, lines) == header.crc32).then_some((header.group, lines, len))
}

/// What a journal file turned out to hold.
#[derive(Debug)]
pub(super) struct Contents {
    /// What the records weigh.
    pub(super) weight: Weight,
    /// How many groups those are.
    pub(super) groups: u64,
    /// Where the last of them begins.
    last: usize,
    /// Where the whole groups end.
    pub(super) end: usize,
}

/// Why a journal cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Damage { offset: usize, what: Cow<'static, str> },
    Format(u64),
}

/// Reads the whole groups of a journal, and hands each record to `take` in order: all at once they would be many times what
/// they come to. What follows `end` is the broken rest, if any: no whole group is in it. After a flaw, what was taken means
/// nothing.
pub(super) fn parse<E: ToString>(
    bytes: &[u8],
    mut take: impl FnMut(Record) -> Result<(), E>,
) -> Result<Contents, Flaw> {
    if let Some(format) = other_format(bytes) {
        return Err(Flaw::Format(format));
    }
    let mut contents = Contents { weight: Weight::default(), groups: 0, last: 0, end: 0 };
    let damage = |offset, what: &'static str| Flaw::Damage { offset, what: what.into() };
    let mut has_header = false;
    while let Some((group, lines, len)) = decode(bytes.get(contents.end..).unwrap_or_default()) {
        if group != contents.groups + 1 {
            return Err(damage(contents.end, "a group out of sequence"));
        }
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let record = serde_json::from_slice(line)
                .map_err(|_| damage(contents.end, "a record that this version cannot read"))?;
            has_header |= contents.end == 0 && matches!(record, Record::Journal { .. });
            if !has_header {
                return Err(damage(0, "no header"));
            }
            contents.weight.count(&record, line.len());
            take(record).map_err(|error| Flaw::Damage { offset: contents.end, what: error.to_string().into() })?;
        }
        contents.groups = group;
        contents.last = contents.end;
        contents.end += len;
    }
    if next_whole(bytes, contents.end).is_some() {
        return Err(damage(contents.end, "a broken group with a whole one after it"));
    }
    if has_header { Ok(contents) } else { Err(damage(0, "no header")) }
}

/// The format that a journal of another version says it has, whatever else such a version writes: its first group is whole,
/// or has a header that is none of ours.
fn other_format(bytes: &[u8]) -> Option<u64> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let header: Value = serde_json::from_slice(lines.next()?).ok()?;
    let record: Value = serde_json::from_slice(lines.next()?).ok()?;
    let format = record.pointer("/journal/format")?.as_u64()?;
    let is_meant = decode(bytes).is_some() || header.is_object() && Header::deserialize(header).is_err();
    (is_meant && format != u64::from(FORMAT)).then_some(format)
}

/// Where the next whole group begins that follows a broken one at `from`.
fn next_whole(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    // No text in a record can look like this, for its quotes would be escaped.
    let headers = rest.windows(HEADER_START.len()).enumerate().filter(|(_, text)| *text == HEADER_START);
    let mut places = headers.map(|(at, _)| from + at).filter(|at| *at > from);
    places.find(|at| bytes.get(*at..).and_then(decode).is_some())
}

/// A piece of a damaged journal.
#[derive(Debug)]
pub(super) struct Part {
    /// Whether it is a whole group, in its place.
    pub(super) is_whole: bool,
    /// The records that can be read in it.
    pub(super) records: Vec<Record>,
    /// How many bytes of it cannot be read.
    pub(super) unreadable_bytes: usize,
}

impl Part {
    fn new(is_whole: bool, lines: &[u8]) -> Self {
        let mut part = Self { is_whole, records: Vec::new(), unreadable_bytes: 0 };
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(record) => part.records.push(record),
                Err(_) if serde_json::from_slice::<Header>(line).is_ok() => {}
                Err(_) => part.unreadable_bytes += line.len(),
            }
        }
        part.is_whole &= part.unreadable_bytes == 0;
        part
    }
}

/// Everything that can be read in a journal, however damaged, piece by piece.
pub(super) fn parts(bytes: &[u8]) -> Vec<Part> {
    let (mut parts, mut at, mut groups) = (Vec::new(), 0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((group, lines, len)) = decode(rest) else {
            let end = next_whole(bytes, at).unwrap_or(bytes.len());
            parts.push(Part::new(false, bytes.get(at..end).unwrap_or_default()));
            at = end;
            continue;
        };
        if group != groups + 1 {
            parts.push(Part::new(false, b""));
        }
        parts.push(Part::new(true, lines));
        (at, groups) = (at + len, group);
    }
    parts
}

/// The texts in the records of the broken rest of a journal that stand between their quotes, so that none is cut short.
pub(super) fn quoted_texts(rest: &[u8]) -> impl Iterator<Item = &str> {
    // The first line is the header, or what a tear has left of it: its checksum is a quoted text too, and can look like a key.
    let records = rest.split(|byte| *byte == b'\n').skip(1);
    records.flat_map(between_quotes).filter_map(|text| std::str::from_utf8(text).ok())
}

fn between_quotes(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut pieces = line.split(|byte| *byte == b'"').skip(1).peekable();
    std::iter::from_fn(move || pieces.next().filter(|_| pieces.peek().is_some()))
}

/// The journal that is written to.
#[derive(Debug)]
pub(in crate::ledger) struct Journal {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// `None` after a failure, until a new file has taken the old one's place.
    open: Option<Open>,
    groups: u64,
}

/// The file as we left it.
#[derive(Debug)]
struct Open {
    file: Box<dyn Stored>,
    stamp: Stamp,
}

impl Journal {
    /// A journal that has no usable file yet; `rewrite` gives it one.
    pub(in crate::ledger) fn new(storage: Arc<dyn Storage>, path: &Path) -> Self {
        Self { storage, path: path.to_owned(), open: None, groups: 0 }
    }

    /// Goes on with the file that `bytes` was read from, after its whole groups.
    ///
    /// What was read may be in the page cache alone: the process before us may have ended before its sync, or after one
    /// that failed, which the next sync would not tell. So the last group is written once more, as it stands.
    pub(super) fn resume(
        storage: Arc<dyn Storage>,
        path: &Path,
        bytes: &[u8],
        contents: &Contents,
    ) -> io::Result<Self> {
        let mut file = storage.open(path)?.ok_or(io::ErrorKind::NotFound)?;
        let last = bytes.get(contents.last..contents.end).unwrap_or_default();
        disk::write_all_at(file.as_mut(), last, contents.last as u64)?;
        file.sync()?;
        let stamp = file.stamp()?;
        if stamp.len != bytes.len() as u64 {
            return Err(io::Error::other("another process has written to it"));
        }
        let open = Some(Open { file, stamp });
        Ok(Self { open, groups: contents.groups, ..Self::new(storage, path) })
    }

    pub(super) fn len(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.stamp.len)
    }

    /// Whether the next append can go to the file as it is. It cannot after a failure, nor where the name no longer
    /// leads to our file (what is synced to a deleted file is lost), nor where somebody else has changed it.
    pub(super) fn is_usable(&self) -> bool {
        let named = self.storage.stamp(&self.path).ok().flatten();
        named.is_some() && named == self.open.as_ref().map(|open| open.stamp)
    }

    /// Appends one group and syncs it. After an error nothing of it counts.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut open = self.open.take().ok_or(io::ErrorKind::NotFound)?;
        let bytes = encode(self.groups + 1, lines);
        disk::write_all_at(open.file.as_mut(), &bytes, open.stamp.len)?;
        open.file.sync()?;
        self.groups += 1;
        // It is on disk, whatever becomes of this file: without a stamp the next group goes to a new one.
        self.open = open.file.stamp().ok().map(|stamp| Open { stamp, ..open });
        Ok(())
    }

    /// Puts a new file in the place of the old one, with these records as its only group, and tells what they weigh.
    ///
    /// They are asked for twice, for the group's length and checksum stand before it, and go to the file piece by piece: as text
    /// all at once they can be as much as all that is pending. One group is read as a whole or not at all, wherever the file
    /// is damaged later; of several the last would look like a torn write.
    ///
    /// After an error the old one still serves, if the name still leads to it.
    pub(in crate::ledger) fn rewrite<R, I>(&mut self, records: impl Fn() -> I) -> io::Result<Weight>
    where
        R: Borrow<Record>,
        I: Iterator<Item = R>,
    {
        let (header, weight) = header_of_first(records());
        let file = disk::replace_by(self.storage.as_ref(), &self.path, |file| {
            let (mut piece, mut at) = (header, 0);
            for record in records() {
                piece.append(&mut record.borrow().line());
                if piece.len() >= PIECE_BYTES {
                    disk::write_all_at(file, &piece, at)?;
                    at += piece.len() as u64;
                    piece.clear();
                }
            }
            disk::write_all_at(file, &piece, at)
        })?;
        self.groups = 1;
        self.open = file.stamp().ok().map(|stamp| Open { file, stamp });
        Ok(weight)
    }
}

#[cfg(test)]
mod tests;
