//! Follows a task to its end.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::exit::Failure;
use crate::client::{Client, Error, Follower, RECONNECT_PAUSE, segment};

/// How long a command retries while the server is unreachable.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A step in the life of a task, from its stream.
#[derive(Debug)]
pub(super) struct Step {
    /// The JSON as received.
    pub(super) text: String,
    /// The parsed JSON.
    pub(super) json: Value,
}

/// Follows a task to its end, calls `on_step` with each step, and returns the finished task.
pub(super) async fn follow_task<F>(client: &Client, id: &str, mut on_step: F) -> Result<crate::client::Answer, Failure>
where
    F: AsyncFnMut(Step) -> Result<(), Failure>,
{
    let path = format!("/tasks/{}", segment(id));
    let mut follower = Follower::new(client.clone(), format!("{path}/stream"), None, PATIENCE);
    loop {
        while let Some(event) = follower.next().await? {
            let json = serde_json::from_str(&event.data)
                .map_err(|error| Error::Protocol(format!("an event is not JSON: {error}")))?;
            on_step(Step { text: event.data, json }).await?;
        }
        // The stream also ends when the server stops, so the status decides.
        let answer = client.get(&path).await?;
        if is_terminal(&answer.json) {
            return Ok(answer);
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Returns whether the status of a task is final.
pub(super) fn is_terminal(task: &Value) -> bool {
    matches!(task["status"].as_str(), Some("completed" | "failed" | "cancelled"))
}

/// Converts the status of a finished task to the result of a command.
pub(super) fn outcome(task: &Value) -> Result<(), Failure> {
    let id = task["task_id"].as_str().unwrap_or("?");
    match task["status"].as_str() {
        Some(status @ ("failed" | "cancelled")) => {
            let reason = reason(&task["error"]).map(|text| format!(": {text}")).unwrap_or_default();
            let verb = if status == "failed" { "failed" } else { "was cancelled" };
            Err(Failure::Failed(format!("task {id} {verb}{reason}")))
        }
        _ => Ok(()),
    }
}

/// Returns the text of a task's `error`, which is a string or an object with a message.
pub(super) fn reason(error: &Value) -> Option<String> {
    match error {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(match (other["code"].as_str(), other["message"].as_str()) {
            (Some(code), Some(message)) => format!("{message} ({code})"),
            (None, Some(message)) => message.to_owned(),
            _ => other.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outcome_names_the_reason() {
        assert!(outcome(&json!({"task_id": "t", "status": "completed"})).is_ok());
        let task = json!({"task_id": "t", "status": "failed", "error": {"code": "timeout", "message": "too slow"}});
        assert_eq!(outcome(&task).unwrap_err().to_string(), "task t failed: too slow (timeout)");
        let task = json!({"task_id": "t", "status": "cancelled", "error": null});
        assert_eq!(outcome(&task).unwrap_err().to_string(), "task t was cancelled");
    }
}
