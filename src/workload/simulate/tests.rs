//! Worker and QA stand-ins against the fake server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::qa;
use super::worker::{self, Worker};
use crate::client::Client;
use crate::client::fake_server::{ReceivedRequest, serve};
use crate::workload::{Console, Error};

const LIMIT: Duration = Duration::from_secs(20);

/// Queues with tasks, and the events posted about them.
#[derive(Default)]
struct Board {
    waiting: BTreeMap<String, u64>,
    posted: Vec<Value>,
    released: u64,
}

impl Board {
    fn answer(&mut self, asked: &ReceivedRequest) -> (u16, String) {
        let path: Vec<&str> = asked.uri.trim_start_matches("/api/v1/").split(['/', '?']).collect();
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let answer = match path.as_slice() {
            ["queues"] => json!({"queues": self.waiting.keys().map(|tier| json!({"tier": tier})).collect::<Vec<_>>()}),
            ["queues", tier, "lease"] => self.lease(tier, &body),
            ["leases", _, "release"] => {
                self.released += 1;
                json!({})
            }
            ["events", ..] if asked.method == "GET" => return (200, outputs()),
            ["events"] => {
                self.posted.push(body);
                json!({"outcome": "applied"})
            }
            _ => return (404, "{}".to_owned()),
        };
        (200, answer.to_string())
    }

    fn lease(&mut self, tier: &str, body: &Value) -> Value {
        let waiting = self.waiting.get_mut(tier).unwrap();
        let given = (*waiting).min(body["max"].as_u64().unwrap());
        *waiting -= given;
        let lease = |n: u64| {
            let task = json!({"task_id": format!("{tier}-{}", *waiting + n), "attempt": 1, "tier": tier, "inputs": []});
            json!({"lease_id": format!("l-{n}"), "task": task})
        };
        json!({"leases": (0..given).map(lease).collect::<Vec<_>>()})
    }
}

/// Returns ten outputs as a stream.
fn outputs() -> String {
    let event = |n: u64| {
        let data = json!({"data": {"task_id": format!("t-{n}"), "artifact_id": format!("a-{n}"), "attempt": 1}});
        format!("id: {n}\nevent: task.output.created\ndata: {data}\n\n")
    };
    (1..=10).map(event).collect()
}

async fn board(waiting: &[(&str, u64)]) -> (Client, Arc<Mutex<Board>>) {
    let waiting = waiting.iter().map(|(tier, count)| ((*tier).to_owned(), *count)).collect();
    let board = Arc::new(Mutex::new(Board { waiting, ..Board::default() }));
    let shared = Arc::clone(&board);
    let url = serve(move |asked| shared.lock().unwrap().answer(asked)).await;
    (Client::new(&url, None).unwrap(), board)
}

fn worker_settings() -> worker::Settings {
    worker::Settings {
        tiers: Vec::new(),
        concurrency: 3,
        latency_ms: 1,
        jitter_ms: 3,
        failure_rate: 0.0,
        seed: 1,
        count: Some(10),
        quiet: true,
    }
}

async fn run_worker(client: Client, settings: worker::Settings) -> Result<(), Error> {
    let worker = Worker::connect(client, settings, Console::SILENT, &CancellationToken::new()).await?;
    timeout(LIMIT, worker.run()).await.unwrap()
}

#[tokio::test]
async fn a_worker_ends_after_its_count_and_answers_each_lease_once() {
    let (client, board) = board(&[("small", 8), ("large", 100)]).await;
    run_worker(client, worker_settings()).await.unwrap();
    let board = board.lock().unwrap();
    let mut tasks: Vec<_> = board.posted.iter().map(|event| event["data"]["task_id"].to_string()).collect();
    assert_eq!(tasks.len(), 10);
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len(), 10, "no task is answered twice");
    assert!(board.posted.iter().all(|event| event["type"] == "dats.task.output.created"));
}

#[tokio::test]
async fn a_worker_whose_rate_of_failure_is_one_reports_failures() {
    let (client, board) = board(&[("small", 10)]).await;
    run_worker(client, worker::Settings { failure_rate: 1.0, ..worker_settings() }).await.unwrap();
    assert!(board.lock().unwrap().posted.iter().all(|event| event["type"] == "dats.task.failed"));
}

#[tokio::test]
async fn an_unknown_tier_is_wrong_usage() {
    let (client, _board) = board(&[("small", 1)]).await;
    let settings = worker::Settings { tiers: vec!["giant".to_owned()], ..worker_settings() };
    let error = run_worker(client, settings).await.unwrap_err();
    assert_eq!(error.to_string(), "the server has no tier giant: use one of small");
    assert!(matches!(error, Error::Usage(_)));
}

#[tokio::test]
async fn qa_answers_each_output_with_a_verdict() {
    let (client, board) = board(&[]).await;
    let settings = qa::Settings {
        latency_ms: 0,
        rejection_rate: 1.0,
        review_rate: 0.0,
        seed: 1,
        after: None,
        quiet: true,
        reject_first: std::collections::BTreeSet::new(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(qa::run(client, settings, Console::SILENT, stop.clone()));
    while board.lock().unwrap().posted.len() < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    timeout(LIMIT, running).await.unwrap().unwrap().unwrap();
    let board = board.lock().unwrap();
    assert!(board.posted.iter().all(|event| event["type"] == "dats.task.rejected" && event["source"] == "/qa"));
    assert!(board.posted.iter().any(|event| event["data"]["artifact_id"] == "a-7"));
}
