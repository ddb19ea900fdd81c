//! The stand-in for the QA service. It follows outputs and answers each with a verdict,
//! some of them after a review by a person.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chance::{Chance, parse_rate};
use crate::client::{Client, Follower, RECONNECT_PAUSE, with_query};
use crate::workload::console::Console;
use crate::workload::error::Error;
use crate::workload::event::{cloud_event, post_event};

/// Most verdicts under way at once.
const MAX_CONCURRENT: usize = 64;
/// How long an unreachable server is retried, as the real service would.
const PATIENCE: Duration = Duration::from_hours(24);

/// Settings of the stand-in, which are also the flags of `dats simulate qa`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Latency of a verdict, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub latency_ms: u64,
    /// Share of outputs to reject, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = parse_rate)]
    pub rejection_rate: f64,
    /// Share of outputs that a person reviews before the verdict, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = parse_rate)]
    pub review_rate: f64,
    /// Seed of the decisions: the same seed decides the same for the same tasks.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Start after this sequence number of the event log.
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Print only errors.
    #[arg(long)]
    pub quiet: bool,
    /// Ids of tasks whose first attempt is rejected whatever the rate.
    #[arg(skip)]
    pub reject_first: BTreeSet<String>,
}

/// The decision about an output.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decision {
    is_rejected: bool,
    is_reviewed: bool,
    score: f64,
}

/// Answers outputs until `stop`, then finishes the verdicts under way.
pub async fn run(client: Client, settings: Settings, console: Console, stop: CancellationToken) -> Result<(), Error> {
    let query =
        [("types", Some("task.output.created".to_owned())), ("after", settings.after.map(|after| after.to_string()))];
    let mut follower = Follower::new(client.clone(), with_query("/events", &query), None, PATIENCE);
    let settings = Arc::new(settings);
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut verdicts = JoinSet::new();
    loop {
        let event = tokio::select! {
            event = follower.next() => event?,
            () = stop.cancelled() => break,
        };
        let Some(event) = event else {
            sleep(RECONNECT_PAUSE).await;
            continue;
        };
        let Ok(output) = serde_json::from_str::<Value>(&event.data) else {
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let (client, settings) = (client.clone(), Arc::clone(&settings));
        verdicts.spawn(async move {
            send_verdict(&client, &settings, console, &output["data"]).await;
            drop(permit);
        });
        while verdicts.try_join_next().is_some() {}
    }
    while verdicts.join_next().await.is_some() {}
    Ok(())
}

/// Sends the verdict on one output.
async fn send_verdict(client: &Client, settings: &Settings, console: Console, output: &Value) {
    let Some(task_id) = output["task_id"].as_str() else {
        return;
    };
    let decision = decide(settings, task_id, output["attempt"].as_u64().unwrap_or(1));
    for Message { source, name, data } in messages(&decision, output) {
        sleep(Duration::from_millis(settings.latency_ms)).await;
        match post_event(client, &cloud_event(source, name, &data)).await {
            Ok(_) if settings.quiet => {}
            Ok(outcome) => (console.line)(&format!("{task_id}  {name:16}  {outcome}")),
            Err(error) => {
                (console.warn)(&format!("task {task_id}: {error}"));
                return;
            }
        }
    }
}

fn decide(settings: &Settings, task_id: &str, attempt: u64) -> Decision {
    let mut chance = Chance::new(settings.seed, "qa", task_id, attempt);
    let is_scripted = attempt == 1 && settings.reject_first.contains(task_id);
    let is_rejected = chance.hits(settings.rejection_rate) || is_scripted;
    let is_reviewed = chance.hits(settings.review_rate);
    let score = if is_rejected { chance.share(20, 55) } else { chance.share(80, 99) };
    Decision { is_rejected, is_reviewed, score }
}

/// An event that the stand-in sends.
struct Message {
    source: &'static str,
    /// Type of the event, without the prefix `dats.`.
    name: &'static str,
    data: Value,
}

impl Message {
    const fn new(name: &'static str, data: Value) -> Self {
        Self { source: "/qa", name, data }
    }
}

/// Returns the events for a decision, in the order in which they are sent.
fn messages(decision: &Decision, output: &Value) -> Vec<Message> {
    let (task_id, artifact_id) = (&output["task_id"], &output["artifact_id"]);
    let issues = ["the simulated reviewer found an unhandled edge case"];
    if decision.is_reviewed {
        let review_id = Uuid::now_v7().to_string();
        let verdict = if decision.is_rejected { "rejected" } else { "approved" };
        let comments = if decision.is_rejected { issues[0] } else { "looks good" };
        return vec![
            Message::new(
                "review.requested",
                json!({
                    "review_id": review_id, "reason": "validators disagree", "priority": "normal",
                    "task_id": task_id, "artifact_id": artifact_id,
                }),
            ),
            Message::new(
                "review.completed",
                json!({
                    "review_id": review_id, "decision": verdict, "reviewer_id": "simulated-reviewer",
                    "task_id": task_id, "artifact_id": artifact_id, "comments": comments,
                }),
            ),
        ];
    }
    if decision.is_rejected {
        let data = json!({
            "task_id": task_id, "artifact_id": artifact_id, "issues": issues, "score": decision.score,
            "reason": "the output does not meet its profile",
        });
        return vec![Message::new("task.rejected", data)];
    }
    let data = json!({
        "task_id": task_id, "artifact_id": artifact_id, "score": decision.score,
        "validation_id": Uuid::now_v7().to_string(), "validators": ["simulated"], "profile": "consensus",
    });
    vec![Message::new("task.validated", data)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rejection_rate: f64, review_rate: f64) -> Settings {
        Settings {
            latency_ms: 0,
            rejection_rate,
            review_rate,
            seed: 3,
            after: None,
            quiet: true,
            reject_first: BTreeSet::from(["scripted".to_owned()]),
        }
    }

    fn names(rejection_rate: f64, review_rate: f64, task: &str, attempt: u64) -> Vec<&'static str> {
        let decision = decide(&settings(rejection_rate, review_rate), task, attempt);
        messages(&decision, &json!({"task_id": task, "artifact_id": "a"})).iter().map(|message| message.name).collect()
    }

    #[test]
    fn rates_choose_the_verdict() {
        assert_eq!(names(0.0, 0.0, "t", 1), ["task.validated"]);
        assert_eq!(names(1.0, 0.0, "t", 1), ["task.rejected"]);
        assert_eq!(names(0.0, 1.0, "t", 1), ["review.requested", "review.completed"]);
    }

    #[test]
    fn decisions_repeat_and_follow_their_rate() {
        let settings = settings(0.5, 0.0);
        let rejected = |task: u32| decide(&settings, &task.to_string(), 1).is_rejected;
        let count = (0..200).filter(|task| rejected(*task)).count();
        assert!((60..140).contains(&count), "{count}");
        assert!((0..50).all(|task| rejected(task) == rejected(task)));
    }

    #[test]
    fn a_scripted_task_is_rejected_once() {
        assert_eq!(names(0.0, 0.0, "scripted", 1), ["task.rejected"]);
        assert_eq!(names(0.0, 0.0, "scripted", 2), ["task.validated"]);
    }
}
