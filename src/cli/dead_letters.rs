//! `dats dead-letters`: shows, requeues and discards events that could not be applied.

use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use hyper::Method;
use serde_json::{Value, json};

use super::args;
use super::exit::Failure;
use super::list::{Page, show_pages};
use super::output::{Format, Screen, line, shortened, text};
use super::session::Session;
use crate::client::{Call, segment, with_query};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List dead letters with their reasons.
    #[command(after_help = "Example:\n  dats dead-letters list --type task.validated --older-than 1h")]
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        page: Page,
    },
    /// Show a dead letter with the event as received.
    #[command(after_help = "Example:\n  dats dead-letters show 17")]
    Show {
        /// Number of the dead letter.
        id: String,
    },
    /// Apply a dead letter again, once its reason no longer exists.
    #[command(after_help = "Example:\n  dats dead-letters requeue 17")]
    Requeue {
        /// Number of the dead letter.
        id: String,
    },
    /// List removed dead letters, each with how it was removed: requeued, discarded, or dropped
    /// as the oldest of too many.
    #[command(after_help = "Example:\n  dats dead-letters removals --limit 10")]
    Removals {
        #[command(flatten)]
        page: Page,
    },
    /// Discard dead letters by their numbers, by a filter, or all of them.
    #[command(
        after_help = "Examples:\n  dats dead-letters discard 17 18\n  dats dead-letters discard --older-than 30d"
    )]
    Discard {
        /// Numbers of the dead letters.
        ids: Vec<String>,
        #[command(flatten)]
        filter: Filter,
        /// Discard all dead letters.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Selects dead letters that match every given flag.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only dead letters whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only events of this type, such as `task.validated`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only events from this source, such as `/qa`.
    #[arg(long)]
    source: Option<String>,
    /// Only events about this task.
    #[arg(long)]
    task: Option<String>,
    /// Only dead letters created after this time.
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Only dead letters created before this time.
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// Only dead letters older than this, such as 30d or 12h.
    #[arg(long, value_parser = args::duration)]
    older_than: Option<Duration>,
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("reason", self.reason.clone()),
            ("type", self.kind.clone()),
            ("source", self.source.clone()),
            ("task_id", self.task.clone()),
            ("created_after", self.created_after.clone()),
            ("created_before", self.created_before.clone()),
            ("older_than_seconds", self.older_than.map(|age| age.as_secs().to_string())),
        ]
    }

    fn is_empty(&self) -> bool {
        self.query().iter().all(|(_, value)| value.is_none())
    }
}

pub(super) async fn run(session: &Session, action: &Action) -> Result<(), Failure> {
    match action {
        Action::List { filter, page } => show_pages(session, "/dead-letters", filter.query(), page, table).await,
        Action::Removals { page } => {
            show_pages(session, "/dead-letters/removals", Vec::new(), page, removal_table).await
        }
        Action::Show { id } => {
            let letter = session.client.get(&format!("/dead-letters/{}", segment(id))).await?;
            session.screen.show(&letter, |screen, letter| {
                screen.details(letter, &["id", "time", "type", "source", "task_id", "reason", "raw"])
            })
        }
        Action::Requeue { id } => {
            let path = format!("/dead-letters/{}/requeue", segment(id));
            let answer = session.client.post(&path, &json!({})).await?;
            session.screen.show(&answer, |screen, outcome| screen.details(outcome, &["id", "outcome", "detail"]))
        }
        Action::Discard { ids, filter, all } => discard(session, ids, filter, *all).await,
    }
}

async fn discard(session: &Session, ids: &[String], filter: &Filter, all: bool) -> Result<(), Failure> {
    if ids.is_empty() {
        if filter.is_empty() && !all {
            let usage =
                "nothing selects dead letters: give their numbers, a filter such as --reason or --older-than, or --all";
            return Err(Failure::Usage(usage.to_owned()));
        }
        let mut query = filter.query();
        query.push(("all", all.then(|| "true".to_owned())));
        let call = Call::new(Method::DELETE, with_query("/dead-letters", &query));
        let answer = session.client.call(call).await?;
        return session.screen.show(&answer, |_, report| format!("{} discarded", text(&report["discarded"])));
    }
    if !filter.is_empty() {
        return Err(Failure::Usage("numbers and a filter can't be combined: give one of them".to_owned()));
    }
    for id in ids {
        session.client.call(Call::new(Method::DELETE, format!("/dead-letters/{}", segment(id)))).await?;
    }
    match session.screen.format {
        Format::Json => line(&json!({"discarded": ids.len()}).to_string()),
        Format::Table => line(&format!("{} discarded", ids.len())),
    }
}

fn removal_table(screen: &Screen, page: &Value) -> String {
    let removals = page["removals"].as_array().map_or(&[][..], Vec::as_slice);
    if removals.is_empty() {
        return "no removed dead letters".to_owned();
    }
    let run = |run: &Value| {
        let (first, last) = (text(&run["first"]), text(&run["last"]));
        if first == last { first } else { format!("{first}-{last}") }
    };
    let rows = removals.iter().map(|removal| {
        let runs = removal["dead_letters"].as_array().map_or(&[][..], Vec::as_slice);
        vec![
            Cell::new(screen.time(&removal["time"])),
            Cell::new(text(&removal["end"])),
            Cell::new(text(&removal["count"])),
            Cell::new(shortened(&runs.iter().map(run).collect::<Vec<_>>().join(", "))),
        ]
    });
    screen.table(&["TIME", "END", "COUNT", "DEAD LETTERS"], rows.collect(), &[])
}

fn table(screen: &Screen, page: &Value) -> String {
    let letters = page["dead_letters"].as_array().map_or(&[][..], Vec::as_slice);
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let rows = letters.iter().map(|letter| {
        vec![
            Cell::new(text(&letter["id"])),
            Cell::new(screen.time(&letter["time"])),
            Cell::new(text(&letter["type"])),
            Cell::new(text(&letter["source"])),
            Cell::new(shortened(letter["reason"].as_str().unwrap_or_default())),
        ]
    });
    screen.table(&["ID", "TIME", "TYPE", "SOURCE", "REASON"], rows.collect(), &["TYPE", "SOURCE"])
}
