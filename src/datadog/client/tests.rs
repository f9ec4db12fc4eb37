use super::*;
use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tokio::{net::TcpSocket, time::timeout};

/// Short enough that a test which waits for one is quick, long enough for a busy machine to answer in.
const SHORT: Timeouts = Timeouts { connect: Duration::from_millis(300), whole: Duration::from_millis(1500) };

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What comes of a request to this address.
async fn asked(scheme: &str, address: SocketAddr, timeouts: Timeouts) -> Answer {
    let endpoint = Endpoint::new(&format!("{scheme}://{address}")).unwrap();
    let client = Client::with_timeouts(endpoint, ApiKey::new(KEY).unwrap(), timeouts).unwrap();
    timeout(PATIENCE, client.validate()).await.expect("an end")
}

/// What comes of the question about the key to somebody who reads it and then does what `answers` does, until the connection is closed.
async fn answered(answers: impl FnOnce(TcpStream) + Send + 'static) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "a whole request");
            request.extend(byte);
        }
        answers(stream);
    });
    let answer = asked("http", address, SHORT).await;
    server.join().unwrap();
    answer
}

/// Done when the other side has closed the connection.
fn wait_for_the_end(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = stream.read(&mut [0; 64]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

fn retried(answer: &Answer) -> (Option<u16>, &str, bool) {
    let Verdict::Retry { after: None, surely_failed, is_unexpected: false } = answer.verdict else {
        panic!("{answer:?}");
    };
    (answer.status, &answer.text, surely_failed)
}

#[test]
fn a_connection_has_5_seconds_and_the_whole_20() {
    let Timeouts { connect, whole } = Timeouts::default();
    assert_eq!((connect.as_secs(), whole.as_secs()), (5, 20));
}

#[actix_web::test]
async fn who_does_not_take_the_connection_is_given_up_and_nothing_was_sent() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Once the queue is full, the system does not answer another connection.
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "a queue of one fills");
    }
    let answer = asked("http", address, Timeouts { whole: PATIENCE, ..SHORT }).await;
    let (status, _, surely_failed) = retried(&answer);
    assert!(status.is_none() && surely_failed, "{answer:?}");
}

#[actix_web::test]
async fn who_takes_the_connection_and_is_silent_about_tls_is_given_up_and_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = asked("https", address, Timeouts { whole: PATIENCE, ..SHORT }).await;
    let (status, _, surely_failed) = retried(&answer);
    assert!(status.is_none() && surely_failed, "{answer:?}");
    drop(listener);
}

#[actix_web::test]
async fn who_reads_the_request_and_never_answers_is_given_up_and_may_have_taken_it() {
    let answer = answered(wait_for_the_end).await;
    let (status, _, surely_failed) = retried(&answer);
    assert!(status.is_none() && !surely_failed, "{answer:?}");
}

/// How an answer goes on after its head, and never comes to its end.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    Drips,
    DoesNotEnd,
    BreaksOff,
}

/// What comes of an answer with this status line and these headers, and a body that begins so.
async fn flawed(head: &str, body: &[u8], flaw: Flaw) -> Answer {
    let length = if matches!(flaw, Flaw::BreaksOff) { "Content-Length: 70000" } else { "Transfer-Encoding: chunked" };
    let head = format!("HTTP/1.1 {head}\r\nDate: Mon, 30 Nov 2026 00:13:50 GMT\r\n{length}\r\n\r\n");
    let body = body.to_owned();
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    answered(move |mut stream| {
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        match flaw {
            Flaw::BreaksOff => stream.write_all(&body).unwrap(),
            Flaw::DoesNotEnd => {
                stream.write_all(&chunk(&body)).unwrap();
                while stream.write_all(&chunk(&[b' '; 0x1000])).is_ok() {}
            }
            Flaw::Drips => {
                stream.write_all(&chunk(&body)).unwrap();
                // A byte at a time, for as long as somebody listens.
                stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                while stream.write_all(&chunk(b" ")).is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
            }
        }
    })
    .await
}

/// The second of the `Date` of these answers.
const DATE: Option<i64> = Some(1_795_997_630);

/// Asserts that a 2xx with this flaw may have been taken, and is told by this text.
async fn assert_unfinished(flaw: Flaw, text: &str) {
    let answer = flawed("202 Accepted", b"{\"valid\":true}", flaw).await;
    let verdict = Verdict::Retry { after: None, surely_failed: false, is_unexpected: true };
    assert_eq!((answer.status, answer.date), (Some(202), DATE));
    assert_eq!((answer.verdict, answer.text.as_str()), (verdict, text));
}

#[actix_web::test]
async fn an_answer_that_drips_is_given_up_when_the_whole_took_too_long() {
    assert_unfinished(Flaw::Drips, "no answer in time").await;
}

#[actix_web::test]
async fn an_answer_without_an_end_is_read_no_further_than_64_kib() {
    assert_unfinished(Flaw::DoesNotEnd, "the answer does not end").await;
}

#[actix_web::test]
async fn a_2xx_that_breaks_off_is_tried_again_and_may_have_been_taken() {
    assert_unfinished(Flaw::BreaksOff, "the answer broke off").await;
}

