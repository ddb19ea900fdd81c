//! `dats events`: shows or follows the event log.

use clap::Args;
use serde_json::Value;

use super::exit::{Failure, warn};
use super::follow::PATIENCE;
use super::output::{Format, Screen, line, pairs};
use super::progress::clock_time;
use super::session::Session;
use crate::client::{Error, with_query};
use crate::client::{Follower, RECONNECT_PAUSE};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dats events --project billing --types task.finished,task.backoff\n  dats events --follow"
)]
pub(super) struct Arguments {
    /// Print new events as they arrive, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// Only events of these types, separated by commas, such as task.finished.
    #[arg(long)]
    types: Option<String>,
    /// Only events of this project.
    #[arg(long)]
    project: Option<String>,
    /// Only events of this task.
    #[arg(long)]
    task: Option<String>,
    /// Only events after this sequence number.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Most events to print, without --follow.
    #[arg(long, conflicts_with = "follow", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let path = with_query(
        "/events",
        &[
            ("types", arguments.types.clone()),
            ("project_id", arguments.project.clone()),
            ("task_id", arguments.task.clone()),
            ("after", arguments.after.map(|after| after.to_string())),
            ("limit", arguments.limit.map(|limit| limit.to_string())),
        ],
    );
    if arguments.follow {
        return follow(session, path).await;
    }
    let call = crate::client::Call::new(http::Method::GET, path).header(http::header::ACCEPT, "application/json");
    let answer = session.client.call(call).await?;
    session.screen.show(&answer, page)
}

async fn follow(session: &Session, path: String) -> Result<(), Failure> {
    let mut follower = Follower::new(session.client.clone(), path, None, PATIENCE);
    loop {
        // The server ended the connection; the next call resumes.
        let Some(event) = follower.next().await? else {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        };
        if event.event == "reset" {
            warn("some events are no longer in the log; continuing with the oldest that is");
            continue;
        }
        if session.screen.format == Format::Json {
            line(&event.data)?;
            continue;
        }
        let json = serde_json::from_str(&event.data)
            .map_err(|error| Error::Protocol(format!("an event is not JSON: {error}")))?;
        line(&event_line(&json))?;
    }
}

fn page(_: &Screen, page: &Value) -> String {
    let events = page["events"].as_array().map_or(&[][..], Vec::as_slice);
    if events.is_empty() {
        return "no events".to_owned();
    }
    // Each entry holds an event and its position in the log.
    events.iter().map(|entry| event_line(&entry["event"])).collect::<Vec<_>>().join("\n")
}

/// Formats a `CloudEvent` in aligned columns: time, type, task, remaining data.
pub(super) fn event_line(event: &Value) -> String {
    let time = event["time"].as_str().map_or("-", clock_time);
    let name = event_name(event);
    let mut data = event["data"].clone();
    let task = data["task_id"].as_str().unwrap_or("-").to_owned();
    if let Some(fields) = data.as_object_mut() {
        // The task has its own column; contents and contexts are too long for a line.
        fields.retain(|key, value| key != "task_id" && !value.is_object() && !value.is_array());
    }
    let rest: String = pairs(&data).chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect();
    format!("{time}  {name:24}  {task:36}  {rest}").trim_end().to_owned()
}

/// Returns the type of an event without the common prefix.
pub(super) fn event_name(event: &Value) -> &str {
    let name = event["type"].as_str().unwrap_or("-");
    name.strip_prefix("dats.").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_aligned_lines() {
        let event = json!({"time": "2026-01-09T18:00:05.123456Z", "type": "dats.task.finished",
            "data": {"task_id": "t", "status": "completed", "error": null, "context": {"x": 1}}});
        let expected = format!("18:00:05.123  task.finished             t{:35}  status=completed", "");
        assert_eq!(event_line(&event), expected);
    }
}
