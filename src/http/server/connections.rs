//! Serves the connections that the acceptor hands over, and drains them when the
//! service stops.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{AcceptedConnection, Acceptor, ConnectionEvent};
use super::body::Body;
use super::connection_timer::ConnectionTimer;
use super::edge::Edge;
use super::exchange::{Exchange, ExchangeService, RequestBody};
use super::settings::Limits;
use super::socket::Socket;
use super::state::ServerState;
use super::write_timeout::WriteTimeoutStream;

/// Serves `app` on `listener` until `shutdown`. Returns when every connection has
/// ended, at the latest after the drain timeout.
///
/// From `shutdown` on, no connection is accepted, readiness fails, waits and
/// streams end, idle connections are closed and running requests are answered.
pub(in crate::http) async fn serve<A>(listener: TcpListener, app: Arc<A>, shutdown: CancellationToken)
where
    A: AsRef<ServerState<A>> + Send + Sync + 'static,
{
    let edge = Edge::new(Arc::clone(&app), shutdown.clone());
    let server: &ServerState<A> = (*app).as_ref();
    let (limits, probe_paths) = (server.limits.clone(), server.probe_paths.clone());
    let acceptor = Acceptor {
        limits: limits.clone(),
        shutdown: shutdown.clone(),
        service: edge.clone(),
        probe_paths: probe_paths.into(),
        observe: {
            let app = Arc::clone(&app);
            move |event| {
                let server: &ServerState<A> = (*app).as_ref();
                match event {
                    ConnectionEvent::Accepted => Some(server.metrics.count_connection()),
                    ConnectionEvent::Refused => {
                        server.metrics.record_refused_connection();
                        None
                    }
                }
            }
        },
    };
    match acceptor.start(listener) {
        Ok(accepted) => serve_accepted(accepted, limits, shutdown, edge).await,
        Err(error) => tracing::error!(%error, "failed to start the thread that accepts connections"),
    }
}

/// Serves accepted connections until the acceptor ends, then drains them.
async fn serve_accepted<S, G>(
    mut accepted: mpsc::Receiver<AcceptedConnection<G>>,
    limits: Limits,
    shutdown: CancellationToken,
    service: S,
) where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin,
    G: Send + 'static,
{
    let (open, cut) = (TaskTracker::new(), CancellationToken::new());
    while let Some(AcceptedConnection { stream, guards }) = accepted.recv().await {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to take over a connection");
                continue;
            }
        };
        let serving = serve_connection(stream, service.clone(), limits.clone(), shutdown.clone(), cut.clone());
        open.spawn(async move {
            serving.await;
            drop(guards);
        });
    }
    open.close();
    if tokio::time::timeout(limits.drain_timeout, open.wait()).await.is_err() {
        tracing::warn!(connections = open.len(), "closing connections after the drain timeout");
        cut.cancel();
        open.wait().await;
    }
}

/// Serves the requests of one connection. From `shutdown` on it closes the
/// connection when no request is running, and at once when `cut` is cancelled.
async fn serve_connection<S>(
    stream: TcpStream,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
    cut: CancellationToken,
) where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    let socket = Socket::new(stream);
    let exchange = Exchange::new(shutdown.child_token(), socket.peer());
    let io = TokioIo::new(WriteTimeoutStream::new(socket, limits.write_timeout, Arc::clone(&exchange)));
    let service = ExchangeService::new(service, Arc::clone(&exchange));
    let connection = http1::Builder::new()
        .timer(ConnectionTimer::new(limits.head_timeout))
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes.max(8192))
        .keep_alive(true)
        // A client may close its side after its request.
        .half_close(true)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        exchange.close_without_lingering();
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = cut.cancelled() => Ok(()),
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::http::server::settings::tests::limits;

    struct Server {
        address: SocketAddr,
        shutdown: CancellationToken,
        running: tokio::task::JoinHandle<()>,
    }

    /// Answers each request after a delay.
    #[derive(Clone)]
    struct Delayed(Duration);

    impl Service<Request<RequestBody>> for Delayed {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn call(&self, request: Request<RequestBody>) -> Self::Future {
            let delay = self.0;
            Box::pin(async move {
                let _request = request;
                tokio::time::sleep(delay).await;
                Ok(Response::new(Body::full(Bytes::from_static(b"hello"))))
            })
        }
    }

    async fn server(limits: Limits, delay: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let service = Delayed(delay);
        let acceptor = Acceptor {
            limits: limits.clone(),
            shutdown: shutdown.clone(),
            service: service.clone(),
            probe_paths: Arc::default(),
            observe: |_| None::<()>,
        };
        let accepted = acceptor.start(listener).unwrap();
        let running = tokio::spawn(serve_accepted(accepted, limits, shutdown.clone(), service));
        Server { address, shutdown, running }
    }

    async fn talk(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        read_some(stream).await
    }

    async fn read_some(stream: &mut TcpStream) -> String {
        let mut bytes = vec![0; 4096];
        let count = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut bytes)).await.unwrap().unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test]
    async fn connections_stay_open_and_are_counted() {
        let server = server(limits(), Duration::ZERO).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            assert!(talk(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
            assert!(talk(&mut stream, GET).await.ends_with("hello"));
            held.push(stream);
        }
        let mut fourth = TcpStream::connect(server.address).await.unwrap();
        let refused = read_some(&mut fourth).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("\"code\":\"overloaded\""), "{refused}");
        held.clear();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut fifth = TcpStream::connect(server.address).await.unwrap();
        assert!(talk(&mut fifth, GET).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn slow_heads_and_silent_clients_are_closed() {
        let server = server(limits(), Duration::ZERO).await;
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        let answer = talk(&mut slow, "GET / HTTP/1.1\r\nhost:").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        assert!(!read_some(&mut silent).await.contains("200"));
        let mut large = TcpStream::connect(server.address).await.unwrap();
        let answer = talk(&mut large, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000))).await;
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    }

    #[tokio::test]
    async fn draining_finishes_requests_and_closes_the_rest() {
        let server = server(limits(), Duration::from_millis(150)).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        assert!(talk(&mut idle, GET).await.starts_with("HTTP/1.1 200"));
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(GET.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        server.shutdown.cancel();
        assert_eq!(read_some(&mut idle).await, "");
        assert!(read_some(&mut busy).await.starts_with("HTTP/1.1 200"));
        server.running.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    /// An answer that is sent in the middle of a body arrives, although the client goes on
    /// sending.
    #[tokio::test]
    async fn a_client_that_goes_on_sending_is_answered() {
        let server = server(limits(), Duration::ZERO).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let length = 32 << 20;
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..length / (1 << 20) {
            stream.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200"));
        assert_eq!(read_some(&mut stream).await, "");
    }

    #[tokio::test]
    async fn draining_ends_after_its_timeout() {
        let server = server(limits(), Duration::from_mins(10)).await;
        let mut stuck = TcpStream::connect(server.address).await.unwrap();
        stuck.write_all(GET.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        server.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(3), server.running).await.unwrap().unwrap();
        assert_eq!(read_some(&mut stuck).await, "");
    }
}
