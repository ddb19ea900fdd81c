//! `dats watch`: prints the steps of a task until its end.

use clap::Args;

use super::exit::Failure;
use super::follow::outcome;
use super::progress::print_steps;
use super::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats watch 01890a5d-ac96-774b-bcce-b302099a8057")]
pub(super) struct Arguments {
    /// Id of the task.
    id: String,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    outcome(&print_steps(session, &arguments.id).await?.json)
}
