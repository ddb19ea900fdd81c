//! `dats rollback`: rolls a project back to a checkpoint.

use clap::Args;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{Screen, text};
use super::provenance::{change_table, items, list_line};
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  dats rollback 01890a5d-ac96-774b-bcce-b302099a8057 --reason \"wrong input\" --dry-run"
)]
pub(super) struct Arguments {
    /// Id of the checkpoint; `dats checkpoint list` shows it.
    checkpoint: String,
    /// Reason, which is recorded in the audit trail.
    #[arg(long)]
    reason: String,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Submit the tasks again whose results are tainted.
    #[arg(long)]
    requeue: bool,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let path = format!("/checkpoints/{}/rollback", segment(&arguments.checkpoint));
    let body = json!({"reason": arguments.reason, "dry_run": arguments.dry_run, "requeue": arguments.requeue});
    let answer = session.client.post(&path, &body).await?;
    session.screen.show(&answer, rollback_text)
}

fn rollback_text(screen: &Screen, rollback: &Value) -> String {
    let counts = &rollback["counts"];
    let number = |name: &str| text(&counts[name]);
    let is_dry = rollback["dry_run"].as_bool().unwrap_or(false);
    let mut lines = Vec::new();
    lines.extend(is_dry.then(|| "dry run: nothing was changed".to_owned()));
    let verb = if is_dry { "would be" } else { "were" };
    let is_empty = |count: &Value| count.as_u64() == Some(0);
    if counts.as_object().is_some_and(|counts| counts.values().all(is_empty)) {
        lines.push("there is nothing to change".to_owned());
        return lines.join("\n");
    }
    lines.push(format!(
        "records of {}: {} {verb} tainted, {} suspect in {} projects, to a depth of {}",
        text(&rollback["project_id"]),
        number("tainted"),
        number("suspect"),
        number("projects"),
        text(&rollback["max_depth"]),
    ));
    lines.push(format!(
        "tasks: {} {verb} cancelled, {} of {} to repeat {verb} submitted, {} can't be; checkpoints: {} {verb} invalidated",
        number("cancelled"),
        number("requeued"),
        number("to_rerun"),
        number("not_requeued"),
        number("invalidated"),
    ));
    lines.extend(rollback["cascade_id"].as_str().map(|id| format!("cascade {id}")));
    let submitted = items(&rollback["requeued"]).iter().any(|each| each["task_id"].is_string());
    let lists = [
        ("cancelled", "cancelled"),
        ("running with inputs that are no longer clean", "running_tasks"),
        ("open, although an earlier result is tainted", "still_open"),
        ("to repeat", if submitted { "" } else { "to_rerun" }),
        ("of unknown description", "not_requeued"),
    ];
    for (what, name) in lists {
        lines.extend(list_line(what, items(&rollback[name]), &counts[name]));
    }
    for each in items(&rollback["requeued"]).iter().filter(|each| each["task_id"].is_string()) {
        lines.push(format!("{} submitted again as {}", text(&each["rerun_of"]), text(&each["task_id"])));
    }
    let affected = items(&rollback["affected"]);
    if !affected.is_empty() {
        lines.push(format!("\n{}", change_table(screen, affected)));
    }
    let shown = u64::try_from(affected.len()).unwrap_or(u64::MAX);
    let rest = rollback["total"].as_u64().unwrap_or(0).saturating_sub(shown);
    if rest > 0 {
        lines.push(format!("\nand {rest} more"));
    }
    lines.join("\n")
}
