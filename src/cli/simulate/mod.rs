//! `dats simulate`: stand-ins for the services around this one, for demos,
//! drills and load. They use the public HTTP contract alone, so a server can't
//! tell them from the real ones.

pub(super) mod agent;
mod answering;
mod chance;
mod fault;
pub(super) mod message;
pub(super) mod qa;
pub(super) mod rag;
pub(super) mod script;
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
    /// Analyse, split and estimate tasks for a server.
    Agent(agent::Arguments),
    /// Find made-up context for a server's tasks.
    Rag(rag::Arguments),
}

pub(super) async fn run(session: &Session, action: Action) -> Result<(), Failure> {
    let stop = stop_token();
    match action {
        Action::Worker(arguments) => worker::run(session.client.clone(), arguments, stop).await,
        Action::Qa(arguments) => qa::run(session.client.clone(), arguments, stop).await,
        Action::Agent(arguments) => agent::run(arguments, stop).await,
        Action::Rag(arguments) => rag::run(arguments, stop).await,
    }
}
