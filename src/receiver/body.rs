//! Bodies of requests, within what one may have and what all may have together.

use actix_web::{
    body::{BodySize, MessageBody},
    http::header::HeaderMap,
    web::{self, Bytes},
};
use futures_util::StreamExt;
use std::{
    convert::Infallible,
    ops::Deref,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

/// The largest body. Source: GitHub caps payloads at 25 MB.
pub const BODY_MAX_BYTES: usize = 25 << 20;

/// What the bodies of all requests in flight may take together.
pub const BODIES_MAX_BYTES: usize = 256 << 20;

/// The longest time for a body. Source: GitHub gives up after 10 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    Busy,
    Broken,
    Slow,
}

/// How much may be in flight, and how much is.
#[derive(Debug)]
pub(super) struct Budget {
    max_bytes: usize,
    taken_bytes: AtomicUsize,
}

/// A body, and its share of the budget for as long as it lives.
#[derive(Debug)]
pub(super) struct Body<'b> {
    bytes: Vec<u8>,
    share: Share<'b>,
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Debug)]
struct Share<'b> {
    budget: &'b Budget,
    bytes: usize,
}

impl Share<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.budget.taken_bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if before + more > self.budget.max_bytes { Err(BodyError::Busy) } else { Ok(()) }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, taken_bytes: AtomicUsize::new(0) }
    }

    /// Reads a body to its end, no further than it may go and for no longer than GitHub would wait.
    pub(super) async fn read(&self, headers: &HeaderMap, payload: &mut web::Payload) -> Result<Body<'_>, BodyError> {
        match tokio::time::timeout(BODY_TIMEOUT, self.read_on(headers, payload)).await {
            Ok(read) => read,
            Err(_) => Err(BodyError::Slow),
        }
    }

    async fn read_on(&self, headers: &HeaderMap, payload: &mut web::Payload) -> Result<Body<'_>, BodyError> {
        let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > BODY_MAX_BYTES) {
            return Err(BodyError::TooLarge);
        }
        let mut body = Body { bytes: Vec::new(), share: Share { budget: self, bytes: 0 } };
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| BodyError::Broken)?;
            let len = body.bytes.len() + chunk.len();
            if len > BODY_MAX_BYTES {
                return Err(BodyError::TooLarge);
            }
            if body.bytes.capacity() < len {
                let wanted = length.unwrap_or(0).min(len.saturating_mul(2)).max(len);
                body.share.grow_to(wanted)?;
                body.bytes.reserve_exact(wanted - body.bytes.len());
            }
            body.bytes.extend_from_slice(&chunk);
        }
        Ok(body)
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
    use actix_web::{FromRequest, test::TestRequest};

    async fn read(budget: &Budget, bytes: usize) -> Result<Body<'_>, BodyError> {
        let (request, mut payload) = TestRequest::post().set_payload(vec![b'x'; bytes]).to_http_parts();
        let mut payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        budget.read(&HeaderMap::new(), &mut payload).await
    }

    #[actix_web::test]
    async fn a_body_of_just_the_limit_is_read_and_one_byte_more_is_not() {
        let budget = Budget::new(BODIES_MAX_BYTES);
        assert_eq!(read(&budget, BODY_MAX_BYTES).await.unwrap().len(), BODY_MAX_BYTES);
        assert_eq!(read(&budget, BODY_MAX_BYTES + 1).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(budget.taken_bytes.load(Ordering::Relaxed), 0);
    }

    #[actix_web::test]
    async fn bodies_in_flight_share_one_budget_and_give_it_back() {
        let budget = Budget::new(100);
        let first = read(&budget, 60).await.unwrap();
        assert_eq!(read(&budget, 60).await.unwrap_err(), BodyError::Busy);
        drop(first);
        assert_eq!(read(&budget, 60).await.unwrap().len(), 60);
    }
}
