use super::*;
use std::convert::Infallible;

const IGNORE: fn(Record) -> Result<(), Infallible> = |_| Ok(());

fn head() -> Vec<u8> {
    Record::Journal { format: FORMAT, birth: 7 }.line()
}

fn reject(id: &str) -> Vec<u8> {
    Record::Reject { keys: vec![id.parse().unwrap()] }.line()
}

fn flaw(bytes: &[u8]) -> Flaw {
    parse(bytes, IGNORE).map(|contents| contents.end).unwrap_err()
}

fn two_groups() -> (Vec<u8>, usize) {
    let first = encode(1, &head());
    let len = first.len();
    ([first, encode(2, &reject("5"))].concat(), len)
}

#[test]
fn whole_groups_are_read_in_order() {
    let (bytes, _) = two_groups();
    let mut records = Vec::new();
    let contents = parse(&bytes, |record| {
        records.push(record);
        Ok::<(), Infallible>(())
    });
    let contents = contents.unwrap();
    assert_eq!((records.len(), contents.groups, contents.end), (2, 2, bytes.len()));
}

#[test]
fn a_last_group_broken_at_any_byte_is_the_rest() {
    let (bytes, first) = two_groups();
    for cut in first..bytes.len() {
        assert_eq!(parse(&bytes[..cut], IGNORE).unwrap().end, first, "cut at {cut}");
    }
    for flip in first..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[flip] ^= 1;
        assert_eq!(parse(&bytes, IGNORE).unwrap().end, first, "flipped at {flip}");
    }
}

#[test]
fn a_broken_group_with_a_whole_one_after_it_is_damage_at_its_byte() {
    let (bytes, first) = two_groups();
    let whole = [bytes, encode(3, &reject("6"))].concat();
    for flip in first..whole.len() - 70 {
        let mut bytes = whole.clone();
        bytes[flip] ^= 1;
        let what = "a broken group with a whole one after it";
        assert_eq!(flaw(&bytes), Flaw::Damage { offset: first, what: what.into() }, "flipped at {flip}");
    }
}

#[test]
fn no_header_an_unknown_format_or_a_jump_in_sequence_is_damage() {
    let no_header = Flaw::Damage { offset: 0, what: "no header".into() };
    assert_eq!(flaw(b""), no_header);
    assert_eq!(flaw(&encode(1, &reject("5"))), no_header);
    let newer = Record::Journal { format: FORMAT + 1, birth: 7 }.line();
    assert_eq!(flaw(&encode(1, &newer)), Flaw::Format(u64::from(FORMAT) + 1));
    let newest = b"{\"group\":1,\"sha256\":\"ab\"}\n{\"journal\":{\"format\":3,\"born\":\"today\"}}\n";
    assert_eq!(flaw(newest), Flaw::Format(3));
    let offset = encode(1, &head()).len();
    let jump = [encode(1, &head()), encode(3, &reject("5"))].concat();
    assert_eq!(flaw(&jump), Flaw::Damage { offset, what: "a group out of sequence".into() });
    let strange = [encode(1, &head()), encode(2, b"{\"new\":1}\n")].concat();
    assert_eq!(flaw(&strange), Flaw::Damage { offset, what: "a record that this version cannot read".into() });
}

#[test]
fn the_keys_in_a_broken_rest_can_be_told() {
    let header = "{\"group\":3,\"bytes\":90,\"crc32\":\"55555555\"}\n";
    let texts = |rest: &str| quoted_texts(rest.as_bytes()).map(str::to_owned).collect::<Vec<_>>();
    let two = texts(&format!("{header}{{\"reject\":{{\"keys\":[\"5\",\"6/attempts/2\","));
    assert!(two.iter().any(|text| text == "5") && two.iter().any(|text| text == "6/attempts/2"), "{two:?}");
    let whole = format!("{header}{{\"reject\":{{\"keys\":[\"15\",\"25\"]}}}}\n");
    for at in 1..whole.len() {
        for torn in [whole[..at].to_owned(), format!("{}{}", "\0".repeat(at), &whole[at..])] {
            let keys: Vec<String> = texts(&torn).into_iter().filter(|text| text.parse::<u64>().is_ok()).collect();
            assert!(keys.iter().all(|key| key == "15" || key == "25"), "{torn:?}: {keys:?}");
        }
    }
}

#[test]
fn a_new_journal_goes_to_the_disk_in_pieces_and_is_one_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let mut journal = Journal::new(Arc::new(disk::RealDisk), &path);
    let reject = |id: u64| Record::Reject { keys: vec![id.to_string().parse().unwrap()] };
    let records =
        || std::iter::once(Record::Journal { format: FORMAT, birth: 7 }).chain((10_000_000..10_090_000).map(reject));
    journal.rewrite(records).unwrap();
    let lines: Vec<u8> = records().flat_map(|record| record.line()).collect();
    assert!(lines.len() > 2 * PIECE_BYTES);
    let whole = encode(1, &lines);
    assert!(std::fs::read(&path).unwrap() == whole);
    assert_eq!(journal.len(), whole.len() as u64);
    journal.append(&reject(5).line()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let contents = parse(&bytes, IGNORE).unwrap();
    assert_eq!((contents.groups, contents.last, contents.end), (2, whole.len(), bytes.len()));
}
