//! The client: one thread, with as little to do for a delivery as possible. Any answer but a 202 is a failure.

use crate::{PATIENCE, orders::Shared};
use actix_web::rt::{self, net::TcpStream};
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    rc::Rc,
    str, thread,
    time::{Duration, Instant},
};
use tokio::sync::{
    Mutex,
    mpsc::{UnboundedReceiver, unbounded_channel},
};

/// In so long a server that is at rest has accepted all connections. Node takes one each time around its loop, and
/// would otherwise leave the last ones waiting for a second while it is busy with the first.
const ACCEPTED: Duration = Duration::from_millis(200);

/// When deliveries are due.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// On each connection as soon as the one before is answered.
    Closed,
    /// So many a second, at times that are fixed ahead: whoever is late has their latency grow.
    PerSecond(f64),
}

/// How long each accepted delivery took, sorted, and how long all took together.
pub(crate) struct Done {
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) elapsed: Duration,
}

pub(crate) async fn load(
    addresses: &[SocketAddr],
    connections: usize,
    pace: Pace,
    length: Duration,
    orders: &[Shared],
) -> Result<Done> {
    let mut streams = Vec::new();
    for (orders, address) in orders.iter().cycle().zip(addresses.iter().cycle()).take(connections) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push((stream, Rc::clone(orders)));
    }
    rt::time::sleep(ACCEPTED).await;
    let start = Instant::now();
    let times = match pace {
        Pace::Closed => Times::Until(start + length),
        Pace::PerSecond(rate) => Times::Due(Rc::new(Mutex::new(beat(rate, start, length)))),
    };
    let deliver = |(stream, orders)| rt::spawn(deliver(stream, orders, times.clone()));
    let tasks: Vec<_> = streams.into_iter().map(deliver).collect();
    let mut latencies_us = Vec::new();
    for task in tasks {
        let done = rt::time::timeout(length + PATIENCE, task).await.context("no answer for a long time")?;
        latencies_us.extend(done??);
    }
    let elapsed = start.elapsed();
    latencies_us.sort_unstable();
    Ok(Done { latencies_us, elapsed })
}

/// Where a connection learns when its next delivery is due.
#[derive(Clone)]
enum Times {
    Until(Instant),
    /// All connections share one sequence: the next that is free takes the next time.
    Due(Rc<Mutex<UnboundedReceiver<Instant>>>),
}

impl Times {
    /// Returns once a delivery is due, with the time from which its latency counts.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(Instant::now()).filter(|now| now < end),
            Self::Due(times) => times.lock().await.recv().await,
        }
    }
}

/// Tells each time as it comes, from a thread of its own: the runtime's timers count in whole milliseconds.
fn beat(rate: f64, start: Instant, length: Duration) -> UnboundedReceiver<Instant> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        let mut due = start;
        while due < start + length {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
            due += Duration::from_secs_f64(1.0 / rate);
        }
    });
    receiver
}

/// Sends one delivery after the other, and tells how long each took.
async fn deliver(stream: TcpStream, orders: Shared, times: Times) -> Result<Vec<u32>> {
    let mut request = orders.borrow().blank();
    let mut latencies_us = Vec::new();
    while let Some(due) = times.next().await {
        orders.borrow_mut().fill_in(&mut request)?;
        send(&stream, &request).await?;
        read_answer(&stream).await?;
        latencies_us.push(u32::try_from(due.elapsed().as_micros())?);
    }
    Ok(latencies_us)
}

async fn send(stream: &TcpStream, request: &[u8]) -> Result<()> {
    let mut sent = 0;
    while sent < request.len() {
        match stream.try_write(&request[sent..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn read_answer(stream: &TcpStream) -> Result<()> {
    let (mut answer, mut read) = ([0; 2048], 0);
    while !is_whole(&answer[..read])? {
        ensure!(read < answer.len(), "a long answer: {}", String::from_utf8_lossy(&answer));
        stream.readable().await?;
        match stream.try_read(&mut answer[read..]) {
            Ok(0) => bail!("the connection was closed"),
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether this is all of an answer, by its `Content-Length`.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(false);
    };
    ensure!(answer.starts_with(b"HTTP/1.1 202 "), "not accepted: {}", String::from_utf8_lossy(answer));
    let length = str::from_utf8(&answer[..head])?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let length = length.context("an answer without Content-Length")??;
    Ok(answer.len() >= head + 4 + length)
}
