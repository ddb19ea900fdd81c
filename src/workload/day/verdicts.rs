//! Verdicts of QA.

use serde_json::json;
use uuid::Uuid;

use super::context::Context;
use super::delivery::send_event;
use super::ledger::{End, Ledger};
use crate::workload::event::cloud_event;

/// Sends a verdict on an output and checks its outcome.
pub(super) async fn send_verdict(context: &Context, task: &str, artifact: &str, is_accepted: bool) {
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
    let before = context.ledger().known_before(task, "");
    let Some(answer) = send_event(context, "verdict", &event).await else { return };
    let now = context.now();
    let mut result = Ledger::check_after_end(task, before, &answer.outcome);
    if result.is_ok() && is_accepted && answer.outcome == "applied" {
        result = context.ledger().record_end(task, End::Completed, now);
    }
    context.check(result, &answer.reply);
}
