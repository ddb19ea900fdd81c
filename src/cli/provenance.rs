//! `dats provenance`: how a result came about.

use clap::Subcommand;

use super::Session;
use super::client::segment;
use super::exit::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Show a record.
    Show {
        /// The record, or an artifact it names.
        id: String,
    },
}

/// The fields of a record worth seeing first.
pub(super) const RECORD_FIELDS: [&str; 10] =
    ["id", "provenance_id", "task_id", "project_id", "status", "model_used", "worker_id", "tier", "domain", "attempt"];

pub(super) async fn run(session: &Session, action: &Action) -> Result<(), Failure> {
    let Action::Show { id } = action;
    let answer = session.client.get(&format!("/provenance/{}", segment(id))).await?;
    session.screen.show(&answer, |screen, record| screen.details(record, &RECORD_FIELDS))
}
