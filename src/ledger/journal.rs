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

use super::{
    disk::{self, Storage, Stored},
    record::{FORMAT, Record},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The longest header line, with room to spare.
const HEADER_MAX_BYTES: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    group: u64,
    bytes: usize,
    crc32: String,
}

fn checksum(group: u64, lines: &[u8]) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(format!("{group} {}\n", lines.len()).as_bytes());
    hasher.update(lines);
    format!("{:08x}", hasher.finalize())
}

fn encode(group: u64, lines: &[u8]) -> Vec<u8> {
    let crc32 = checksum(group, lines);
    let mut bytes = format!("{{\"group\":{group},\"bytes\":{},\"crc32\":\"{crc32}\"}}\n", lines.len()).into_bytes();
    bytes.extend_from_slice(lines);
    bytes
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
    /// The records of the whole groups, in order, each with the byte at which its group begins.
    pub(super) records: Vec<(usize, Record)>,
    /// How many groups those are.
    pub(super) groups: u64,
    /// Where the whole groups end.
    pub(super) end: usize,
}

/// Damage, at a byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: usize,
    pub(super) what: &'static str,
}

/// Reads the whole groups of a journal. What follows `end` is the broken rest, if any: no whole group is in it.
pub(super) fn parse(bytes: &[u8]) -> Result<Contents, Damage> {
    let mut contents = Contents { records: Vec::new(), groups: 0, end: 0 };
    while let Some((group, lines, len)) = decode(bytes.get(contents.end..).unwrap_or_default()) {
        if group != contents.groups + 1 {
            return Err(Damage { offset: contents.end, what: "a group out of sequence" });
        }
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let record = serde_json::from_slice(line)
                .map_err(|_| Damage { offset: contents.end, what: "a record that this version cannot read" })?;
            contents.records.push((contents.end, record));
        }
        contents.groups = group;
        contents.end += len;
    }
    let rest = bytes.get(contents.end..).unwrap_or_default();
    let whole_after = rest
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| *pair == b"\n{")
        .any(|(at, _)| decode(rest.get(at + 1..).unwrap_or_default()).is_some());
    if whole_after {
        return Err(Damage { offset: contents.end, what: "a broken group with a whole one after it" });
    }
    match contents.records.first() {
        Some((_, Record::Journal { format: FORMAT, .. })) => Ok(contents),
        Some((_, Record::Journal { .. })) => {
            Err(Damage { offset: 0, what: "a format version that this program does not know" })
        }
        _ => Err(Damage { offset: 0, what: "no header" }),
    }
}

/// The quoted texts in the broken rest of a journal, where they are whole.
pub(super) fn quoted_texts(rest: &[u8]) -> impl Iterator<Item = &str> {
    // The checksum in the header is a quoted text too, and can look like a key.
    let header = if rest.starts_with(b"{\"group\"") { rest.iter().position(|byte| *byte == b'\n') } else { None };
    let records = rest.get(header.unwrap_or(0)..).unwrap_or_default();
    records.split(|byte| *byte == b'"').filter_map(|text| std::str::from_utf8(text).ok())
}

/// The journal that is written to.
#[derive(Debug)]
pub(super) struct Journal {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// `None` after a failure, until a new file has taken the old one's place.
    file: Option<Box<dyn Stored>>,
    groups: u64,
    len: u64,
}

impl Journal {
    /// A journal that has no usable file yet; `rewrite` gives it one.
    pub(super) fn new(storage: Arc<dyn Storage>, path: &Path) -> Self {
        Self { storage, path: path.to_owned(), file: None, groups: 0, len: 0 }
    }

