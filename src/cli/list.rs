//! `dats list`: lists tasks by filter, page by page.

use clap::Args;
use comfy_table::Cell;
use serde_json::Value;

use super::exit::Failure;
use super::output::{Format, Screen, line, shortened, status_cell, text};
use super::session::Session;
use crate::client::with_query;

/// Rows on a page with `--all`: the most that the server allows.
const FULL_PAGE: u32 = 1000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dats list --project billing --status failed\n  dats list --all --output json")]
pub(super) struct Arguments {
    /// Only tasks of this project.
    #[arg(long)]
    project: Option<String>,
    /// Only tasks in this status; may be given several times.
    #[arg(long, value_parser = ["pending", "running", "completed", "failed", "cancelled"])]
    status: Vec<String>,
    /// Only subtasks of this task.
    #[arg(long, value_name = "TASK")]
    parent: Option<String>,
    /// Only tasks of this tier.
    #[arg(long)]
    tier: Option<String>,
    /// Only tasks of this domain.
    #[arg(long)]
    domain: Option<String>,
    /// Only tasks submitted after this time.
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Only tasks submitted before this time.
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// Selects the part of a list to show.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// Rows on a page; 50 if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
    /// Continue after an earlier page.
    #[arg(long)]
    cursor: Option<String>,
    /// Show all pages; with JSON output, one page on each line.
    #[arg(long, conflicts_with = "cursor")]
    all: bool,
}

impl Arguments {
    fn query(&self) -> Vec<(&'static str, Option<String>)> {
        let status = (!self.status.is_empty()).then(|| self.status.join(","));
        vec![
            ("project_id", self.project.clone()),
            ("status", status),
            ("parent_id", self.parent.clone()),
            ("tier", self.tier.clone()),
            ("domain", self.domain.clone()),
            ("created_after", self.created_after.clone()),
            ("created_before", self.created_before.clone()),
        ]
    }
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    show_pages(session, "/tasks", arguments.query(), &arguments.page, |screen, page| {
        task_table(screen, page["tasks"].as_array().map_or(&[], Vec::as_slice))
    })
    .await
}

/// Shows one page of a list, or all of them.
pub(super) async fn show_pages(
    session: &Session,
    path: &str,
    mut query: Vec<(&'static str, Option<String>)>,
    page: &Page,
    render: impl Fn(&Screen, &Value) -> String,
) -> Result<(), Failure> {
    let limit = page.limit.or(page.all.then_some(FULL_PAGE));
    query.push(("limit", limit.map(|limit| limit.to_string())));
    query.push(("cursor", page.cursor.clone()));
    loop {
        let answer = session.client.get(&with_query(path, &query)).await?;
        session.screen.show(&answer, &render)?;
        let Some(next) = answer.json["next_cursor"].as_str() else {
            return Ok(());
        };
        if !page.all {
            return print_cursor(session, next);
        }
        query.pop();
        query.push(("cursor", Some(next.to_owned())));
    }
}

/// Prints how to show the next page; JSON output contains the cursor.
fn print_cursor(session: &Session, cursor: &str) -> Result<(), Failure> {
    match session.screen.format {
        Format::Json => Ok(()),
        Format::Table => line(&format!("\nmore follow: use --cursor {cursor}, or --all")),
    }
}

/// Formats tasks as a table.
pub(super) fn task_table(screen: &Screen, tasks: &[Value]) -> String {
    if tasks.is_empty() {
        return "no tasks".to_owned();
    }
    let headers = ["TASK", "PROJECT", "STATUS", "PRIORITY", "DOMAIN", "TIER", "ATTEMPTS", "CREATED", "DESCRIPTION"];
    let rows = tasks.iter().map(|task| {
        vec![
            Cell::new(text(&task["task_id"])),
            Cell::new(text(&task["project_id"])),
            status_cell(task),
            Cell::new(text(&task["priority"])),
            Cell::new(text(&task["domain"])),
            Cell::new(text(&task["tier"])),
            Cell::new(format!("{}/{}", text(&task["attempts"]), text(&task["max_attempts"]))),
            Cell::new(screen.time(&task["created_at"])),
            Cell::new(shortened(task["description"].as_str().unwrap_or_default())),
        ]
    });
    screen.table(&headers, rows.collect(), &["PROJECT", "PRIORITY", "DOMAIN", "ATTEMPTS", "CREATED", "TIER"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tasks_are_rows_with_a_short_description() {
        let screen = Screen {
            format: Format::Table,
            is_terminal: false,
            width: None,
            now: "2026-01-09T18:00:00Z".parse().unwrap(),
        };
        let task = json!({"task_id": "t-1", "project_id": "p", "status": "running", "phase": "leased",
            "priority": "normal", "domain": "analysis", "tier": "small", "attempts": 1, "max_attempts": 3,
            "created_at": "2026-01-09T17:00:00Z", "description": "many words ".repeat(9)});
        let table = task_table(&screen, &[task]);
        let row = table.lines().nth(1).unwrap();
        let columns: Vec<&str> = row.split_whitespace().take(8).collect();
        let expected = ["t-1", "p", "running/leased", "normal", "analysis", "small", "1/3", "2026-01-09T17:00:00Z"];
        assert_eq!(columns, expected);
        assert!(row.ends_with('…'), "{row}");
        assert_eq!(task_table(&screen, &[]), "no tasks");
    }
}
