//! `dats simulate`: stand-ins for the Worker and QA services, for demos and
//! load. They use the public HTTP contract alone, so a server can't tell them
//! from the real ones.

mod chance;
mod message;
pub(super) mod qa;
#[cfg(test)]
mod tests;
pub(super) mod worker;

use clap::Subcommand;

use super::Session;
use super::exit::Failure;
use super::signals::stop_token;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Lease tasks and answer each with made-up output.
    Worker(worker::Arguments),
    /// Answer each output with a verdict.
    Qa(qa::Arguments),
}

pub(super) async fn run(session: &Session, action: Action) -> Result<(), Failure> {
    let stop = stop_token();
    match action {
        Action::Worker(arguments) => worker::run(session.client.clone(), arguments, stop).await,
        Action::Qa(arguments) => qa::run(session.client.clone(), arguments, stop).await,
    }
}
