//! A collector that is away, refuses or hangs, and the end of the service.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::setup;
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::collector::{Collector, Mood};
use crate::support::front::Front;
use crate::support::process::Setup;

const PATIENCE: Duration = Duration::from_secs(30);
const FAILS: &str = "collector does not accept traces";
const IS_BACK: &str = "collector accepts traces again";

/// How many spans had that outcome.
async fn count(client: &Client, outcome: &str) -> u64 {
    let metrics = client.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let begin = format!("dats_trace_spans_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("no {begin} in\n{text}")).parse().unwrap()
}

/// Asks for a task until `outcome` has been counted so often.
async fn ask_until(client: &Client, outcome: &str, least: u64) {
    let deadline = Instant::now() + PATIENCE;
    while count(client, outcome).await < least {
        assert_eq!(client.get("tasks/none").await.status, 404);
        assert!(Instant::now() < deadline, "not {least} {outcome}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn times(setup: &Setup, words: &str) -> usize {
    setup.log().matches(words).count()
}

#[tokio::test]
async fn one_that_comes_later_is_told_of_once_and_once_again() {
    let socket = Collector::reserved();
    let setup = setup(&format!("http://{}", socket.local_addr().unwrap()));
    let server = setup.start();
    let client = Client::new(&server.address);
    ask_until(&client, "failed", 1).await;
    let failed = count(&client, "failed").await;
    ask_until(&client, "failed", failed + 1).await;
    assert_eq!((times(&setup, FAILS), times(&setup, IS_BACK)), (1, 0), "{}", setup.log());
    let collector = Collector::start_on(socket, Mood::Takes);
    ask_until(&client, "sent", 1).await;
    collector.named("GET /api/v1/tasks/{id}").await;
    assert_eq!((times(&setup, FAILS), times(&setup, IS_BACK)), (1, 1), "{}", setup.log());
}

#[tokio::test]
async fn one_that_refuses_is_told_of_with_its_answer() {
    let collector = Collector::start(Mood::Refuses(400));
    let setup = setup(&collector.url());
    let server = setup.start();
    let client = Client::new(&server.address);
    ask_until(&client, "failed", 1).await;
    let failed = count(&client, "failed").await;
    ask_until(&client, "failed", failed + 1).await;
    assert!(collector.batches() >= 2);
    assert_eq!(times(&setup, FAILS), 1, "{}", setup.log());
    assert!(setup.log().contains("status 400"), "{}", setup.log());
    collector.set(Mood::Takes);
    ask_until(&client, "sent", 1).await;
    assert_eq!((times(&setup, FAILS), times(&setup, IS_BACK)), (1, 1), "{}", setup.log());
}

/// While it hangs, spans wait in their places; when there are none left they
/// are dropped, and requests are answered as ever. The end does not wait for it.
#[tokio::test]
async fn one_that_hangs_fills_its_places_and_holds_up_nothing() {
    let collector = Collector::start(Mood::Hangs);
    let setup = setup(&collector.url());
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x"})).await;
    let deadline = Instant::now() + PATIENCE;
    while count(&client, "dropped").await == 0 {
        let asking = (0..8).map(|_| {
            let (client, path) = (client.clone(), format!("tasks/{task}"));
            tokio::spawn(async move {
                for _ in 0..100 {
                    assert_eq!(client.get(&path).await.status, 200);
                }
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
        assert!(Instant::now() < deadline, "nothing is dropped");
    }
    assert_eq!(count(&client, "sent").await, 0);
    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(0), "{}", setup.log());
    assert_eq!(times(&setup, "spans lost that were not sent before the stop"), 1, "{}", setup.log());
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent() {
    let collector = Collector::start(Mood::Takes);
    let setup = setup(&collector.url()).with("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut server = setup.start();
    let client = Client::new(&server.address);
    for _ in 0..3 {
        client.submit(&json!({"description": "x"})).await;
    }
    assert_eq!(collector.batches(), 0);
    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(0), "{}", setup.log());
    assert_eq!(collector.spans().len(), 3, "{}", setup.log());
    assert!(!setup.log().contains("lost"), "{}", setup.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_behind_tls_proves_its_name() {
    let (Some(its), Some(other)) = (Certificates::of("localhost"), Certificates::of("localhost")) else { return };
    let collector = Collector::start(Mood::Takes);
    let front = Front::of(&collector.address().to_string(), &its).await;
    let believing = |authority: &Certificates| {
        setup(&front.url("localhost")).with("DATS__TELEMETRY__CA_FILE", &authority.authority().display().to_string())
    };
    let doubting = believing(&other);
    let server = doubting.start();
    ask_until(&Client::new(&server.address), "failed", 1).await;
    assert_eq!(times(&doubting, "certificate: unknown issuer"), 1, "{}", doubting.log());
    assert_eq!(collector.batches(), 0, "it was sent to somebody else");
    let server = believing(&its).start();
    Client::new(&server.address).submit(&json!({"description": "x"})).await;
    collector.named("POST /api/v1/tasks").await;
    for (key, path) in [("null", "/dev/null"), ("\"/no-such-file\"", "/no-such-file")] {
        let name = if key == "null" { "SSL_CERT_FILE" } else { "DATS__TELEMETRY__CA_FILE" };
        let ended = setup("https://collector:4318").with(name, path).try_start().err().expect("it started");
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("telemetry.ca_file can't be {key}: expected")), "{}", ended.stderr);
    }
}
