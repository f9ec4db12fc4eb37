//! Bodies of requests, within what one may have and what all may have together.
//!
//! There are two budgets. A body that comes in pieces counts in the unverified one until its signature is verified, and from
//! then on every body counts in the verified one: however much strangers send, what verified deliveries need is not theirs.
//! One that comes in one piece is verified at once and needs no place before.
//!
//! Where the unverified budget is full, the body that has been coming in for longest gives way, if that is longer than
//! `GIVES_WAY_AFTER`. So strangers who hold bodies back keep nobody out, be those bodies few and large or many and small; they
//! would have to send the whole budget anew each second. Where all came in just now, the one that asks for more is refused:
//! were it to take the place of another, a rush of honest deliveries could keep each other from ever ending.

use crate::limits::Limits;
use actix_web::{
    body::{BodySize, MessageBody},
    http::header::HeaderMap,
    web::{self, Bytes},
};
use futures_util::StreamExt;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The largest body. Source: GitHub caps payloads at 25 MB.
pub const BODY_MAX_BYTES: usize = 25 << 20;

/// How long a body is safe from having to give way. GitHub sends one at once.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(1);

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    Busy,
    Broken,
    /// It took longer than it may, or gave way to another after a while.
    Slow,
}

/// The bodies of all requests.
#[derive(Debug)]
pub(super) struct Bodies {
    unverified: Unverified,
    verified: Verified,
    timeout: Duration,
}

impl Bodies {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            unverified: Unverified {
                max_bytes: limits.unverified_max_bytes,
                gives_way_after: GIVES_WAY_AFTER,
                incoming: Mutex::default(),
            },
            verified: Verified { max_bytes: limits.verified_max_bytes, taken_bytes: AtomicUsize::new(0) },
            timeout: limits.client_timeout,
        }
    }

    /// Reads a body to its end, no further than it may go and for no longer than it may take.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        payload: &mut web::Payload,
    ) -> Result<Body<Place<'_>>, BodyError> {
        let place = Place { budget: &self.unverified, id: None, has_to_go: Arc::default() };
        let has_to_go = Arc::clone(&place.has_to_go);
        tokio::select! {
            // A body that is whole by now is not turned away any more.
            biased;
            read = tokio::time::timeout(self.timeout, read(headers, payload, place)) => read.unwrap_or(Err(BodyError::Slow)),
            () = has_to_go.notified() => Err(BodyError::Slow),
        }
    }

    /// Moves a body whose signature is verified from one budget to the other.
    pub(super) fn verified<'b>(&'b self, body: Body<Place<'_>>) -> Result<Body<Share<'b>>, BodyError> {
        let share = self.verified.share(body.bytes.len())?;
        Ok(Body { bytes: body.bytes, _counted: share })
    }
}

/// A body, and what it is counted by for as long as it lives.
#[derive(Debug)]
pub(super) struct Body<C> {
    bytes: Bytes,
    _counted: C,
}

impl<C> Deref for Body<C> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

async fn read<'b>(
    headers: &HeaderMap,
    payload: &mut web::Payload,
    mut place: Place<'b>,
) -> Result<Body<Place<'b>>, BodyError> {
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_MAX_BYTES) {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
        let len = bytes.len() + chunk.len();
        if len > BODY_MAX_BYTES {
            return Err(BodyError::TooLarge);
        }
        if bytes.is_empty() && Some(len) == length {
            // It came in one piece, as nearly all do, and stays where the connection has read it to. It needs no place: its
            // signature is verified next, without a wait.
            return Ok(Body { bytes: chunk, _counted: place });
        }
        if bytes.capacity() < len {
            let wanted = length.unwrap_or(0).min(len.saturating_mul(2)).max(len);
            place.grow_to(wanted)?;
            bytes.reserve_exact(wanted - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes: bytes.into(), _counted: place })
}

/// What bodies without a verified signature may take together.
#[derive(Debug)]
struct Unverified {
    max_bytes: usize,
    gives_way_after: Duration,
    incoming: Mutex<Incoming>,
}