    /// Goes on with the file that `contents` was read from, to its last byte.
    pub(super) fn resume(storage: Arc<dyn Storage>, path: &Path, contents: &Contents) -> io::Result<Self> {
        let mut file = storage.open(path)?;
        // What was read may be in the page cache alone: the process before us may have ended before its sync.
        if let Some(file) = &mut file {
            file.sync()?;
        }
        Ok(Self { file, groups: contents.groups, len: contents.end as u64, ..Self::new(storage, path) })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the next append can go to the file as it is. It cannot after a failure, nor where the name
    /// no longer leads to our file: what is synced to a deleted file is lost.
    pub(super) fn is_usable(&self) -> bool {
        let named = self.storage.stamp(&self.path).ok().flatten();
        let ours = self.file.as_ref().and_then(|file| file.stamp().ok());
        named.is_some() && named.map(|stamp| stamp.file) == ours.map(|stamp| stamp.file)
    }

    /// Appends one group and syncs it. After an error nothing of it counts.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let bytes = encode(self.groups + 1, lines);
        disk::write_all_at(file.as_mut(), &bytes, self.len)?;
        file.sync()?;
        self.groups += 1;
        self.len += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    /// Puts a new file in the place of the old one, with `lines` as its only group.
    ///
    /// After an error the old one still serves, if the name still leads to it.
    pub(super) fn rewrite(&mut self, lines: &[u8]) -> io::Result<()> {
        let bytes = encode(1, lines);
        self.file = Some(disk::replace(self.storage.as_ref(), &self.path, &bytes)?);
        self.groups = 1;
        self.len = bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Vec<u8> {
        Record::Journal { format: FORMAT, birth: 7 }.line()
    }

    fn reject(id: &str) -> Vec<u8> {
        Record::Reject { keys: vec![id.parse().unwrap()] }.line()
    }

    fn two_groups() -> (Vec<u8>, usize) {
        let first = encode(1, &head());
        let len = first.len();
        ([first, encode(2, &reject("5"))].concat(), len)
    }

    #[test]
    fn whole_groups_are_read_in_order() {
        let (bytes, _) = two_groups();
        let contents = parse(&bytes).unwrap();
        assert_eq!((contents.records.len(), contents.groups, contents.end), (2, 2, bytes.len()));
    }

    #[test]
    fn a_last_group_broken_at_any_byte_is_the_rest() {
        let (bytes, first) = two_groups();
        for cut in first..bytes.len() {
            assert_eq!(parse(&bytes[..cut]).unwrap().end, first, "cut at {cut}");
        }
        for flip in first..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[flip] ^= 1;
            assert_eq!(parse(&bytes).unwrap().end, first, "flipped at {flip}");
        }
    }

    #[test]
    fn a_broken_group_with_a_whole_one_after_it_is_damage_at_its_byte() {
        let (bytes, first) = two_groups();
        let whole = [bytes, encode(3, &reject("6"))].concat();
        for flip in first..whole.len() - 70 {
            let mut bytes = whole.clone();
            bytes[flip] ^= 1;
            let damage = parse(&bytes).map(|contents| contents.end).unwrap_err();
            assert_eq!(damage.offset, first, "flipped at {flip}");
        }
    }

    #[test]
    fn no_header_an_unknown_format_or_a_jump_in_sequence_is_damage() {
        assert_eq!(parse(b"").unwrap_err().what, "no header");
        assert_eq!(parse(&encode(1, &reject("5"))).unwrap_err().what, "no header");
        let newer = Record::Journal { format: FORMAT + 1, birth: 7 }.line();
        assert!(parse(&encode(1, &newer)).unwrap_err().what.contains("format version"));
        let jump = [encode(1, &head()), encode(3, &reject("5"))].concat();
        assert_eq!(parse(&jump).unwrap_err().what, "a group out of sequence");
        let strange = [encode(1, &head()), encode(2, b"{\"new\":1}\n")].concat();
        assert!(parse(&strange).unwrap_err().what.contains("cannot read"));
    }

    #[test]
    fn the_keys_in_a_broken_rest_can_be_told() {
        let texts: Vec<&str> = quoted_texts(br#"{"reject":{"keys":["5","6/attempts/2","#).collect();
        assert!(texts.contains(&"5") && texts.contains(&"6/attempts/2"));
    }
}
