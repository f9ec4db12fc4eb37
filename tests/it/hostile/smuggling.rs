//! Requests that say two things about where they end, with a delivery hidden behind them. The hidden one is signed, so that
//! it would be accepted if it were ever looked at.

use super::{assert_accepted, connect, delivery, exchange, statuses, strange, wrong_signature};
use crate::harness::{SECRET, Start};
use std::io::{Read, Write};

/// What stands before a hidden delivery, and in whose name.
fn fronts(hidden: &[u8]) -> Vec<(String, Vec<u8>)> {
    let len = hidden.len();
    let chunk = format!("{len:x}\r\n");
    let post = format!("POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{}", wrong_signature());
    let both = format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n");
    let mut fronts = vec![
        ("both lengths".to_owned(), format!("{post}{both}\r\n0\r\n\r\n")),
        (
            "both, the other way".to_owned(),
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: {len}\r\n\r\n0\r\n\r\n"),
        ),
        ("two lengths".to_owned(), format!("{post}Content-Length: 0\r\nContent-Length: {len}\r\n\r\n")),
        ("two equal lengths".to_owned(), format!("{post}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}")),
        ("a list of lengths".to_owned(), format!("{post}Content-Length: 0, {len}\r\n\r\n")),
        ("a length of nothing".to_owned(), format!("{post}Content-Length: 0\r\n\r\n")),
        ("no length".to_owned(), format!("{post}\r\n")),
        ("a whole body before it".to_owned(), format!("{post}Content-Length: 2\r\n\r\n{{}}")),
        ("chunked, with an end before it".to_owned(), format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("a get".to_owned(), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (
            "a get with a length".to_owned(),
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n"),
        ),
        (
            "a get, chunked".to_owned(),
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        ),
        ("another path".to_owned(), format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n")),
        (
            "no signature, a length".to_owned(),
            format!("POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n"),
        ),
        ("expecting".to_owned(), format!("{post}Expect: 100-continue\r\nContent-Length: 0\r\n\r\n")),
        ("an upgrade".to_owned(), format!("{post}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")),
        ("another protocol".to_owned(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("connect".to_owned(), "CONNECT /webhook HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("old".to_owned(), "GET /healthz HTTP/1.0\r\n\r\n".to_owned()),
        ("older".to_owned(), "GET /healthz\r\n".to_owned()),
    ];
    for coding in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: x\r\n chunked",
        "Transfer_Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding: chunked\0",
        "\u{feff}Transfer-Encoding: chunked",
    ] {
        // By the length all is one body; by the coding the body ends at once.
        fronts.push((coding.to_owned(), format!("{post}Content-Length: {}\r\n{coding}\r\n\r\n0\r\n\r\n", len + 5)));
        fronts.push((format!("{coding}, alone"), format!("{post}{coding}\r\n\r\n0\r\n\r\n")));
    }
    for length in
        ["+0", "-1", "0x0", "0 ", "0\u{b}", "00000000000000000000000000", "18446744073709551616", "0;a", "\"0\"", ""]
    {
        fronts.push((format!("a length of {length:?}"), format!("{post}Content-Length: {length}\r\n\r\n")));
    }
    for size in ["0;ext=1", "0 ", "0x0", "-0", "+0", "00000000000000000000", "0\n", "0;a\nb", "10000000000000000"] {
        let head = format!("{post}Transfer-Encoding: chunked\r\n\r\n{size}\r\n\r\n");
        fronts.push((format!("a chunk of {size:?}"), head));
    }
    fronts.into_iter().map(|(name, front)| (name, front.into_bytes())).collect()
}

#[test]
fn a_delivery_that_hides_behind_another_request_is_never_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    let mut hidden = Vec::new();
    for (id, (name, front)) in (1_000..).zip(fronts(&delivery(1_000, SECRET, "keep-alive"))) {
        let answer = exchange(service.address, &[front, delivery(id, SECRET, "keep-alive")].concat());
        let statuses = statuses(&answer);
        assert!(statuses.iter().all(|status| *status == 100 || *status != 202 && *status < 500), "{name}: {answer}");
        hidden.push((id, name));
    }
    for (id, name) in hidden {
        let answer = exchange(service.address, &delivery(id, SECRET, "close"));
        assert_eq!(super::statuses(&answer), [202], "{name}: it was accepted before");
    }
    let log = service.stop();
    assert_eq!(strange(&log), Vec::<&String>::new());
}

#[test]
fn a_stranger_who_sends_on_and_never_reads_gets_no_more_than_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let service = Start::dry_run(dir.path()).start();
    assert_accepted(&service, 1);
    let resident = || super::malformed::resident_kib(&service);
    let before = resident();
    let mut stream = connect(service.address);
    stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let requests = "GET / HTTP/1.1\r\nHost:\r\n\r\n".repeat(40_000);
    // At some point it is no longer read, or the connection is gone.
    let sent = (0..200).take_while(|_| stream.write_all(requests.as_bytes()).is_ok()).count();
    let grown = resident().saturating_sub(before);
    let mut answers = Vec::new();
    drop(stream.read_to_end(&mut answers));
    let answers = statuses(&String::from_utf8_lossy(&answers)).len();
    println!("{sent} MB taken, {answers} answers, {grown} KiB grown");
    assert!(answers <= 1, "{answers}");
    assert!(grown < 32 << 10, "{grown} KiB");
}
