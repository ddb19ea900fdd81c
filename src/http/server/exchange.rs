//! One request and its answer on a connection, and their effects on the connection.
//!
//! An answer can be sent before the body of its request was read: a 404, a 415, a
//! 401. The unread bytes would stand before the next request. A small rest is read
//! and dropped, so that the connection stays open. With a larger rest the answer has
//! `Connection: close`, so that the client does not lose its next request.
//!
//! A client may close its side after its request, and still gets the answer. A
//! client that has disconnected looks the same, and must not be granted a lease. So
//! waits and streams end at once when the client closes its side.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::socket::Peer;
use crate::transfer::ExportFailed;

/// Largest rest of a body, in bytes, that is dropped to keep the connection open.
pub(in crate::http) const MAX_DRAINED_BYTES: usize = 64 << 10;
/// Longest time for which an answer waits for that rest.
const MAX_DRAIN_TIME: Duration = Duration::from_millis(500);

/// The state of a connection, which its socket, its requests and their bodies
/// share.
#[derive(Debug)]
pub(in crate::http) struct Exchange {
    /// The body of the current request has not been read to its end.
    has_unread_body: AtomicBool,
    unread: Mutex<UnreadBody>,
    /// The current request is a wait or a stream.
    is_waiting: AtomicBool,
    must_linger: AtomicBool,
    ending: CancellationToken,
    peer: Peer,
}

/// The body of a request that its handler did not read to its end.
#[derive(Debug)]
enum UnreadBody {
    /// The handler may still return the body.
    Awaited,
    Returned(Incoming),
    /// The answer is known, so a body that is returned now is dropped.
    Settled,
}

impl Exchange {
    /// Waits and streams on the connection to `peer` end with `ending` at the latest.
    pub(in crate::http) fn new(ending: CancellationToken, peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            has_unread_body: AtomicBool::new(false),
            unread: Mutex::new(UnreadBody::Settled),
            is_waiting: AtomicBool::new(false),
            must_linger: AtomicBool::new(true),
            ending,
            peer,
        })
    }

    /// Marks the current request as a wait or a stream. The token is cancelled when
    /// the service begins to stop, and from now on also when the client closes its
    /// side.
    pub(in crate::http) fn ending(&self) -> &CancellationToken {
        self.is_waiting.store(true, Ordering::Relaxed);
        &self.ending
    }

    /// Whether the socket needs a lingering close: the client may still be sending,
    /// and an answer may be on its way to the client.
    pub(in crate::http) fn must_linger(&self) -> bool {
        self.must_linger.load(Ordering::Relaxed)
    }

    /// Lets the socket be closed at once, because the service stops. An answer that
    /// follows brings the lingering close back.
    pub(in crate::http) fn close_without_lingering(&self) {
        self.must_linger.store(false, Ordering::Relaxed);
    }

    fn begin_request(&self, has_body: bool) {
        self.is_waiting.store(false, Ordering::Relaxed);
        self.has_unread_body.store(has_body, Ordering::Relaxed);
        if has_body {
            *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = UnreadBody::Awaited;
        }
    }

    /// Ends a wait or a stream if the client has closed its side.
    fn poll_peer(&self, cx: &mut Context<'_>) {
        let is_waiting = self.is_waiting.load(Ordering::Relaxed) && !self.has_unread_body.load(Ordering::Acquire);
        if is_waiting && self.peer.poll_closed(cx).is_ready() {
            self.is_waiting.store(false, Ordering::Relaxed);
            self.ending.cancel();
        }
    }

    fn return_unread(&self, body: Incoming) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*unread, UnreadBody::Awaited) {
            *unread = UnreadBody::Returned(body);
        }
    }

    /// Returns the unread body if the handler has returned one.
    fn settle(&self) -> Option<Incoming> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *unread, UnreadBody::Settled) {
            UnreadBody::Returned(body) => Some(body),
            UnreadBody::Awaited | UnreadBody::Settled => None,
        }
    }
}

/// The body of a request. A body that is dropped before its end is returned to the
/// connection, which drains it or closes after the answer.
#[derive(Debug)]
pub(in crate::http) struct RequestBody {
    /// `None` only during the drop.
    incoming: Option<Incoming>,
    is_complete: bool,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    fn new(incoming: Incoming, exchange: Arc<Exchange>) -> Self {
        Self { is_complete: incoming.is_end_stream(), incoming: Some(incoming), exchange }
    }

