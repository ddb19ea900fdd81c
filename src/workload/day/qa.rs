//! QA: accepts two of three outputs, requests a review of some, and sends some verdicts
//! twice.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::context::Context;
use super::delivery::send_event;
use super::ledger::{End, Ledger};
use super::plan::{Day, Hour};
use super::verdicts::send_verdict;
use crate::workload::event::cloud_event;
use crate::workload::random::Random;

/// Pause while no output waits for a verdict.
const IDLE: Duration = Duration::from_millis(50);
/// Longest time for a verdict.
const MAX_VERDICT_TIME: Duration = Duration::from_millis(300);

/// Sends verdicts until the end of the day.
pub(super) async fn run(context: Arc<Context>, mut random: Random) {
    while !context.is_ended() {
        let Some(output) = context.next_for_qa() else {
            sleep(IDLE).await;
            continue;
        };
        if context.hour() != Hour::Rush && context.is_working() {
            sleep(random.time(MAX_VERDICT_TIME)).await;
        }
        if random.chance(4) {
            review(&context, &output.task, &output.artifact, &mut random).await;
            continue;
        }
        let is_accepted = !context.is_working() || Day::is_accepted(&mut random);
        send_verdict(&context, &output.task, &output.artifact, is_accepted).await;
        if random.chance(5) {
            // The opposite verdict, too late to have an effect.
            send_verdict(&context, &output.task, &output.artifact, !is_accepted).await;
        }
    }
}

/// Requests a review by a person and sends its result.
async fn review(context: &Context, task: &str, artifact: &str, random: &mut Random) {
    let review = Uuid::now_v7().to_string();
    let data = json!({
        "review_id": review, "reason": "validators disagree", "priority": "normal",
        "task_id": task, "artifact_id": artifact,
    });
    let requested = send_event(context, "review", &cloud_event("/day/qa", "review.requested", &data)).await;
    if requested.is_none() {
        return;
    }
    sleep(random.time(MAX_VERDICT_TIME)).await;
    let is_approved = !context.is_working() || Day::is_accepted(random);
    let data = json!({
        "review_id": review, "decision": if is_approved { "approved" } else { "changes_requested" },
        "reviewer_id": "day", "comments": "seen", "task_id": task, "artifact_id": artifact,
    });
    let before = context.ledger().known_before(task, "");
    let answer = send_event(context, "review", &cloud_event("/day/reviewer", "review.completed", &data)).await;
    let Some(answer) = answer else { return };
    let now = context.now();
    let mut result = Ledger::check_after_end(task, before, &answer.outcome);
    if result.is_ok() && is_approved && answer.outcome == "applied" {
        result = context.ledger().record_end(task, End::Completed, now);
    }
    context.check(result, &answer.reply);
}
