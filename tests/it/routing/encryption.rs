//! Agent and RAG over TLS: whom the service believes, what it says of the
//! others, and that a handshake has no longer than a connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dats::clock::Stopwatch;
use dats::routing::{Breaker, BreakerState, Error, Fallback, Service};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::world::{self, World};
use super::{CALL, NEVER, SLACK, agent, domain, project, rag, service, task};
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::front::Front;
use crate::support::process::{Setup, run_in};
use crate::support::stand_in::StandIn;

/// A service that believes this authority.
fn believing(url: &str, ca_file: PathBuf) -> Service {
    Service { ca_file: Some(ca_file), ..service(url) }
}

#[tokio::test]
async fn both_are_asked_over_tls_and_connections_used_again() {
    let Some(certificates) = Certificates::of("localhost") else { return };
    let (behind_agent, behind_rag) = (StandIn::agent(&[]), StandIn::rag(&[]));
    let before_agent = Front::of(&behind_agent.listen(), &certificates).await;
    let before_rag = Front::of(&behind_rag.listen(), &certificates).await;
    let agent = agent(believing(&before_agent.api("localhost"), certificates.authority()));
    let rag = rag(believing(&before_rag.api("localhost"), certificates.authority()));
    for number in 0..10 {
        let text = format!("work {number}");
        agent.analyze(&text, &project(), None, None).await.unwrap();
        agent.estimate(task(), &text, &domain(), None).await.unwrap();
        rag.query(&text, &project(), None).await.unwrap();
    }
    assert_eq!((before_agent.connections(), before_rag.connections()), (1, 1));
    assert_eq!(before_agent.agreed(), 1, "http/1.1 is agreed on");
}

