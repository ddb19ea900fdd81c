//! `dats simulate`: runs stand-ins for the services around a server.

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, warn};
use super::output::line;
use super::session::Session;
use super::signals::stop_token;
use crate::workload::Console;
use crate::workload::simulate::worker::Worker;
use crate::workload::simulate::{Answers, Listening, agent, qa, rag, worker};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Lease tasks and answer each with generated output.
    #[command(after_help = "Example:\n  dats simulate worker --tiers small --latency-ms 50")]
    Worker(worker::Settings),
    /// Answer each output with a verdict.
    #[command(after_help = "Example:\n  dats simulate qa --rejection-rate 0.2")]
    Qa(qa::Settings),
    /// Analyse, split and estimate tasks for a server.
    #[command(after_help = "Example:\n  dats simulate agent --listen 127.0.0.1:8100 --decompose-rate 0.5")]
    Agent(agent::Settings),
    /// Answer the context queries of a server with generated text.
    #[command(after_help = "Example:\n  dats simulate rag --listen 127.0.0.1:8200")]
    Rag(rag::Settings),
}

/// The stand-ins go on when stdout is closed, because a server may wait for them.
const CONSOLE: Console = Console { line: |text| drop(line(text)), warn };

pub(super) async fn run(session: &Session, action: Action) -> Result<(), Failure> {
    let stop = stop_token();
    match action {
        Action::Worker(settings) => {
            let is_quiet = settings.quiet;
            let worker = Worker::connect(session.client.clone(), settings, CONSOLE, &stop).await?;
            if !is_quiet {
                line(&format!("worker {} serves {}", worker.id(), worker.tiers().join(", ")))?;
            }
            Ok(worker.run().await?)
        }
        Action::Qa(settings) => Ok(qa::run(session.client.clone(), settings, CONSOLE, stop).await?),
        Action::Agent(settings) => serve(agent::listen(settings, CONSOLE).await?, stop).await,
        Action::Rag(settings) => serve(rag::listen(settings, CONSOLE).await?, stop).await,
    }
}

async fn serve<A: Answers>(listening: Listening<A>, stop: CancellationToken) -> Result<(), Failure> {
    line(&format!("{} listening on {}", listening.name(), listening.url))?;
    listening.run(stop).await;
    Ok(())
}
