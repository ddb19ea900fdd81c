//! One request and its answer on a connection, and what follows from them for
//! the connection.
//!
//! An answer can leave before the body of its request was read: a 404, a 415,
//! a 401. The bytes that are left would stand before the next request. A small
//! rest is read and dropped, so that the connection stays; with more than that
//! the answer says `Connection: close`, so that no client loses the request
//! that it would have sent next.
//!
//! A client may close its own direction behind its request, and still gets the
//! answer. A client that has gone looks just the same, and must not be given a
//! lease: so waits and streams end at once then.

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
use super::socket::Client;
use crate::transfer::ExportFailed;

/// Most bytes of an unread body that are dropped to keep the connection.
pub(in crate::http) const MAX_DRAINED_BYTES: usize = 64 << 10;
/// Longest time for which an answer waits for them.
const MAX_DRAIN_TIME: Duration = Duration::from_millis(500);

/// The state of a connection, shared by its socket, its requests and their
/// bodies.
#[derive(Debug)]
pub(in crate::http) struct Exchange {
    /// The body of the request has not been read to its end.
    has_unread_body: AtomicBool,
    unread: Mutex<Unread>,
    /// The request under way is a wait or a stream.
    waits: AtomicBool,
    lingers: AtomicBool,
    ending: CancellationToken,
    client: Client,
}

/// Where a body goes whose handler did not read it to its end.
#[derive(Debug)]
enum Unread {
    /// The handler may still give it back.
    Awaited,
    Left(Incoming),
    /// The answer has been decided: what comes now is dropped.
    Settled,
}

impl Exchange {
    /// A connection to `client` whose waits end with `ending` at the latest.
    pub(in crate::http) fn new(ending: CancellationToken, client: Client) -> Arc<Self> {
        Arc::new(Self {
            has_unread_body: AtomicBool::new(false),
            unread: Mutex::new(Unread::Settled),
            waits: AtomicBool::new(false),
            lingers: AtomicBool::new(true),
            ending,
            client,
        })
    }

    /// Cancelled when the service begins to stop, and from now on also when the
    /// client has closed its direction.
    pub(in crate::http) fn ending(&self) -> &CancellationToken {
        self.waits.store(true, Ordering::Relaxed);
        &self.ending
    }

    /// Whether the socket is to be closed slowly: a client may still be
    /// sending, and an answer may be on its way to it.
    pub(in crate::http) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    /// Closes at once unless an answer is owed: the service stops.
    pub(in crate::http) fn hurry(&self) {
        self.lingers.store(false, Ordering::Relaxed);
    }

    fn begin(&self, has_body: bool) {
        self.waits.store(false, Ordering::Relaxed);
        self.has_unread_body.store(has_body, Ordering::Relaxed);
        if has_body {
            *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = Unread::Awaited;
        }
    }

    /// Ends a wait whose client has closed its direction.
    fn watch(&self, cx: &mut Context<'_>) {
        let waits = self.waits.load(Ordering::Relaxed) && !self.has_unread_body.load(Ordering::Acquire);
        if waits && self.client.poll_closed(cx).is_ready() {
            self.waits.store(false, Ordering::Relaxed);
            self.ending.cancel();
        }
    }

    fn give_back(&self, body: Incoming) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*unread, Unread::Awaited) {
            *unread = Unread::Left(body);
        }
    }

    fn settle(&self) -> Option<Incoming> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *unread, Unread::Settled) {
            Unread::Left(body) => Some(body),
            Unread::Awaited | Unread::Settled => None,
        }
    }
}

/// The body of a request. One that is dropped before its end goes back to the
/// connection, which decides what becomes of the rest.
#[derive(Debug)]
pub(in crate::http) struct RequestBody {
    /// `None` only while it is dropped.
    incoming: Option<Incoming>,
    is_complete: bool,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    fn new(incoming: Incoming, exchange: Arc<Exchange>) -> Self {
        Self { is_complete: incoming.is_end_stream(), incoming: Some(incoming), exchange }
    }

