//! Whoever reads the log may stop reading: that costs lines, and nothing else.

use std::io::{PipeReader, Read as _, pipe};
use std::time::Duration;

use serde_json::json;

use crate::support::client::Client;
use crate::support::process::{Server, Setup};

/// A server that refuses every submission, since its disk is never free enough,
/// and the end of a pipe that its log goes to.
fn refusing() -> (Server, Client, PipeReader) {
    let setup = Setup::new().with("DATS__ENGINE__MIN_FREE_DISK_MIB", "900000000");
    let (log, output) = pipe().unwrap();
    let server = setup.start_with(output);
    let client = Client::new(&server.address);
    (server, client, log)
}

/// Has so many submissions refused.
async fn refuse(client: &Client, times: usize) {
    for _ in 0..times {
        let answer = client.post("tasks", &json!({"description": "x"})).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "storage_full"));
    }
}

fn omitted(metrics: &str, reason: &str) -> u64 {
    let line = format!("dats_log_lines_omitted_total{{reason=\"{reason}\"}} ");
    let found = metrics.lines().find_map(|each| each.strip_prefix(&line));
    found.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn a_refusal_that_repeats_is_counted_and_not_written_each_time() {
    let (mut server, client, mut log) = refusing();
    refuse(&client, 1500).await;
    let metrics = client.get("/metrics").await.body;
    let repeated = omitted(std::str::from_utf8(&metrics).unwrap(), "repeated");
    assert!(repeated > 1400, "{repeated}");
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(20)).success());
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(text.matches("request not answered").count() < 30, "{text}");
    let counts = text.lines().filter(|line| line.contains("lines like this were left out"));
    let counts = counts.filter_map(|line| line.split("count=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    assert_eq!(counts.sum::<u64>(), repeated, "{text}");
}

/// A server that logs each connection that breaks, into a pipe.
fn talkative() -> (Server, Client, PipeReader) {
    let setup = Setup::new().with("DATS__TELEMETRY__LOG_LEVEL", "debug");
    let (log, output) = pipe().unwrap();
    let server = setup.start_with(output);
    let client = Client::new(&server.address);
    (server, client, log)
}

/// Breaks 100 connections, each of which is worth a line.
async fn break_some(client: &Client) {
    let broken = (0..100).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.raw(b"\x01 \x02\r\n\r\n", Duration::from_secs(5)).await })
    });
    for each in broken.collect::<Vec<_>>() {
        assert!(!each.await.unwrap().contains("200 OK"));
    }
}

/// With a pipe that is full, each request is answered and SIGTERM ends the
/// process; a reader that comes back finds the last lines.
#[tokio::test]
async fn a_reader_that_is_stuck_stops_nothing() {
    let (mut server, client, log) = talkative();
    let mut dropped = 0;
    for _ in 0..300 {
        break_some(&client).await;
        let metrics = client.get("/metrics").await.body;
        dropped = omitted(std::str::from_utf8(&metrics).unwrap(), "dropped");
        if dropped > 0 {
            break;
        }
    }
    assert!(dropped > 0, "the queue of lines has a bound");
    for path in ["/livez", "/readyz", "tasks"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    client.submit(&json!({"description": "x"})).await;
    let reading = std::thread::spawn(move || {
        let mut log = log;
        let mut text = Vec::new();
        log.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(30)).success());
    let text = reading.join().unwrap();
    assert!(text.contains("log lines dropped"), "it says what is missing");
    assert!(text.contains(" stopped"), "the last line is there");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_reader_that_is_stuck() {
    let (mut server, client, log) = talkative();
    for _ in 0..15 {
        break_some(&client).await;
    }
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(20)).success());
    drop(log);
}
