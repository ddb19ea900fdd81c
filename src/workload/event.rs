//! `CloudEvents` as workers and QA send them over HTTP.

use std::time::Duration;

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Call, Client, Error};
use crate::clock::Clock;

/// How often an event is sent again to a server that is unreachable or overloaded.
const MAX_RETRIES: u32 = 60;
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Creates a `CloudEvent` in structured mode with a new id. `name` has no `dats.` prefix.
#[must_use]
pub(super) fn cloud_event(source: &str, name: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "type": format!("dats.{name}"),
        "source": source,
        "id": Uuid::now_v7().to_string(),
        "time": Clock::new().wall().to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// Returns the request that posts an event.
#[must_use]
pub(super) fn event_call(event: &Value) -> Call {
    Call::new(Method::POST, "/events").json(event).header(CONTENT_TYPE, "application/cloudevents+json")
}

/// Posts an event and returns its outcome. If the answer is lost, the event is sent again
/// under its id, by which the server recognises a duplicate.
pub(super) async fn post_event(client: &Client, event: &Value) -> Result<String, Error> {
    let mut retries = MAX_RETRIES;
    loop {
        match client.call(event_call(event)).await {
            Ok(answer) => return Ok(answer.json["outcome"].as_str().unwrap_or("accepted").to_owned()),
            Err(error) if error.is_transient() && retries > 0 => {
                retries -= 1;
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_complete() {
        let event = cloud_event("/worker", "task.failed", &json!({"task_id": "t"}));
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "dats.task.failed");
        assert_eq!(event["source"], "/worker");
        assert_eq!(event["data"]["task_id"], "t");
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
        assert!(Uuid::parse_str(event["id"].as_str().unwrap()).is_ok());
    }
}