#[actix_web::test]
async fn an_answer_that_is_no_2xx_is_judged_by_its_status_however_its_body_ends() {
    let after = Some(Duration::from_secs(17));
    for (head, flaws, verdict) in [
        ("400 Bad Request", &[Flaw::BreaksOff, Flaw::DoesNotEnd][..], Verdict::Refused),
        ("403 Forbidden", &[Flaw::BreaksOff, Flaw::DoesNotEnd], Verdict::Denied),
        ("413 Content Too Large", &[Flaw::BreaksOff, Flaw::DoesNotEnd], Verdict::TooLarge),
        (
            "429 Too Many Requests\r\nRetry-After: 17",
            &[Flaw::BreaksOff, Flaw::DoesNotEnd, Flaw::Drips],
            Verdict::Retry { after, surely_failed: true, is_unexpected: false },
        ),
        (
            "404 Not Found",
            &[Flaw::BreaksOff, Flaw::DoesNotEnd],
            Verdict::Retry { after: None, surely_failed: false, is_unexpected: true },
        ),
    ] {
        for flaw in flaws {
            let answer = flawed(head, b"<html>no", *flaw).await;
            assert_eq!((&answer.verdict, answer.date), (&verdict, DATE), "{head} {flaw:?}");
            assert_eq!((answer.status, answer.text.as_str()), (head[..3].parse().ok(), "<html>no"), "{flaw:?}");
        }
    }
}

#[actix_web::test]
async fn the_key_is_in_no_answer_wherever_the_answer_is_cut() {
    let beginning = &KEY[..8];
    let kept = ANSWER_KEPT_BYTES - 8;
    // Where the text is cut; where the reading stops, with nothing before it; where the answer breaks off.
    for (filler, flaw) in [
        ("x".repeat(kept), Flaw::BreaksOff),
        (" ".repeat(ANSWER_MAX_BYTES - 8), Flaw::DoesNotEnd),
        (" ".repeat(ANSWER_MAX_BYTES - KEY.len()), Flaw::DoesNotEnd),
    ] {
        let answer = flawed("403 Forbidden", format!("{filler}{KEY}").as_bytes(), flaw).await;
        assert!(!answer.text.contains(beginning), "{answer:?}");
    }
    let answer = flawed("403 Forbidden", format!("no such key: {}", &KEY[..20]).as_bytes(), Flaw::BreaksOff).await;
    assert_eq!(answer.text, "no such key:");
    // A body without a length that breaks off looks whole.
    let answer = answered(|mut stream| {
        let text = format!("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n70\r\nkey: {}", &KEY[..20]);
        stream.write_all(text.as_bytes()).unwrap();
    })
    .await;
    assert_eq!((answer.status, answer.text.as_str()), (Some(403), "key:"));
}

#[actix_web::test]
async fn an_answer_of_64_kib_is_read_to_its_end() {
    let answer = answered(|mut stream| {
        let head = format!("HTTP/1.1 202 Accepted\r\nContent-Length: {ANSWER_MAX_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let text = b"{\"valid\":true}";
        stream.write_all(&vec![b' '; ANSWER_MAX_BYTES - text.len()]).unwrap();
        stream.write_all(text).unwrap();
        wait_for_the_end(stream);
    })
    .await;
    assert_eq!((answer.status, answer.verdict), (Some(202), Verdict::Taken));
}

#[actix_web::test]
async fn half_a_json_is_an_answer_that_nobody_expects() {
    let answer = answered(|mut stream| {
        let head = "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked";
        stream.write_all(format!("{head}\r\n\r\n5\r\n{{\"err").as_bytes()).unwrap();
    })
    .await;
    assert_eq!(answer.verdict, Verdict::Retry { after: None, surely_failed: false, is_unexpected: true });
}

#[test]
fn an_endpoint_is_a_plain_url_that_may_have_a_path() {
    let endpoint = Endpoint::new("http://127.0.0.1:8126/proxy/").unwrap();
    assert_eq!(endpoint.to_string(), "http://127.0.0.1:8126/proxy");
    assert_eq!(endpoint.series.path(), "/proxy/api/v2/series");
    for base in ["", "api.datadoghq.com", "ftp://x", "https://", "https://u:p@x", "https://x/?a=1", "https://a b"] {
        assert_eq!(Endpoint::new(base), None, "{base}");
    }
    for base in [
        "https://x#",
        "https://x/#/y",
        "https://x/proxy#y",
        "https://x:99999",
        "https://x:abc",
        "https://x:",
        "https://x:+80",
    ] {
        assert_eq!(Endpoint::new(base), None, "{base}");
    }
    for base in ["https://x:65535", "http://[::1]:8126/dd", "http://[::1]", "https://xn--bcher-kva.example:0443"] {
        assert_eq!(Endpoint::new(base).map(|endpoint| endpoint.to_string()).as_deref(), Some(base));
    }
}

#[test]
fn a_site_is_a_host_below_api() {
    assert_eq!(Endpoint::of_site("datadoghq.eu").unwrap().to_string(), "https://api.datadoghq.eu");
    for site in ["", "https://datadoghq.eu", "a/b", "a@b"] {
        assert_eq!(Endpoint::of_site(site), None, "{site}");
    }
}

#[test]
fn a_kept_answer_is_short_and_cannot_forge_a_line() {
    assert_eq!(kept_text(b" no\nway\x1b[0m \xff"), "no\\nway\\u{1b}[0m \u{fffd}");
    assert_eq!(kept_text(&[b'x'; 5000]).len(), ANSWER_KEPT_BYTES);
    // Cut after escaping, and between two characters.
    assert_eq!(kept_text(&[b'\x01'; 2000]), "\\u{1}".repeat(ANSWER_KEPT_BYTES / 5));
    assert_eq!(kept_text("\u{20ac}".repeat(2000).as_bytes()), "\u{20ac}".repeat(ANSWER_KEPT_BYTES / 3));
}
