//! The QA service's stand-in: follows outputs and answers each with a
//! verdict, some of them through a person's review.

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

use super::chance::Chance;
use super::message::{cloud_event, post};
use crate::cli::args;
use crate::cli::client::{Client, with_query};
use crate::cli::exit::{Failure, warn};
use crate::cli::follow::{Follower, RECONNECT_PAUSE};
use crate::cli::output::line;

/// Verdicts under way at once.
const CONCURRENCY: usize = 64;
/// How long a server may be away: a stand-in waits for it like the real one.
const PATIENCE: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Arguments {
    /// What a verdict takes, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub(in crate::cli) latency_ms: u64,
    /// Share of outputs that are rejected, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = args::rate)]
    pub(in crate::cli) rejection_rate: f64,
    /// Share of outputs that a person reviews first, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = args::rate)]
    pub(in crate::cli) review_rate: f64,
    /// The same seed decides the same about the same tasks.
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Begin after this sequence number of the event log.
    #[arg(long, value_name = "SEQ")]
    pub(in crate::cli) after: Option<u64>,
    /// Print nothing but errors.
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
    /// Tasks whose first attempt is rejected whatever the rate says.
    #[arg(skip)]
    pub(in crate::cli) reject_first: BTreeSet<String>,
}

/// What a stand-in says about an output.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decision {
    is_rejected: bool,
    is_reviewed: bool,
    score: f64,
}

/// Answers outputs until `stop`.
pub(in crate::cli) async fn run(client: Client, arguments: Arguments, stop: CancellationToken) -> Result<(), Failure> {
    let query =
        [("types", Some("task.output.created".to_owned())), ("after", arguments.after.map(|after| after.to_string()))];
    let mut follower = Follower::new(client.clone(), with_query("/events", &query), None, PATIENCE);
    let arguments = Arc::new(arguments);
    let hands = Arc::new(Semaphore::new(CONCURRENCY));
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
        let Ok(hand) = Arc::clone(&hands).acquire_owned().await else {
            break;
        };
        let (client, arguments) = (client.clone(), Arc::clone(&arguments));
        verdicts.spawn(async move {
            answer(&client, &arguments, &output["data"]).await;
            drop(hand);
        });
        while verdicts.try_join_next().is_some() {}
    }
    while verdicts.join_next().await.is_some() {}
    Ok(())
}

/// Sends the verdict on one output.
async fn answer(client: &Client, arguments: &Arguments, output: &Value) {
    let Some(task_id) = output["task_id"].as_str() else {
        return;
    };
    let decision = decide(arguments, task_id, output["attempt"].as_u64().unwrap_or(1));
    let messages = messages(&decision, output);
    for (source, name, data) in messages {
        sleep(Duration::from_millis(arguments.latency_ms)).await;
        match post(client, &cloud_event(source, name, &data)).await {
            Ok(_) if arguments.quiet => {}
            Ok(outcome) => {
                // A closed stdout must not stop verdicts the server waits for.
                let _ = line(&format!("{task_id}  {name:16}  {outcome}"));
            }
            Err(error) => {
                warn(&format!("task {task_id}: {error}"));
                return;
            }
        }
    }
}

fn decide(arguments: &Arguments, task_id: &str, attempt: u64) -> Decision {
    let mut chance = Chance::new(arguments.seed, "qa", task_id, attempt);
    let is_scripted = attempt == 1 && arguments.reject_first.contains(task_id);
    let is_rejected = chance.hits(arguments.rejection_rate) || is_scripted;
    let is_reviewed = chance.hits(arguments.review_rate);
    let score = if is_rejected { chance.share(20, 55) } else { chance.share(80, 99) };
    Decision { is_rejected, is_reviewed, score }
}

/// What is sent for a decision, in order: (source, event, data).
fn messages(decision: &Decision, output: &Value) -> Vec<(&'static str, &'static str, Value)> {
    let (task_id, artifact_id) = (&output["task_id"], &output["artifact_id"]);
    let issues = ["the simulated reviewer found an unhandled edge case"];
    if decision.is_reviewed {
        let review_id = Uuid::now_v7().to_string();
        let verdict = if decision.is_rejected { "rejected" } else { "approved" };
        let comments = if decision.is_rejected { issues[0] } else { "looks good" };
        return vec![
            (
                "/qa",
                "review.requested",
                json!({
                    "review_id": review_id, "reason": "validators disagree", "priority": "normal",
                    "task_id": task_id, "artifact_id": artifact_id,
                }),
            ),
            (
                "/qa",
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
        return vec![("/qa", "task.rejected", data)];
    }
    let data = json!({
        "task_id": task_id, "artifact_id": artifact_id, "score": decision.score,
        "validation_id": Uuid::now_v7().to_string(), "validators": ["simulated"], "profile": "consensus",
    });
    vec![("/qa", "task.validated", data)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(rejection_rate: f64, review_rate: f64) -> Arguments {
        Arguments {
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
        let decision = decide(&arguments(rejection_rate, review_rate), task, attempt);
        messages(&decision, &json!({"task_id": task, "artifact_id": "a"})).iter().map(|message| message.1).collect()
    }

    #[test]
    fn rates_choose_the_verdict() {
        assert_eq!(names(0.0, 0.0, "t", 1), ["task.validated"]);
        assert_eq!(names(1.0, 0.0, "t", 1), ["task.rejected"]);
        assert_eq!(names(0.0, 1.0, "t", 1), ["review.requested", "review.completed"]);
    }

    #[test]
    fn decisions_repeat_and_hold_their_rate() {
        let arguments = arguments(0.5, 0.0);
        let rejected = |task: u32| decide(&arguments, &task.to_string(), 1).is_rejected;
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
