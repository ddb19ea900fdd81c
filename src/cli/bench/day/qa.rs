//! QA: takes two of three outputs, asks a person about some, and says some things twice.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::ledger::{End, Ledger};
use super::work::deliver;
use super::world::World;
use crate::cli::simulate::message::cloud_event;
use crate::workload::{Day, Hour, Random};

/// Pause while there is nothing to look at.
const IDLE: Duration = Duration::from_millis(50);
/// What a verdict takes at most.
const LOOKING: Duration = Duration::from_millis(300);

/// Gives verdicts until the end of the day.
pub(super) async fn run(world: Arc<World>, mut random: Random) {
    while !world.is_ended() {
        let Some(waiting) = world.next_for_qa() else {
            sleep(IDLE).await;
            continue;
        };
        if world.hour() != Hour::Rush && world.is_working() {
            sleep(random.time(LOOKING)).await;
        }
        if random.chance(4) {
            review(&world, &waiting.task, &waiting.artifact, &mut random).await;
            continue;
        }
        let is_accepted = !world.is_working() || Day::is_accepted(&mut random);
        say(&world, &waiting.task, &waiting.artifact, is_accepted).await;
        if random.chance(5) {
            // Its opposite, too late.
            say(&world, &waiting.task, &waiting.artifact, !is_accepted).await;
        }
    }
}

/// One verdict.
pub(super) async fn say(world: &World, task: &str, artifact: &str, is_accepted: bool) {
    let event = if is_accepted {
        let data = json!({
            "task_id": task, "artifact_id": artifact, "score": 0.9, "validators": ["day"], "profile": "consensus",
            "validation_id": Uuid::now_v7().to_string(),
        });
        cloud_event("/day/qa", "task.validated", &data)
    } else {
        let data = json!({"task_id": task, "artifact_id": artifact, "issues": ["an edge case is missing"]});
        cloud_event("/day/qa", "task.rejected", &data)
    };
    let before = world.ledger().before(task, "");
    let Some(delivered) = deliver(world, "verdict", &event).await else { return };
    let now = world.now();
    let mut result = Ledger::after_end(task, before, &delivered.outcome);
    if result.is_ok() && is_accepted && delivered.outcome == "applied" {
        result = world.ledger().ended(task, End::Completed, now);
    }
    world.check(result, &delivered.reply);
}

/// A person is asked, and says what they think.
async fn review(world: &World, task: &str, artifact: &str, random: &mut Random) {
    let review = Uuid::now_v7().to_string();
    let data = json!({
        "review_id": review, "reason": "validators disagree", "priority": "normal",
        "task_id": task, "artifact_id": artifact,
    });
    let asked = deliver(world, "review", &cloud_event("/day/qa", "review.requested", &data)).await;
    if asked.is_none() {
        return;
    }
    sleep(random.time(LOOKING)).await;
    let is_approved = !world.is_working() || Day::is_accepted(random);
    let data = json!({
        "review_id": review, "decision": if is_approved { "approved" } else { "changes_requested" },
        "reviewer_id": "day", "comments": "seen", "task_id": task, "artifact_id": artifact,
    });
    let before = world.ledger().before(task, "");
    let said = deliver(world, "review", &cloud_event("/day/reviewer", "review.completed", &data)).await;
    let Some(said) = said else { return };
    let now = world.now();
    let mut result = Ledger::after_end(task, before, &said.outcome);
    if result.is_ok() && is_approved && said.outcome == "applied" {
        result = world.ledger().ended(task, End::Completed, now);
    }
    world.check(result, &said.reply);
}
