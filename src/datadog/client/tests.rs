use super::*;
use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};
use tokio::{net::TcpSocket, time::timeout};

/// Short enough that a test which waits for one is quick, long enough for a busy machine to answer in.
const SHORT: Timeouts = Timeouts { connect: Duration::from_millis(300), whole: Duration::from_millis(1500) };

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What comes of a request to this address.
async fn asked(scheme: &str, address: SocketAddr, timeouts: Timeouts) -> Answer {
    let endpoint = Endpoint::new(&format!("{scheme}://{address}")).unwrap();
    let client = Client::with_timeouts(endpoint, ApiKey::new("key").unwrap(), timeouts).unwrap();
    timeout(PATIENCE, client.validate()).await.expect("an end")
}

/// What comes of a request to somebody who reads it and then does what `answers` does, until the connection is closed.
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

#[actix_web::test]
async fn an_answer_that_drips_is_given_up_when_the_whole_took_too_long() {
    let answer = answered(|mut stream| {
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        // A byte at a time, for as long as somebody listens.
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while stream.write_all(b"1\r\n \r\n").is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
    })
    .await;
    assert_eq!(retried(&answer), (None, "no answer in time", false));
}

#[actix_web::test]
async fn an_answer_without_an_end_is_read_no_further_than_64_kib() {
    let answer = answered(|mut stream| {
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        while stream.write_all(&chunk).is_ok() {}
    })
    .await;
    assert_eq!(retried(&answer), (None, "the answer does not end", false));
}

#[actix_web::test]
async fn an_answer_of_64_kib_is_read_to_its_end() {
    let answer = answered(|mut stream| {
        let head = format!("HTTP/1.1 202 Accepted\r\nContent-Length: {ANSWER_MAX_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[b' '; ANSWER_MAX_BYTES]).unwrap();
        wait_for_the_end(stream);
    })
    .await;
    assert_eq!((answer.status, answer.verdict), (Some(202), Verdict::Taken));
}

/// What comes of an answer with this head, and a body that breaks off.
async fn broken_off(head: &str) -> Answer {
    let text = format!("HTTP/1.1 202 Accepted\r\n{head}\r\n\r\n5\r\n{{\"err");
    answered(move |mut stream| stream.write_all(text.as_bytes()).unwrap()).await
}

#[actix_web::test]
async fn an_answer_that_breaks_off_is_none_whatever_its_status() {
    let answer = broken_off("Content-Length: 100").await;
    assert_eq!(retried(&answer), (None, "the answer broke off", false));
    let answer = broken_off("Transfer-Encoding: chunked").await;
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
}

#[test]
fn tls_can_be_set_up() {
    assert!(tls().is_ok());
}
