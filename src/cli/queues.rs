//! `dats queues`: what waits for workers.

use comfy_table::Cell;
use serde_json::Value;

use super::Session;
use super::exit::Failure;
use super::output::{Screen, text};

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let answer = session.client.get("/queues").await?;
    session.screen.show(&answer, table)
}

fn table(screen: &Screen, answer: &Value) -> String {
    let queues = answer["queues"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = queues.iter().map(|queue| {
        vec![
            Cell::new(text(&queue["tier"])),
            Cell::new(text(&queue["depth"])),
            Cell::new(text(&queue["leased"])),
            Cell::new(screen.time(&queue["oldest_ready_at"])),
        ]
    });
    screen.table(&["TIER", "WAITING", "LEASED", "OLDEST"], rows.collect(), &[])
}
