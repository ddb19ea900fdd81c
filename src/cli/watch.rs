//! `dats watch`: a task's steps, from its first to its end.

use clap::Args;

use super::exit::Failure;
use super::follow::outcome;
use super::progress::print_steps;
use super::session::Session;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The task.
    id: String,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    outcome(&print_steps(session, &arguments.id).await?.json)
}
