//! Faults at exact system calls of the real binary, by strace: death before
//! the n-th sync, a sync that fails, a disk that is full. Skipped, and said
//! so, where strace is missing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::process::{Server, Setup};
use crate::support::strace::{faulty, faulty_at, works};

/// Exit code for a store that failed.
const STORE_FAILED: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// Every other one is too large for a row: it goes into a file.
fn content(round: u32) -> String {
    if round.is_multiple_of(2) { "x".to_owned() } else { format!("{round}").repeat(100_000) }
}

/// A small workload, one request after the other, each with its own key.
#[derive(Debug, Default)]
struct Ledger {
    /// Key, body and, once acknowledged, the task.
    submitted: Vec<(String, Value, Option<String>)>,
    cancelled: Vec<String>,
    events: Vec<Value>,
    /// Answers that were neither success nor silence.
    refused: Vec<Answer>,
}

impl Ledger {
    /// Goes on until the server falls silent.
    async fn work(&mut self, client: &Client) {
        for round in 0..4 {
            for each in 0..2 {
                let (key, body) =
                    (format!("key-{round}-{each}"), json!({"description": format!("work {round} {each}")}));
                let answer = client.try_post("tasks", &body, &[("idempotency-key", &key)]).await;
                let task = self.taken(answer, 201).map(|answer| answer["task_id"].as_str().unwrap().to_owned());
                self.submitted.push((key, body, task));
            }
            if let Some((_, _, Some(task))) = self.submitted.last().cloned() {
                let answer = client.try_post(&format!("tasks/{task}/cancel"), &json!({}), &[]).await;
                let taken = self.taken(answer, 200);
                self.cancelled.extend(taken.map(|_| task));
            }
            self.report(client, round).await;
        }
    }

    async fn report(&mut self, client: &Client, round: u32) {
        let ask = json!({"worker_id": "w", "lease_seconds": 600});
        let answer = client.try_post("queues/small/lease", &ask, &[]).await;
        let Some(granted) = self.taken(answer, 200) else { return };
        let Some(lease) = granted["leases"].as_array().and_then(|leases| leases.first()) else { return };
        let event = json!({
            "specversion": "1.0", "type": "dats.task.output.created", "source": "/w", "id": format!("e-{round}"),
            "data": {
                "task_id": lease["task"]["task_id"], "artifact_id": format!("a-{round}"),
                "output": {"content": content(round)},
            },
        });
        let answer = client.try_post("events", &event, &[]).await;
        let taken = self.taken(answer, 200);
        self.events.extend(taken.map(|_| event));
    }

    fn taken(&mut self, answer: Result<Answer, impl Sized>, wanted: u16) -> Option<Value> {
        match answer {
            Ok(answer) if answer.status == wanted => Some(answer.json()),
            Ok(answer) => {
                self.refused.push(answer);
                None
            }
            Err(_) => None,
        }
    }

    /// On a healthy server over the same data.
    async fn check(&self, client: &Client, context: &str) {
        let mut made = 0;
        for (key, body, task) in &self.submitted {
            let again = client.try_post("tasks", body, &[("idempotency-key", key)]).await.unwrap();
            assert_eq!(again.status, 201, "{context}: {again:?}");
            made += 1;
            if let Some(task) = task {
                assert_eq!(again.json()["task_id"], **task, "{context}: {key}");
                assert_eq!(again.header("idempotent-replayed"), "true", "{context}: {key}");
            }
        }
        for task in &self.cancelled {
            assert_eq!(client.get(&format!("tasks/{task}")).await.json()["status"], "cancelled", "{context}");
        }
        for event in &self.events {
            assert_eq!(client.post("events", event).await.json()["outcome"], "duplicate", "{context}: {event}");
            let artifact = event["data"]["artifact_id"].as_str().unwrap();
            let sent = event["data"]["output"]["content"].as_str().unwrap();
            assert!(client.get(&format!("artifacts/{artifact}/content")).await.body == sent, "{context}: {artifact}");
        }
        // Each key made one task, whether its answer came or not.
        assert_eq!(client.get("tasks").await.json()["total"], made, "{context}");
    }
}

