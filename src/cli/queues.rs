//! `dats queues`: shows the work queues, and pauses and resumes tiers.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{Screen, text};
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dats queues\n  dats queues pause frontier")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the work queues, as `dats queues` without a subcommand does.
    #[command(after_help = "Example:\n  dats queues list")]
    List,
    /// Pause a tier: none of its tasks is dispatched or leased, running ones continue.
    #[command(after_help = "Example:\n  dats queues pause frontier")]
    Pause {
        /// Name of the tier.
        tier: String,
    },
    /// Resume a paused tier.
    #[command(after_help = "Example:\n  dats queues resume frontier")]
    Resume {
        /// Name of the tier.
        tier: String,
    },
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let (tier, verb) = match &arguments.action {
        None | Some(Action::List) => {
            let answer = session.client.get("/queues").await?;
            return session.screen.show(&answer, table);
        }
        Some(Action::Pause { tier }) => (tier, "pause"),
        Some(Action::Resume { tier }) => (tier, "resume"),
    };
    let answer = session.client.post(&format!("/queues/{}/{verb}", segment(tier)), &json!({})).await?;
    session.screen.show(&answer, |screen, queue| screen.details(queue, &["tier", "paused", "paused_at"]))
}

fn table(screen: &Screen, answer: &Value) -> String {
    let queues = answer["queues"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = queues.iter().map(|queue| {
        vec![
            Cell::new(text(&queue["tier"])),
            Cell::new(text(&queue["depth"])),
            Cell::new(text(&queue["leased"])),
            Cell::new(screen.time(&queue["oldest_ready_at"])),
            Cell::new(screen.time(&queue["paused_at"])),
        ]
    });
    screen.table(&["TIER", "WAITING", "LEASED", "OLDEST", "PAUSED"], rows.collect(), &["PAUSED"])
}
