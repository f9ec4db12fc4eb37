use super::*;

fn ours(ids: &[&str]) -> Vec<u8> {
    let mut document = Document::default();
    for id in ids {
        document.push(id);
    }
    document.text().0
}

fn ids(bytes: &[u8]) -> Result<Vec<String>, Flaw> {
    let mut ids = Vec::new();
    read(bytes, |id| ids.push(id.to_owned())).map(|_| ids)
}

#[test]
fn the_layout_is_what_json_stringify_writes() {
    assert_eq!(ours(&[]), b"{\n  \"sent\": []\n}");
    assert_eq!(ours(&["1", "a\"b"]), b"{\n  \"sent\": [\n    \"1\",\n    \"a\\\"b\"\n  ]\n}");
}

#[test]
fn appending_over_the_tail_gives_the_same_text_as_writing_it_whole() {
    let all = ["1", "2/attempts/3", "\u{1f600}\n", "4"];
    for split in 0..=all.len() {
        let (before, after) = all.split_at(split);
        let mut text = ours(before);
        let tail = read(&text, |_| ()).unwrap().tail.unwrap();
        let (bytes, next) = tail.append(after);
        text.truncate(usize::try_from(tail.offset).unwrap());
        text.extend_from_slice(&bytes);
        assert_eq!(text, ours(&all), "split at {split}");
        assert_eq!(read(&text, |_| ()).unwrap().tail, Some(next));
    }
}

#[test]
fn the_last_ids_are_found_with_the_comma_before_them() {
    let text = ours(&["11", "22", "33"]);
    let from = |ids| std::str::from_utf8(&text[start_of_last(&text, ids)..]).unwrap();
    assert_eq!(from(1), ",\n    \"33\"\n  ]\n}");
    assert_eq!(from(2), ",\n    \"22\",\n    \"33\"\n  ]\n}");
    for ids in [3, 4, 9] {
        assert!(from(ids).contains("\"11\""), "{ids}");
    }
}

#[test]
fn a_text_laid_out_otherwise_is_read_but_not_appended_to() {
    let flat = br#"{"sent":["1","2"]}"#;
    let first = b"{\n  \"sent\": [\n    \"1\"\n  ],\n  \"note\": 1\n}";
    let trailing = [ours(&["1"]), b"\n".to_vec()].concat();
    for text in [&flat[..], first, &trailing] {
        let read = read(text, |_| ()).unwrap();
        assert_eq!(read.tail, None);
    }
    assert_eq!(ids(flat).unwrap(), ["1", "2"]);
}

#[test]
fn other_keys_are_kept_as_they_stand() {
    let text = br#"{"note": {"b": 1.50, "a": [ ]}, "sent": ["1"], "z": null}"#;
    let mut document = Document::default();
    document.others = read(text, |id| document.push(id)).unwrap().others;
    let (text, _) = document.text();
    let expected = "{\n  \"note\": {\"b\": 1.50, \"a\": [ ]},\n  \"z\": null,\n  \"sent\": [\n    \"1\"\n  ]\n}";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn what_is_no_such_file_is_a_flaw_at_its_byte() {
    let cases = [
        ("", 0),
        ("[]", 0),
        ("{}", 1),
        ("{\"sent\": 1}", 9),
        ("{\"sent\": [1]}", 10),
        ("{\"sent\": [\"1\"", 13),
        ("{\n  \"sent\": [\n    \"1\",\n  ]\n}", 26),
        ("{\"sent\": []} x", 13),
    ];
    for (text, offset) in cases {
        let flaw = ids(text.as_bytes()).unwrap_err();
        assert!(flaw.offset.abs_diff(offset) <= 1, "{text}: {flaw:?}");
    }
    assert!(ids(br#"{"sent": [], "sent": []}"#).unwrap_err().what.contains("twice"));
}

#[test]
fn the_whole_ids_before_a_tear_are_told_at_whatever_byte_it_is() {
    let whole = ours(&["11", "22", "33"]);
    let before = ours(&["11", "22"]);
    let start = before.len() - CLOSING.len();
    for cut in start..whole.len() {
        // The new bytes up to the cut, then nothing, zeros, or what stood there before.
        let torn = whole[..cut].to_vec();
        let zeros = [torn.clone(), vec![0; whole.len() - cut]].concat();
        let old = [torn.clone(), before.get(cut..).unwrap_or_default().to_vec()].concat();
        for text in [torn, zeros, old] {
            match ids(&text) {
                Ok(ids) => assert_eq!(ids, ["11", "22"]),
                Err(_) => assert!(salvage(&text).unwrap().ids.starts_with(&["11".to_owned(), "22".to_owned()])),
            }
        }
    }
    for text in [&b""[..], b"{", b"{\n  \"sent\"", b"garbage\n"] {
        assert!(salvage(text).is_none());
    }
}

#[test]
fn around_a_damage_at_whatever_byte_all_other_ids_can_be_read() {
    let all = ["11", "22/attempts/2", "x, \"y\"", "44", "55"];
    let flat = format!("{{\"note\": [\"n\"], \"sent\": [{}]}}", all.map(|id| format!("{id:?}")).join(", "));
    for text in [ours(&all), flat.into_bytes()] {
        assert_eq!(readable_ids(&text), all);
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] = 0;
            let found = readable_ids(&damaged);
            let missing = all.iter().filter(|id| !found.iter().any(|known| known == *id)).count();
            assert!(missing <= 2, "byte {at}: {found:?}");
        }
    }
    assert_eq!(readable_ids(b"{\n  \"sent\": [\n    \"1\",\n    \"2"), ["1"]);
    for text in [&b""[..], b"\0\0\0\0", b"garbage", b"{\"sent\": {}}"] {
        assert_eq!(readable_ids(text), Vec::<String>::new());
    }
}

#[test]
fn the_number_of_ids_is_bounded_before_they_are_read() {
    assert_eq!(most_ids(&ours(&[])), 1);
    assert_eq!(most_ids(&ours(&["11", "22/attempts/2", "333"])), 4);
    assert!(most_ids(&ours(&["x, \"y\""])) >= 1);
}