#[derive(Debug, Default)]
struct Incoming {
    taken_bytes: usize,
    last_id: u64,
    /// In the order in which their first bytes came.
    bodies: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    bytes: usize,
    has_to_go: Arc<Notify>,
}

impl Unverified {
    /// Nothing panics while it is held.
    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    /// Makes room of so many bytes for a body, where that is possible.
    fn make_room(&mut self, bytes: usize, of: &Unverified, for_id: u64) -> Result<(), BodyError> {
        while self.taken_bytes + bytes > of.max_bytes {
            let oldest = self.bodies.first_entry().filter(|oldest| *oldest.key() != for_id);
            let oldest = oldest.filter(|oldest| oldest.get().since.elapsed() >= of.gives_way_after);
            let Held { bytes: freed, has_to_go, .. } = oldest.ok_or(BodyError::Busy)?.remove();
            // It lets go of its memory as soon as its task has its turn.
            self.taken_bytes -= freed;
            has_to_go.notify_one();
        }
        Ok(())
    }
}

/// The place of one body in the unverified budget.
#[derive(Debug)]
pub(super) struct Place<'b> {
    budget: &'b Unverified,
    id: Option<u64>,
    has_to_go: Arc<Notify>,
}

impl Place<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        let mut incoming = self.budget.incoming();
        let id = *self.id.get_or_insert_with(|| {
            incoming.last_id += 1;
            let id = incoming.last_id;
            let held = Held { since: Instant::now(), bytes: 0, has_to_go: Arc::clone(&self.has_to_go) };
            incoming.bodies.insert(id, held);
            id
        });
        let held = incoming.bodies.get(&id).ok_or(BodyError::Slow)?.bytes;
        let more = bytes.saturating_sub(held);
        incoming.make_room(more, self.budget, id)?;
        incoming.taken_bytes += more;
        if let Some(held) = incoming.bodies.get_mut(&id) {
            held.bytes += more;
        }
        Ok(())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut incoming = self.budget.incoming();
        if let Some(held) = incoming.bodies.remove(&id) {
            incoming.taken_bytes -= held.bytes;
        }
    }
}

/// What bodies with a verified signature may take together.
#[derive(Debug)]
struct Verified {
    max_bytes: usize,
    taken_bytes: AtomicUsize,
}

/// The share of one body in the verified budget.
#[derive(Debug)]
pub(super) struct Share<'b> {
    budget: &'b Verified,
    bytes: usize,
}

impl Verified {
    fn share(&self, bytes: usize) -> Result<Share<'_>, BodyError> {
        let before = self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        let share = Share { budget: self, bytes };
        if before + bytes > self.max_bytes { Err(BodyError::Busy) } else { Ok(share) }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The body of an answer to a request whose own body is not read on. While it holds the rest of that body, the server
/// closes the connection after the answer, instead of reading the rest to its end.
pub(super) struct Unreading {
    pub(super) text: Option<Bytes>,
    pub(super) _unread: web::Payload,
}

impl MessageBody for Unreading {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.text.as_ref().map_or(0, |text| text.len() as u64))
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.text.take().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{
        FromRequest, dev,
        http::header::{self, HeaderValue},
        test::TestRequest,
    };
    use futures_util::stream;
    use std::task::Waker;

    const MIB: usize = 1 << 20;

    fn bodies(unverified_max_bytes: usize, gives_way_after: Duration) -> Bodies {
        let limits = Limits { unverified_max_bytes, verified_max_bytes: 100, ..Limits::default() };
        let mut bodies = Bodies::new(&limits);
        bodies.unverified.gives_way_after = gives_way_after;
        bodies
    }

