//! `dats taint`, `dats suspect` and `dats clear`: what is said of a record.

use clap::Args;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{Screen, text};
use super::provenance::{change_table, items, list_line};
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The record, or an artifact it made.
    id: String,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    how: How,
}

// How it is said. No documentation: it would be shown as what the command does.
#[derive(Debug, Args)]
struct How {
    /// Change nothing, only show what would change.
    #[arg(long)]
    dry_run: bool,
    /// Look only so far.
    #[arg(long, value_name = "DEPTH", requires = "dry_run")]
    max_depth: Option<u32>,
    /// Cancel running tasks that use what is no longer clean.
    #[arg(long, conflicts_with = "dry_run")]
    cancel_running: bool,
    /// The record or artifact that it was concluded from.
    #[arg(long, value_name = "ID")]
    source_id: Option<String>,
    /// The id to find it by in the audit trail.
    #[arg(long, value_name = "ID")]
    cascade_id: Option<String>,
}

impl Arguments {
    fn body(&self) -> Value {
        let mut body = json!({"reason": self.reason});
        let How { dry_run, max_depth, cancel_running, source_id, cascade_id } = &self.how;
        let more = [
            ("dry_run", dry_run.then_some(Value::Bool(true))),
            ("cancel_running", cancel_running.then_some(Value::Bool(true))),
            ("max_depth", max_depth.map(Value::from)),
            ("source_id", source_id.as_deref().map(Value::from)),
            ("cascade_id", cascade_id.as_deref().map(Value::from)),
        ];
        for (key, value) in more {
            if let Some(value) = value {
                body[key] = value;
            }
        }
        body
    }
}

/// What is good after all: one record, or all that a cascade said.
#[derive(Debug, Args)]
pub(super) struct ClearArguments {
    /// The record, or an artifact it made.
    #[arg(required_unless_present = "cascade")]
    id: Option<String>,
    /// Take back all that this cascade or rollback said, and nothing else.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["id", "max_depth", "cancel_running", "source_id", "cascade_id"],
    )]
    cascade: Option<String>,
    /// Why, for the audit trail.
    #[arg(long, required_unless_present = "cascade")]
    reason: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn clear(session: &Session, arguments: ClearArguments) -> Result<(), Failure> {
    let ClearArguments { id, cascade, reason, how } = arguments;
    if let Some(cascade) = cascade {
        let mut body = json!({"dry_run": how.dry_run});
        if let Some(reason) = reason {
            body["reason"] = reason.into();
        }
        let answer = session.client.post(&format!("/cascades/{}/clear", segment(&cascade)), &body).await?;
        return session.screen.show(&answer, taken_back);
    }
    let (id, reason) = (id.unwrap_or_default(), reason.unwrap_or_default());
    let arguments = Arguments { id, reason, how };
    run(session, "clear", &arguments).await
}

fn taken_back(screen: &Screen, undone: &Value) -> String {
    let verb = if undone["dry_run"].as_bool() == Some(true) { "would be" } else { "were" };
    let lists = [("verdicts", "verdicts as before"), ("checkpoints", "checkpoints valid again")];
    let mut lines = vec![format!("{} facts {verb} taken back", text(&undone["facts"]))];
    for (name, what) in lists {
        lines.extend(list_line(what, items(&undone[name]), &Value::Null));
    }
    lines.push(shown(screen, undone));
    lines.join("\n")
}

/// `word` is the last part of the path: `taint`, `suspect` or `clear`.
pub(super) async fn run(session: &Session, word: &str, arguments: &Arguments) -> Result<(), Failure> {
    let path = format!("/provenance/{}/{word}", segment(&arguments.id));
    let answer = session.client.post(&path, &arguments.body()).await?;
    session.screen.show(&answer, shown)
}

fn shown(screen: &Screen, cascade: &Value) -> String {
    let counts = &cascade["counts"];
    let (first, verb) = match cascade["dry_run"].as_bool() {
        Some(true) => ("a dry run: nothing has changed", "would change"),
        _ => ("", "changed"),
    };
    let mut lines: Vec<String> = Vec::new();
    lines.extend((!first.is_empty()).then(|| first.to_owned()));
    let total = cascade["total"].as_u64().unwrap_or(0);
    lines.push(format!(
        "{total} {verb}: {} tainted, {} suspect, {} cleared; {} tasks in {} projects, down to depth {}",
        text(&counts["tainted"]),
        text(&counts["suspect"]),
        text(&counts["cleared"]),
        text(&counts["tasks"]),
        text(&counts["projects"]),
        text(&cascade["max_depth"]),
    ));
    lines.extend(cascade["cascade_id"].as_str().map(|id| format!("cascade {id}")));
    for (what, name) in [("running", "running_tasks"), ("cancelled", "cancelled")] {
        lines.extend(list_line(what, items(&cascade[name]), &counts[name]));
    }
    let affected = items(&cascade["affected"]);
    if !affected.is_empty() {
        lines.push(format!("\n{}", change_table(screen, affected)));
    }
    let rest = total.saturating_sub(u64::try_from(affected.len()).unwrap_or(u64::MAX));
    if rest > 0 {
        lines.push(format!("\nand {rest} more"));
    }
    lines.join("\n")
}
