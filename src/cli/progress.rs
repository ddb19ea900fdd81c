//! The steps of a task, as lines or as one live line on a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::exit::{Failure, warn};
use super::follow::{Step, follow_task};
use super::output::{Format, Screen, line, pairs};
use super::session::Session;
use crate::client::{Answer, segment};

/// Prints every step of a task on stdout until its end, and returns the finished task.
pub(super) async fn print_steps(session: &Session, id: &str) -> Result<Answer, Failure> {
    let screen = session.screen;
    follow_task(&session.client, id, async |step: Step| match screen.format {
        Format::Json => line(&step.text),
        Format::Table => line(&step_line(&step.json)),
    })
    .await
}

/// Waits for the end of a task with its progress on stderr, and returns the finished task.
pub(super) async fn wait(session: &Session, id: &str) -> Result<Answer, Failure> {
    if !std::io::stderr().is_terminal() || session.screen.format == Format::Json {
        return follow_task(&session.client, id, async |step: Step| {
            warn(&step_line(&step.json));
            Ok(())
        })
        .await;
    }
    let spinner = spinner();
    let path = format!("/tasks/{}", segment(id));
    let result = follow_task(&session.client, id, async |_| {
        // Steps do not contain what the task waits for.
        let task = session.client.get(&path).await?;
        spinner.set_message(headline(&task.json));
        Ok(())
    })
    .await;
    spinner.finish_and_clear();
    result
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {elapsed:>4}  {wide_msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// Formats phase and attempt, and what the task waits for.
fn headline(task: &Value) -> String {
    let attempt = match (task["attempts"].as_u64(), task["max_attempts"].as_u64()) {
        (Some(attempt @ 1..), Some(max)) => format!(", attempt {attempt} of {max}"),
        (Some(attempt @ 1..), None) => format!(", attempt {attempt}"),
        _ => String::new(),
    };
    let reason = task["waiting_for"].as_str().map(|reason| format!(" - {reason}"));
    format!("{}{attempt}{}", status_text(task), reason.unwrap_or_default())
}

/// Formats a step in aligned columns: time, event, status, attempt, detail.
pub(super) fn step_line(step: &Value) -> String {
    let time = step["time"].as_str().map_or("-", clock_time);
    let event = step["type"].as_str().map_or("-", |name| name.strip_prefix("dats.").unwrap_or(name));
    let attempt = match step["attempt"].as_u64() {
        Some(attempt) if attempt > 0 => format!("attempt {attempt}"),
        _ => String::new(),
    };
    let detail = pairs(&step["detail"]);
    format!("{time}  {event:24}  {:20}  {attempt:10}  {detail}", status_text(step)).trim_end().to_owned()
}

/// Formats the status as `status` or `status/phase`.
fn status_text(task: &Value) -> String {
    let status = task["status"].as_str().unwrap_or("-");
    match task["phase"].as_str() {
        Some(phase) if phase != status => format!("{status}/{phase}"),
        _ => status.to_owned(),
    }
}

/// Returns the time of day of an RFC 3339 time, to the millisecond.
pub(super) fn clock_time(time: &str) -> &str {
    let Some((_, clock)) = time.split_once('T') else {
        return time;
    };
    clock.get(..12).unwrap_or(clock).trim_end_matches('Z')
}

/// Fields of a task that are shown first.
const TASK_FIELDS: [&str; 14] = [
    "task_id",
    "project_id",
    "description",
    "status",
    "phase",
    "waiting_for",
    "error",
    "priority",
    "domain",
    "tier",
    "attempts",
    "max_attempts",
    "created_at",
    "started_at",
];

/// Formats all fields of a task.
pub(super) fn task_details(screen: &Screen, task: &Value) -> String {
    screen.details(task, &TASK_FIELDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_are_aligned_lines() {
        let step = json!({"seq": 3, "time": "2026-01-09T18:00:05.123456Z", "type": "task.leased", "task_id": "t",
            "status": "running", "phase": "leased", "attempt": 1, "detail": {"worker_id": "w-1", "x": null}});
        assert_eq!(
            step_line(&step),
            "18:00:05.123  task.leased               running/leased        attempt 1   worker_id=w-1"
        );
        let end = json!({"time": "2026-01-09T18:00:05Z", "type": "task.finished", "status": "completed",
            "phase": "completed", "attempt": 0, "detail": null});
        assert_eq!(step_line(&end), "18:00:05  task.finished             completed");
    }

    #[test]
    fn the_headline_shows_what_a_task_waits_for() {
        let task = json!({"status": "pending", "phase": "blocked", "attempts": 0, "waiting_for": "task x"});
        assert_eq!(headline(&task), "pending/blocked - task x");
        let task = json!({"status": "running", "phase": "leased", "attempts": 2, "max_attempts": 3});
        assert_eq!(headline(&task), "running/leased, attempt 2 of 3");
    }
}