    /// Whether the body has been received to its end.
    pub(in crate::http) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The connection that the body comes from.
    pub(in crate::http) const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The number of bytes that are still to come, as far as it is known.
    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }

    /// Returns the next bytes; `None` at the end. An error means that the connection
    /// is broken.
    pub(in crate::http) async fn data(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        while let Some(incoming) = &mut self.incoming
            && !self.is_complete
        {
            match incoming.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.is_complete = true;
                    self.exchange.has_unread_body.store(false, Ordering::Release);
                }
            }
        }
        None
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !self.is_complete
        {
            self.exchange.return_unread(incoming);
        }
    }
}

/// Passes the requests of one connection to a service.
#[derive(Debug)]
pub(in crate::http) struct ExchangeService<S> {
    service: S,
    exchange: Arc<Exchange>,
}

impl<S> ExchangeService<S> {
    pub(in crate::http) const fn new(service: S, exchange: Arc<Exchange>) -> Self {
        Self { service, exchange }
    }
}

impl<S> Service<Request<Incoming>> for ExchangeService<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = ExchangeFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let has_body = !request.body().is_end_stream();
        self.exchange.begin_request(has_body);
        // Reading the body would send 100 Continue, the permission to send it.
        let may_drain = has_body && !request.headers().contains_key(EXPECT);
        let request = request.map(|incoming| RequestBody::new(incoming, Arc::clone(&self.exchange)));
        ExchangeFuture {
            answer: self.service.call(request),
            exchange: Arc::clone(&self.exchange),
            may_drain,
            drain: None,
        }
    }
}

/// Completes with the answer to a request after the rest of its body is drained.
pub(in crate::http) struct ExchangeFuture<F> {
    answer: F,
    exchange: Arc<Exchange>,
    may_drain: bool,
    drain: Option<Box<Drain>>,
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for ExchangeFuture<F> {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.drain.is_none() {
            let Poll::Ready(Ok(mut response)) = Pin::new(&mut this.answer).poll(cx) else {
                this.exchange.poll_peer(cx);
                return Poll::Pending;
            };
            this.exchange.must_linger.store(true, Ordering::Relaxed);
            if !this.exchange.has_unread_body.load(Ordering::Acquire) {
                return Poll::Ready(Ok(AnswerBody::attach(response, &this.exchange)));
            }
            let unread = this.exchange.settle().filter(|_| this.may_drain && !has_close(&response));
            let Some(unread) = unread else {
                set_close(&mut response);
                return Poll::Ready(Ok(AnswerBody::attach(response, &this.exchange)));
            };
            this.drain = Some(Box::new(Drain::new(unread, response)));
        }
        let Some(drain) = &mut this.drain else { return Poll::Pending };
        let is_drained = ready!(drain.poll(cx));
        let mut response = drain.response.take().unwrap_or_else(|| Response::new(Body::empty()));
        if !is_drained {
            set_close(&mut response);
        }
        this.drain = None;
        Poll::Ready(Ok(AnswerBody::attach(response, &this.exchange)))
    }
}

fn has_close(response: &Response<Body>) -> bool {
    response.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

fn set_close(response: &mut Response<Body>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Reads and drops the rest of a request's body before its answer is sent.
struct Drain {
    body: Incoming,
    bytes_left: usize,
    timeout: Pin<Box<Sleep>>,
    /// `None` after the answer was taken.
    response: Option<Response<Body>>,
}

impl Drain {
    fn new(body: Incoming, response: Response<Body>) -> Self {
        Self {
            body,
            bytes_left: MAX_DRAINED_BYTES,
            timeout: Box::pin(tokio::time::sleep(MAX_DRAIN_TIME)),
            response: Some(response),
        }
    }

    /// Completes with whether the end of the body came within the limits.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if usize::try_from(self.body.size_hint().lower()).map_or(true, |announced| announced > self.bytes_left) {
                return Poll::Ready(false);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(Some(Ok(frame))) => {
                    match self.bytes_left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                        Some(left) => self.bytes_left = left,
                        None => return Poll::Ready(false),
                    }
                }
                Poll::Pending => return self.timeout.as_mut().poll(cx).map(|()| false),
            }
        }
    }
}

/// The body of an answer. While it is pending, the client's side is watched.
#[derive(Debug)]
pub(in crate::http) struct AnswerBody {
    body: Body,
    exchange: Arc<Exchange>,
}

impl AnswerBody {
    fn attach(response: Response<Body>, exchange: &Arc<Exchange>) -> Response<Self> {
        response.map(|body| Self { body, exchange: Arc::clone(exchange) })
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = ExportFailed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExportFailed>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            this.exchange.poll_peer(cx);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
