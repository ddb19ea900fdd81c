//! Accepts connections, on a thread of its own, so that new connections are
//! accepted and probes are answered however busy the connection threads are.
//!
//! A connection within the limits is handed over to the connection threads at its
//! first request that is not a probe. A connection over a limit goes to a reserve,
//! where it gets one answer: the usual one to a probe, 503 to any other request.
//! When the reserve is full, its oldest connection is closed, so that silent
//! clients cannot fill it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::Service;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::connection_limiter::{ConnectionLimiter, ConnectionPermit};
use super::exchange::RequestBody;
use super::probe::{self, NextRequest};
use super::problem::Problem;
use super::settings::Limits;

/// Accepted connections that may wait for a connection thread. Each holds its
/// permit meanwhile.
const MAX_WAITING: usize = 256;
/// Pause after an accept that failed for want of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for a client over the limits to send a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest stay in the reserve.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether a new connection was within the limits.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) enum ConnectionEvent {
    Accepted,
    Refused,
}

/// An accepted connection, with its permit and the observer's guard.
#[derive(Debug)]
pub(in crate::http) struct AcceptedConnection<G> {
    pub(in crate::http) stream: StdStream,
    /// Dropped when the connection has ended.
    pub(in crate::http) guards: (ConnectionPermit, Option<G>),
}

/// Accepts the connections of a listener.
pub(in crate::http) struct Acceptor<S, O> {
    pub(in crate::http) limits: Limits,
    pub(in crate::http) shutdown: CancellationToken,
    /// Answers probes.
    pub(in crate::http) service: S,
    /// The paths that are probes.
    pub(in crate::http) probe_paths: Arc<[String]>,
    /// Called for each new connection. The guard that it returns is dropped when
    /// the connection ends.
    pub(in crate::http) observe: O,
}

impl<S, O> Acceptor<S, O>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin,
    O: Send + 'static,
{
    /// Starts the thread. It accepts connections until the shutdown.
    pub(in crate::http) fn start<G>(self, listener: TcpListener) -> io::Result<mpsc::Receiver<AcceptedConnection<G>>>
    where
        O: Fn(ConnectionEvent) -> Option<G>,
        G: Send + 'static,
    {
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, accepted) = mpsc::channel(MAX_WAITING);
        std::thread::Builder::new().name("dats-accept".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => self.accept(listener, sender).await,
                    Err(error) => tracing::error!(%error, "failed to accept connections"),
                }
            });
        })?;
        Ok(accepted)
    }

    async fn accept<G>(self, listener: TcpListener, accepted: mpsc::Sender<AcceptedConnection<G>>)
    where
        O: Fn(ConnectionEvent) -> Option<G>,
        G: Send + 'static,
    {
        let limiter = ConnectionLimiter::new(&self.limits);
        let mut reserve = Reserve { capacity: self.limits.reserve, connections: VecDeque::new() };
        loop {
            let result = tokio::select! {
                result = listener.accept() => result,
                () = self.shutdown.cancelled() => return,
            };
            let (stream, peer) = match result {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Small answers must not wait until more bytes follow them.
            let _ = stream.set_nodelay(true);
            let (service, probe_paths) = (self.service.clone(), Arc::clone(&self.probe_paths));
            if let Some(permit) = limiter.try_acquire(peer) {
                let guards = (permit, (self.observe)(ConnectionEvent::Accepted));
                let (head_timeout, shutdown) = (self.limits.head_timeout, self.shutdown.clone());
                let accepted = accepted.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        stream = answer_probes(stream, service, &probe_paths, head_timeout) => {
                            if let Some(stream) = stream {
                                let _ = accepted.send(AcceptedConnection { stream, guards }).await;
                            }
                        }
                        () = shutdown.cancelled() => {}
                    }
                });
            } else {
                (self.observe)(ConnectionEvent::Refused);
                let refusing = async move {
                    drop(timeout(REFUSAL_TIMEOUT, refuse(stream, service, &probe_paths)).await);
                };
                reserve.add(tokio::spawn(refusing).abort_handle());
            }
        }
    }
}

/// Answers probes until another request arrives. Then returns the connection, with
/// that request still unread in it. Returns `None` if the connection has ended.
async fn answer_probes<S>(
    mut stream: TcpStream,
    service: S,
    probe_paths: &[String],
    head_timeout: Duration,
) -> Option<StdStream>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone,
    S::Future: Unpin,
{
    loop {
        match timeout(head_timeout, probe::next_request(&stream, probe_paths)).await.ok()?.ok()? {
            NextRequest::Probe(probe) => {
                if !probe.answer(&mut stream, service.clone(), false).await.ok()? {
                    return None;
                }
            }
            NextRequest::Other => return stream.into_std().ok(),
            NextRequest::End => return None,
        }
    }
}

/// Answers one probe, or refuses the client with 503. Then closes the connection.
async fn refuse<S>(mut stream: TcpStream, service: S, probe_paths: &[String]) -> io::Result<()>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    let next = timeout(PROBE_TIMEOUT, probe::next_request(&stream, probe_paths)).await;
    if let Ok(NextRequest::Probe(probe)) = next.unwrap_or(Ok(NextRequest::Other)) {
        return probe.answer(&mut stream, service, true).await.map(drop);
    }
    let problem = Problem::too_many_connections();
    let body = serde_json::to_string(&problem.wire("")).unwrap_or_default();
    let length = body.len();
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    probe::close_gracefully(&mut stream).await
}

/// The connections over the limits, the oldest first.
struct Reserve {
    capacity: usize,
    connections: VecDeque<AbortHandle>,
}

impl Reserve {
    /// Adds a connection, and closes the oldest ones over the capacity.
    fn add(&mut self, newest: AbortHandle) {
        let capacity = self.capacity.max(1);
        while self.connections.front().is_some_and(|oldest| oldest.is_finished() || self.connections.len() >= capacity)
        {
            if let Some(oldest) = self.connections.pop_front() {
                oldest.abort();
            }
        }
        self.connections.push_back(newest);
    }
}
