//! `dats taint`, `dats suspect` and `dats clear`: set and clear the flags of a record.

use clap::Args;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{Screen, text};
use super::provenance::{change_table, items, list_line};
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats taint report-7 --reason \"wrong figures\" --dry-run")]
pub(super) struct Arguments {
    /// Id of the record, or of one of its artifacts.
    id: String,
    /// Reason, which is recorded in the audit trail.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    options: CascadeOptions,
}

// Options of a cascade. Not a doc comment, because clap would show it as the description of
// the command.
#[derive(Debug, Args)]
struct CascadeOptions {
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Most steps from the record to look at.
    #[arg(long, value_name = "DEPTH", requires = "dry_run")]
    max_depth: Option<u32>,
    /// Cancel running tasks whose inputs are no longer clean.
    #[arg(long, conflicts_with = "dry_run")]
    cancel_running: bool,
    /// Id of the record or artifact that is the reason.
    #[arg(long, value_name = "ID")]
    source_id: Option<String>,
    /// Id of the cascade in the audit trail; if not given, a new one.
    #[arg(long, value_name = "ID")]
    cascade_id: Option<String>,
}

impl Arguments {
    fn body(&self) -> Value {
        let mut body = json!({"reason": self.reason});
        let CascadeOptions { dry_run, max_depth, cancel_running, source_id, cascade_id } = &self.options;
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

/// Arguments of `dats clear`: one record, or a cascade.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dats clear report-7 --reason \"checked again\"\n  dats clear --cascade 01890a5d-ac96-774b-bcce-b302099a8057"
)]
pub(super) struct ClearArguments {
    /// Id of the record, or of one of its artifacts.
    #[arg(required_unless_present = "cascade")]
    id: Option<String>,
    /// Id of a cascade or rollback: undo all of its changes, and no others.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["id", "max_depth", "cancel_running", "source_id", "cascade_id"],
    )]
    cascade: Option<String>,
    /// Reason, which is recorded in the audit trail.
    #[arg(long, required_unless_present = "cascade")]
    reason: Option<String>,
    #[command(flatten)]
    options: CascadeOptions,
}

pub(super) async fn clear(session: &Session, arguments: ClearArguments) -> Result<(), Failure> {
    let ClearArguments { id, cascade, reason, options } = arguments;
    if let Some(cascade) = cascade {
        let mut body = json!({"dry_run": options.dry_run});
        if let Some(reason) = reason {
            body["reason"] = reason.into();
        }
        let answer = session.client.post(&format!("/cascades/{}/clear", segment(&cascade)), &body).await?;
        return session.screen.show(&answer, undo_text);
    }
    let (id, reason) = (id.unwrap_or_default(), reason.unwrap_or_default());
    let arguments = Arguments { id, reason, options };
    run(session, "clear", &arguments).await
}

fn undo_text(screen: &Screen, undone: &Value) -> String {
    let verb = if undone["dry_run"].as_bool() == Some(true) { "would be" } else { "were" };
    let lists = [("verdicts", "restored verdicts"), ("checkpoints", "valid checkpoints")];
    let mut lines = vec![format!("{} facts {verb} undone", text(&undone["facts"]))];
    for (name, what) in lists {
        lines.extend(list_line(what, items(&undone[name]), &Value::Null));
    }
    lines.push(cascade_text(screen, undone));
    lines.join("\n")
}

/// `action` is the last part of the path: `taint`, `suspect` or `clear`.
pub(super) async fn run(session: &Session, action: &str, arguments: &Arguments) -> Result<(), Failure> {
    let path = format!("/provenance/{}/{action}", segment(&arguments.id));
    let answer = session.client.post(&path, &arguments.body()).await?;
    session.screen.show(&answer, cascade_text)
}

fn cascade_text(screen: &Screen, cascade: &Value) -> String {
    let counts = &cascade["counts"];
    let (first, verb) = match cascade["dry_run"].as_bool() {
        Some(true) => ("dry run: nothing was changed", "would change"),
        _ => ("", "changed"),
    };
    let mut lines: Vec<String> = Vec::new();
    lines.extend((!first.is_empty()).then(|| first.to_owned()));
    let total = cascade["total"].as_u64().unwrap_or(0);
    lines.push(format!(
        "{total} {verb}: {} tainted, {} suspect, {} cleared; {} tasks in {} projects, to a depth of {}",
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