#[tokio::test]
async fn calls_at_once_are_limited_over_tls_too() {
    let Some(certificates) = Certificates::of("localhost") else { return };
    let behind = StandIn::agent(&[]);
    let front = Front::of(&behind.listen(), &certificates).await;
    let narrow = Service { concurrency: 3, ..believing(&front.api("localhost"), certificates.authority()) };
    let agent = Arc::new(agent(Service { call_timeout: Duration::from_secs(20), ..narrow }));
    let mut calls = JoinSet::new();
    for number in 0..30 {
        let agent = agent.clone();
        calls.spawn(async move { agent.estimate(task(), &number.to_string(), &domain(), None).await });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
    assert!(front.connections() <= 6, "{} connections for 30 calls", front.connections());
}

/// How a question to this address ends.
async fn refused(url: &str, ca_file: PathBuf) -> String {
    let agent = agent(Service { retries: 0, ..believing(url, ca_file) });
    match agent.estimate(task(), "x", &domain(), None).await.unwrap_err().error {
        Error::Connection(words) => words,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn who_does_not_prove_its_name_is_a_failed_connection() {
    let (Some(its), Some(other)) = (Certificates::of("localhost"), Certificates::of("localhost")) else { return };
    let (Some(elsewhere), Some(old)) = (Certificates::of("elsewhere"), Certificates::expired("localhost")) else {
        return;
    };
    let behind = StandIn::agent(&[]);
    for (certificates, host, authority, words) in [
        (&its, "localhost", its.authority(), None),
        (&its, "localhost", other.authority(), Some("certificate: unknown issuer")),
        (&its, "127.0.0.1", its.authority(), Some("certificate: not for the name 127.0.0.1")),
        (&elsewhere, "localhost", elsewhere.authority(), Some("certificate: not for the name localhost")),
        (&old, "localhost", old.authority(), Some("certificate: expired")),
    ] {
        let front = Front::of(&behind.listen(), certificates).await;
        let Some(words) = words else {
            let agent = agent(believing(&front.api(host), authority));
            agent.estimate(task(), "x", &domain(), None).await.unwrap();
            continue;
        };
        assert_eq!(refused(&front.api(host), authority).await, words);
    }
    // The right port of the wrong protocol.
    let plain = behind.url.replace("http://127.0.0.1", "https://localhost");
    assert_eq!(refused(&plain, its.authority()).await, "the server does not speak TLS");
}

/// A server that does with each connection what `does` says.
async fn raw<F>(does: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(does(socket));
        }
    });
    url
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_at_the_deadline() {
    let Some(certificates) = Certificates::of("localhost") else { return };
    let silent = raw(|mut socket| async move {
        let mut some = [0; 4096];
        while socket.read(&mut some).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (started, agent) = (Stopwatch::start(), agent(believing(&silent, certificates.authority())));
    let failed = agent.estimate(task(), "x", &domain(), None).await.unwrap_err();
    assert!(matches!(failed.error, Error::Timeout(_)), "{failed:?}");
    assert!(started.elapsed() < CALL + SLACK, "{:?}", started.elapsed());
    assert_eq!(agent.figures().in_flight, 0);
}

#[tokio::test]
async fn what_breaks_in_the_handshake_is_a_failed_connection() {
    let Some(certificates) = Certificates::of("localhost") else { return };
    for answer in
        [&b""[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x03\xff\xff\0\0\0\0"]
    {
        let url = raw(move |mut socket| async move {
            let _ = socket.read(&mut [0; 64]).await;
            let _ = socket.write_all(answer).await;
        })
        .await;
        let words = refused(&url, certificates.authority()).await;
        assert!(!words.is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_failed_handshake_opens_the_breaker_and_the_rules_decide() {
    let (Some(its), Some(other)) = (Certificates::of("localhost"), Certificates::of("localhost")) else { return };
    let behind = StandIn::agent(&["--decompose-rate", "0", "--tiers", "large"]);
    let front = Front::of(&behind.listen(), &its).await;
    let fallback = Fallback::Builtin { after: Duration::from_millis(300) };
    let usual = world::settings(Some(&behind), None);
    let of = |ca_file: PathBuf| {
        let address = front.api("localhost").parse().unwrap();
        let service = usual.agent.clone().map(|agent| Service { address, ca_file: Some(ca_file), ..agent });
        dats::routing::Settings { agent: service, fallback, ..usual.clone() }
    };
    let world = World::new(of(other.authority()));
    let unproven = world.submit("work").await;
    assert_eq!(world.routed(unproven).await["tier"], "small");
    let figures = &world.services.figures().services[0];
    assert!(figures.openings > 0 && figures.state != BreakerState::Closed, "{figures:?}");
    let (_, said) = figures.last_error.clone().unwrap();
    assert_eq!(said, "the connection failed: certificate: unknown issuer");
    world.end().await;

    let world = World::new(of(its.authority()));
    let proven = world.submit("work").await;
    assert_eq!(world.routed(proven).await["tier"], "large");
    assert_eq!(world.times(proven, "task.analyzed").await, 1);
    world.end().await;
}

#[tokio::test]
async fn who_comes_late_is_found_over_tls() {
    let Some(certificates) = Certificates::of("localhost") else { return };
    let mut behind = StandIn::agent(&[]);
    let front = Front::of(&behind.listen(), &certificates).await;
    let breaker = Breaker { failures: 1, cool_down_initial: Duration::from_millis(20), ..NEVER };
    let agent = agent(Service { breaker, retries: 0, ..believing(&front.api("localhost"), certificates.authority()) });
    behind.kill();
    // The front takes the connection and has nobody to give it to.
    agent.estimate(task(), "x", &domain(), None).await.unwrap_err();
    assert_ne!(agent.figures().state, BreakerState::Closed);
    let _behind = StandIn::start("agent", &behind.listen(), &[]);
    let started = Stopwatch::start();
    while agent.estimate(task(), "x", &domain(), None).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(2) + SLACK, "it is not found again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The service as it is started.
fn setup(front: &Front) -> Setup {
    Setup::new()
        .with("DATS__ROUTING__AGENT_SERVICE_URL", &front.api("localhost"))
        .with("DATS__ROUTING__FALLBACK", "wait")
        .with("DATS__ROUTING__MAX_DEPTH", "0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_believes_its_file_or_the_system() {
    let (Some(certificates), Some(other)) = (Certificates::of("localhost"), Certificates::of("localhost")) else {
        return;
    };
    let behind = StandIn::agent(&[]);
    let front = Front::of(&behind.listen(), &certificates).await;
    let authority = certificates.authority().display().to_string();
    for variable in ["DATS__ROUTING__CA_FILE", "SSL_CERT_FILE"] {
        let setup = setup(&front).with(variable, &authority);
        let server = setup.start();
        let client = Client::new(&server.address);
        let id = client.submit(&json!({"description": "work"})).await;
        let started = Stopwatch::start();
        while client.get(&format!("tasks/{id}")).await.json()["phase"] == "analyzing" {
            assert!(started.elapsed() < Duration::from_secs(20), "{variable}: {}", setup.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let health = client.get("health/detailed").await.json();
        assert_eq!(health["dependencies"]["agent"]["status"], "healthy", "{variable}: {health}");
    }
    let server = setup(&front).with("SSL_CERT_FILE", &other.authority().display().to_string()).start();
    let client = Client::new(&server.address);
    client.submit(&json!({"description": "work"})).await;
    let started = Stopwatch::start();
    loop {
        let health = client.get("health/detailed").await.json();
        let agent = &health["dependencies"]["agent"];
        if agent["last_error"]["message"] == "the connection failed: certificate: unknown issuer" {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{agent}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_good_is_said_at_the_start() {
    let setup = Setup::new().with("DATS__ROUTING__RAG_SERVICE_URL", "https://rag:8000/api/v1");
    let (missing, empty) = (setup.beside("no-such-file"), setup.beside("empty"));
    std::fs::write(&empty, "").unwrap();
    for (path, reason) in [(missing, "No such file"), (empty, "the file contains no certificate")] {
        let path = path.display().to_string();
        let ended = setup.clone().with("DATS__ROUTING__CA_FILE", &path).try_start().err().expect("it started");
        let said = format!("routing.ca_file can't be {path:?}: expected a file with CA certificates (PEM)");
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(&said) && ended.stderr.contains(reason), "{}", ended.stderr);
        let environment =
            [("DATS__ROUTING__RAG_SERVICE_URL", "https://rag"), ("DATS__ROUTING__CA_FILE", path.as_str())];
        let checked = run_in(&environment, &["config", "check"]);
        assert_eq!(checked.code, 2, "{}", checked.stderr);
        assert!(checked.stderr.contains(&said), "{}", checked.stderr);
        assert!(!setup.data_dir().exists(), "nothing was touched");
    }
    let none = setup.with("SSL_CERT_FILE", "/dev/null").try_start().err().expect("it started");
    assert_eq!(none.status.code(), Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("routing.ca_file can't be null"), "{}", none.stderr);
}
