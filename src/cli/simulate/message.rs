//! `CloudEvents` as the neighbours send them.

use std::time::Duration;

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::cli::client::{Call, Client, Error};
use crate::cli::follow::is_passing;
use crate::cli::output::now;

/// Times a message is sent again to a server that is away.
const RETRIES: u32 = 60;
/// Pause between them.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A `CloudEvent` in structured mode. `name` is without the `dats.` prefix.
pub(in crate::cli) fn cloud_event(source: &str, name: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "type": format!("dats.{name}"),
        "source": source,
        "id": Uuid::now_v7().to_string(),
        "time": now().to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// Posts an event and gives its outcome. A message whose answer was lost is
/// sent again under its id, which the server knows as a duplicate.
pub(in crate::cli) async fn post(client: &Client, event: &Value) -> Result<String, Error> {
    let mut retries = RETRIES;
    loop {
        let call = Call::new(Method::POST, "/events").json(event).header(CONTENT_TYPE, "application/cloudevents+json");
        match client.call(call).await {
            Ok(answer) => return Ok(answer.json["outcome"].as_str().unwrap_or("accepted").to_owned()),
            Err(error) if is_passing(&error) && retries > 0 => {
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
