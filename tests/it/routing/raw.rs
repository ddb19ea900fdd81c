//! Servers that no HTTP library would make.

use std::time::Duration;

use dats::clock::Stopwatch;
use dats::routing::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{CALL, SLACK, agent, domain, service, task};

/// A server that reads something of a question and then does what `answer`
/// does, on each connection.
async fn raw<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut some = [0; 1024];
            let _ = socket.read(&mut some).await;
            tokio::spawn(answer(socket));
        }
    });
    url
}

/// How one question ends, and how long it took.
async fn asked(url: &str) -> (Error, Duration) {
    let started = Stopwatch::start();
    let failed = agent(service(url)).estimate(task(), "x", &domain(), None).await.unwrap_err();
    (failed.error, started.elapsed())
}

#[tokio::test]
async fn a_trickle_does_not_prolong_the_deadline() {
    let url = raw(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{").await;
        while socket.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (error, took) = asked(&url).await;
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert!(took < CALL + SLACK, "{took:?}");
}

#[tokio::test]
async fn an_error_whose_body_never_comes_is_an_error() {
    let url = raw(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 422 No\r\ncontent-length: 100\r\n\r\n{").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await;
    let failed = agent(dats::routing::Service {
        try_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(5),
        ..service(&url)
    })
    .estimate(task(), "x", &domain(), None)
    .await
    .unwrap_err();
    assert_eq!(failed.error, Error::Refused { status: 422, detail: String::new() });
}

#[tokio::test]
async fn a_head_that_does_not_end_is_a_failed_connection() {
    let url = raw(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while socket.write_all(b"x-more: yes, there is more, and more, and more\r\n").await.is_ok() {}
    })
    .await;
    let (error, took) = asked(&url).await;
    assert!(matches!(error, Error::Connection(_)), "{error:?}");
    assert!(took < CALL + SLACK, "{took:?}");
}

#[tokio::test]
async fn other_protocols_and_closed_doors_are_failed_connections() {
    for answer in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"rec"] {
        let url = raw(move |mut socket| async move {
            let _ = socket.write_all(answer).await;
        })
        .await;
        let (error, _) = asked(&url).await;
        assert!(matches!(error, Error::Connection(_)), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_length_that_is_a_lie_is_not_believed() {
    let url = raw(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{}").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await;
    let (error, took) = asked(&url).await;
    assert_eq!(error, Error::TooLarge { limit: 1024 * 1024 });
    assert!(took < SLACK, "it is let go before anything is read: {took:?}");
}
