//! `dats dead-letters`: messages that could not be taken.

use clap::Subcommand;
use comfy_table::Cell;
use serde_json::{Value, json};

use super::Session;
use super::client::segment;
use super::exit::Failure;
use super::list::{Page, show_pages};
use super::output::{Screen, shortened, text};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List them with their reasons.
    List(Page),
    /// Show one, with the message as it came.
    Show {
        /// The dead letter.
        id: String,
    },
    /// Take one in again, now that its reason is gone.
    Requeue {
        /// The dead letter.
        id: String,
    },
}

pub(super) async fn run(session: &Session, action: &Action) -> Result<(), Failure> {
    match action {
        Action::List(page) => show_pages(session, "/dead-letters", Vec::new(), page, table).await,
        Action::Show { id } => {
            let letter = session.client.get(&format!("/dead-letters/{}", segment(id))).await?;
            session
                .screen
                .show(&letter, |screen, letter| screen.details(letter, &["id", "time", "task_id", "reason", "raw"]))
        }
        Action::Requeue { id } => {
            let path = format!("/dead-letters/{}/requeue", segment(id));
            let answer = session.client.post(&path, &json!({})).await?;
            session.screen.show(&answer, |screen, outcome| screen.details(outcome, &["id", "outcome", "detail"]))
        }
    }
}

fn table(screen: &Screen, page: &Value) -> String {
    let letters = page["dead_letters"].as_array().map_or(&[][..], Vec::as_slice);
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let rows = letters.iter().map(|letter| {
        let time = ["created_at", "time", "at"].iter().map(|key| &letter[*key]).find(|value| !value.is_null());
        vec![
            Cell::new(text(&letter["id"])),
            Cell::new(screen.time(time.unwrap_or(&Value::Null))),
            Cell::new(text(&letter["type"])),
            Cell::new(shortened(letter["reason"].as_str().unwrap_or_default())),
        ]
    });
    screen.table(&["ID", "TIME", "TYPE", "REASON"], rows.collect(), &["TYPE"])
}
