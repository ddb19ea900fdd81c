//! Accepting connections, on a thread of its own: whatever the threads that
//! serve connections are busy with, and however many connections are open, new
//! ones are accepted and probes are answered (`probe.rs`).
//!
//! A connection within the limits is handed over to the other threads at its
//! first request that is no probe. One over a limit has a place in a reserve,
//! where it is answered once: a probe as ever, all else with 503. When the
//! reserve is full, the oldest connection in it makes room, so that clients
//! that say nothing can't fill it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdStream;
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
use super::exchange::RequestBody;
use super::places::{Place, Places};
use super::probe::{self, Next};
use super::problem::Problem;
use crate::http::api::settings::Limits;

/// Connections that wait to be served; each holds its place meanwhile.
const ARRIVALS: usize = 256;
/// Wait after an accept that failed for want of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for a client over the limits to ask for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest stay in the reserve.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// What became of a new connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) enum Opened {
    Accepted,
    Refused,
}

/// A connection that was accepted, with its place and what its observer keeps.
#[derive(Debug)]
pub(in crate::http) struct Arrival<G> {
    pub(in crate::http) stream: StdStream,
    pub(in crate::http) kept: (Place, Option<G>),
}

/// Accepts the connections of a listener.
pub(in crate::http) struct Acceptor<S, O> {
    pub(in crate::http) limits: Limits,
    pub(in crate::http) shutdown: CancellationToken,
    /// Answers probes.
    pub(in crate::http) service: S,
    /// Is told of each connection. What it gives back is kept as long as the
    /// connection is open.
    pub(in crate::http) observe: O,
}

impl<S, O> Acceptor<S, O>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin,
    O: Send + 'static,
{
    /// Starts the thread; connections arrive until the shutdown.
    pub(in crate::http) fn start<G>(self, listener: TcpListener) -> io::Result<mpsc::Receiver<Arrival<G>>>
    where
        O: Fn(Opened) -> Option<G>,
        G: Send + 'static,
    {
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (arrived, arrivals) = mpsc::channel(ARRIVALS);
        std::thread::Builder::new().name("dats-accept".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => self.accept(listener, arrived).await,
                    Err(error) => tracing::error!(%error, "failed to accept connections"),
                }
            });
        })?;
        Ok(arrivals)
    }

    async fn accept<G>(self, listener: TcpListener, arrived: mpsc::Sender<Arrival<G>>)
    where
        O: Fn(Opened) -> Option<G>,
        G: Send + 'static,
    {
        let places = Places::new(&self.limits);
        let mut reserve = Reserve { most: self.limits.reserve, held: VecDeque::new() };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Small answers shall not wait for more of them.
            let _ = stream.set_nodelay(true);
            let service = self.service.clone();
            if let Some(place) = places.take(peer) {
                let kept = (place, (self.observe)(Opened::Accepted));
                let (patience, shutdown, arrived) = (self.limits.head_timeout, self.shutdown.clone(), arrived.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        arrival = greet(stream, service, patience) => {
                            if let Some(stream) = arrival {
                                let _ = arrived.send(Arrival { stream, kept }).await;
                            }
                        }
                        () = shutdown.cancelled() => {}
                    }
                });
            } else {
                (self.observe)(Opened::Refused);
                let refusing = async move { drop(timeout(REFUSAL_TIMEOUT, refuse(stream, service)).await) };
                reserve.hold(tokio::spawn(refusing).abort_handle());
            }
        }
    }
}

/// Answers probes until something else is asked; then gives the connection
/// back, with all that was sent still in it.
async fn greet<S>(mut stream: TcpStream, service: S, patience: Duration) -> Option<StdStream>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone,
    S::Future: Unpin,
{
    loop {
        match timeout(patience, probe::next(&stream)).await.ok()?.ok()? {
            Next::Probe(probe) => {
                if !probe.answer(&mut stream, service.clone(), false).await.ok()? {
                    return None;
                }
            }
            Next::Other => return stream.into_std().ok(),
            Next::End => return None,
        }
    }
}

/// Answers a probe, or tells a client that there is no place for it.
async fn refuse<S>(mut stream: TcpStream, service: S) -> io::Result<()>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    if let Ok(Next::Probe(probe)) = timeout(PROBE_TIMEOUT, probe::next(&stream)).await.unwrap_or(Ok(Next::Other)) {
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
    probe::leave(&mut stream).await
}

/// The connections over the limits, the oldest first.
struct Reserve {
    most: usize,
    held: VecDeque<AbortHandle>,
}

impl Reserve {
    fn hold(&mut self, newest: AbortHandle) {
        while self.held.front().is_some_and(|oldest| oldest.is_finished() || self.held.len() >= self.most.max(1)) {
            if let Some(oldest) = self.held.pop_front() {
                oldest.abort();
            }
        }
        self.held.push_back(newest);
    }
}