    /// Whether nothing more is to come.
    pub(in crate::http) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The connection that it comes from.
    pub(in crate::http) const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// How many bytes are to come, as far as is known.
    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }

    /// The next bytes; `None` at the end. An error: the connection broke.
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
            self.exchange.give_back(incoming);
        }
    }
}

/// Answers the requests of one connection by a service.
#[derive(Debug)]
pub(in crate::http) struct Exchanges<S> {
    service: S,
    exchange: Arc<Exchange>,
}

impl<S> Exchanges<S> {
    pub(in crate::http) const fn new(service: S, exchange: Arc<Exchange>) -> Self {
        Self { service, exchange }
    }
}

impl<S> Service<Request<Incoming>> for Exchanges<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let has_body = !request.body().is_end_stream();
        self.exchange.begin(has_body);
        // A client that waits for permission to send its body would get it by
        // the attempt to drop that body.
        let may_drain = has_body && !request.headers().contains_key(EXPECT);
        let request = request.map(|incoming| RequestBody::new(incoming, Arc::clone(&self.exchange)));
        Answer { deciding: self.service.call(request), exchange: Arc::clone(&self.exchange), may_drain, drain: None }
    }
}

/// The answer to a request, once it is decided what becomes of its body.
pub(in crate::http) struct Answer<F> {
    deciding: F,
    exchange: Arc<Exchange>,
    may_drain: bool,
    drain: Option<Box<Drain>>,
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for Answer<F> {
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.drain.is_none() {
            let Poll::Ready(Ok(mut response)) = Pin::new(&mut this.deciding).poll(cx) else {
                this.exchange.watch(cx);
                return Poll::Pending;
            };
            this.exchange.lingers.store(true, Ordering::Relaxed);
            if !this.exchange.has_unread_body.load(Ordering::Acquire) {
                return Poll::Ready(Ok(Sent::response(response, &this.exchange)));
            }
            let unread = this.exchange.settle().filter(|_| this.may_drain && !closes(&response));
            let Some(unread) = unread else {
                close(&mut response);
                return Poll::Ready(Ok(Sent::response(response, &this.exchange)));
            };
            this.drain = Some(Box::new(Drain::new(unread, response)));
        }
        let Some(drain) = &mut this.drain else { return Poll::Pending };
        let is_drained = ready!(drain.poll(cx));
        let mut response = drain.response.take().unwrap_or_else(|| Response::new(Body::empty()));
        if !is_drained {
            close(&mut response);
        }
        this.drain = None;
        Poll::Ready(Ok(Sent::response(response, &this.exchange)))
    }
}

fn closes(response: &Response<Body>) -> bool {
    response.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

fn close(response: &mut Response<Body>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// An answer that waits until the rest of its request's body is dropped.
struct Drain {
    body: Incoming,
    left: usize,
    time: Pin<Box<Sleep>>,
    /// `None` once it was taken.
    response: Option<Response<Body>>,
}

impl Drain {
    fn new(body: Incoming, response: Response<Body>) -> Self {
        Self {
            body,
            left: MAX_DRAINED_BYTES,
            time: Box::pin(tokio::time::sleep(MAX_DRAIN_TIME)),
            response: Some(response),
        }
    }

    /// Whether the body has come to its end within the limits.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if usize::try_from(self.body.size_hint().lower()).map_or(true, |announced| announced > self.left) {
                return Poll::Ready(false);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(Some(Ok(frame))) => match self.left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(left) => self.left = left,
                    None => return Poll::Ready(false),
                },
                Poll::Pending => return self.time.as_mut().poll(cx).map(|()| false),
            }
        }
    }
}

/// The body of an answer on its way out.
#[derive(Debug)]
pub(in crate::http) struct Sent {
    body: Body,
    exchange: Arc<Exchange>,
}

impl Sent {
    fn response(response: Response<Body>, exchange: &Arc<Exchange>) -> Response<Self> {
        response.map(|body| Self { body, exchange: Arc::clone(exchange) })
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = ExportFailed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExportFailed>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            this.exchange.watch(cx);
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