/// One run under a fault; whether the fault came before the work was done.
async fn run(injected: &str, expect: impl Fn(&Ledger, &mut Server, &str)) -> bool {
    let setup = Setup::new();
    let context = format!("strace -e inject={injected}");
    let mut ledger = Ledger::default();
    let mut ended_early = true;
    match faulty(&setup, injected).try_start() {
        Ok(mut server) => {
            ledger.work(&Client::new(&server.address)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            ended_early = !server.is_running() || !ledger.refused.is_empty();
            if ended_early {
                expect(&ledger, &mut server, &context);
            }
            server.kill();
        }
        // It did not get as far as serving: killed, or it said why not.
        Err(ended) if injected.contains("KILL") => assert_eq!(ended.status.code(), None, "{context}"),
        Err(ended) => assert_eq!(ended.status.code(), Some(STORE_FAILED), "{context}: {}", ended.stderr),
    }
    assert!(!setup.log().contains("panicked"), "{context}: {}", setup.log());
    let server = setup.start();
    ledger.check(&Client::new(&server.address), &context).await;
    ended_early
}

/// Until the fault comes too late to hit anything, at every n-th call.
async fn sweep(call: &str, fault: &str, step: usize, expect: impl Fn(&Ledger, &mut Server, &str)) {
    let mut hits = 0;
    for number in (1..200).step_by(step) {
        if !run(&format!("{call}:{fault}:when={number}"), &expect).await {
            break;
        }
        hits += 1;
    }
    println!("{call} {fault}: {hits} places hit");
    assert!(hits >= 5, "only {hits} calls of {call} were hit: the sweep proves nothing");
}

/// After a failed write nothing is acknowledged, and the process ends.
fn fails_cleanly(ledger: &Ledger, server: &mut Server, context: &str) {
    for answer in &ledger.refused {
        assert_eq!(answer.status, 503, "{context}: {answer:?}");
        let code = answer.code();
        assert!(["outcome_unknown", "shutting_down", "store_failed"].contains(&code.as_str()), "{context}: {answer:?}");
    }
    assert!(ledger.refused.iter().any(|answer| answer.code() == "outcome_unknown"), "{context}: {ledger:?}");
    assert_eq!(server.wait(PATIENCE).code(), Some(STORE_FAILED), "{context}");
}

#[tokio::test]
async fn death_before_any_sync_loses_nothing() {
    if works() {
        sweep("fdatasync,fsync", "signal=KILL", 1, |_, _, _| {}).await;
    }
}

#[tokio::test]
async fn a_failing_sync_is_an_unknown_outcome() {
    if works() {
        sweep("fdatasync", "error=EIO", 2, fails_cleanly).await;
    }
}

#[tokio::test]
async fn a_failing_write_is_an_unknown_outcome() {
    if works() {
        sweep("pwrite64", "error=EIO", 9, fails_cleanly).await;
    }
}

/// A write that finds the disk full, once: the service waits for room and goes
/// on, and nothing is refused.
#[tokio::test]
async fn a_write_that_finds_no_room_is_made_again() {
    if !works() {
        return;
    }
    let mut hits = 0;
    for number in (1..60).step_by(5) {
        let setup = Setup::new();
        // The store is made without a fault.
        setup.start().kill();
        let injected = format!("pwrite64:error=ENOSPC:when={number}");
        let mut ledger = Ledger::default();
        match faulty(&setup, &injected).try_start() {
            Ok(mut server) => {
                ledger.work(&Client::new(&server.address)).await;
                assert!(server.is_running(), "{injected}: {}", setup.log());
                assert!(ledger.refused.is_empty(), "{injected}: {ledger:?}");
                assert_eq!((ledger.submitted.len(), ledger.events.len()), (8, 4), "{injected}");
                server.kill();
                hits += usize::from(std::fs::read_to_string(setup.beside("strace")).unwrap().contains("INJECTED"));
            }
            Err(ended) => panic!("{injected}: {}: {}", ended.status, ended.stderr),
        }
        let server = setup.start();
        ledger.check(&Client::new(&server.address), &injected).await;
    }
    println!("pwrite64 ENOSPC: {hits} places hit");
    assert!(hits >= 3, "only {hits} writes were hit: the test proves nothing");
}

/// A file system that takes a write past the cache only until it is made: the journal goes
/// on through the cache, and nothing is refused or lost.
#[tokio::test]
async fn a_journal_that_can_not_pass_the_cache_by_goes_through_it() {
    if !works() {
        return;
    }
    let setup = Setup::new();
    setup.start().kill();
    let mut ledger = Ledger::default();
    let mut server = faulty_at(&setup, "dats.journal", "pwrite64:error=EINVAL:when=1").start();
    ledger.work(&Client::new(&server.address)).await;
    assert!(server.is_running() && ledger.refused.is_empty(), "{ledger:?}: {}", setup.log());
    assert_eq!((ledger.submitted.len(), ledger.events.len()), (8, 4));
    server.kill();
    assert!(std::fs::read_to_string(setup.beside("strace")).unwrap().contains("INJECTED"));
    let server = setup.start();
    ledger.check(&Client::new(&server.address), "without writes past the cache").await;
}