    async fn read(bodies: &Bodies, bytes: usize) -> Result<Body<Place<'_>>, BodyError> {
        let (request, mut payload) = TestRequest::post().set_payload(vec![b'x'; bytes]).to_http_parts();
        let mut payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        bodies.read(&HeaderMap::new(), &mut payload).await
    }

    fn held(bodies: &Bodies) -> (usize, usize) {
        let incoming = bodies.unverified.incoming();
        (incoming.bodies.len(), incoming.taken_bytes)
    }

    #[actix_web::test]
    async fn a_body_of_just_the_limit_is_read_and_one_byte_more_is_not() {
        let bodies = bodies(64 * MIB, Duration::MAX);
        assert_eq!(read(&bodies, BODY_MAX_BYTES).await.unwrap().len(), BODY_MAX_BYTES);
        assert_eq!(read(&bodies, BODY_MAX_BYTES + 1).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(held(&bodies), (0, 0));
    }

    #[actix_web::test]
    async fn a_body_in_one_piece_is_not_copied_and_one_in_two_is_put_together() {
        let bodies = bodies(100, Duration::MAX);
        let read = async |length: Option<&'static str>, pieces: &[&'static [u8]]| {
            let pieces = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>();
            let mut payload: dev::Payload = dev::Payload::Stream { payload: Box::pin(stream::iter(pieces)) };
            let request = TestRequest::post().to_http_request();
            let mut payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
            let length = length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from_static(length)));
            bodies.read(&length.into_iter().collect(), &mut payload).await.unwrap()
        };
        let piece: &[u8] = b"one piece";
        let whole = read(Some("9"), &[piece]).await;
        assert_eq!((whole.as_ptr(), held(&bodies)), (piece.as_ptr(), (0, 0)));
        let whole = bodies.verified(whole).unwrap();
        assert_eq!((whole.len(), bodies.verified.taken_bytes.load(Ordering::Relaxed)), (9, 9));
        for (length, pieces) in [(Some("9"), [&b"one "[..], b"piece"]), (None, [b"one ", b"piece"])] {
            assert_eq!(&*read(length, &pieces).await, piece);
        }
        let alone = read(None, &[piece]).await;
        assert_eq!((&*alone, held(&bodies)), (piece, (1, 9)));
    }

    #[actix_web::test]
    async fn bodies_that_came_in_just_now_share_one_budget_and_give_it_back() {
        let bodies = bodies(100, Duration::MAX);
        let first = read(&bodies, 60).await.unwrap();
        assert_eq!(read(&bodies, 60).await.unwrap_err(), BodyError::Busy);
        assert_eq!(held(&bodies), (1, 60));
        drop(first);
        assert_eq!(read(&bodies, 60).await.unwrap().len(), 60);
    }

    #[actix_web::test]
    async fn the_body_that_has_been_coming_in_for_longest_gives_way() {
        let bodies = bodies(100, Duration::ZERO);
        let place = || Place { budget: &bodies.unverified, id: None, has_to_go: Arc::default() };
        let (mut oldest, mut second, mut newest) = (place(), place(), place());
        oldest.grow_to(30).unwrap();
        second.grow_to(60).unwrap();
        newest.grow_to(35).unwrap();
        assert_eq!((held(&bodies), oldest.grow_to(31)), ((2, 95), Err(BodyError::Slow)));
        let has_to_go = Arc::clone(&oldest.has_to_go);
        let mut told = std::pin::pin!(has_to_go.notified());
        assert!(told.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(second.grow_to(70), Err(BodyError::Busy), "the oldest does not drive out others");
        newest.grow_to(90).unwrap();
        assert_eq!(held(&bodies), (1, 90));
        assert_eq!(newest.grow_to(101), Err(BodyError::Busy));
        drop((oldest, second, newest));
        assert_eq!(held(&bodies), (0, 0));
    }

    #[actix_web::test]
    async fn what_is_verified_no_longer_counts_among_what_is_not() {
        let bodies = bodies(100, Duration::MAX);
        let first = bodies.verified(read(&bodies, 60).await.unwrap()).unwrap();
        assert_eq!(held(&bodies), (0, 0));
        let second = read(&bodies, 60).await.unwrap();
        assert_eq!(bodies.verified(second).unwrap_err(), BodyError::Busy);
        drop(first);
        let third = read(&bodies, 60).await.unwrap();
        assert_eq!(bodies.verified(third).unwrap().len(), 60);
        assert_eq!(bodies.verified.taken_bytes.load(Ordering::Relaxed), 0);
    }
}
