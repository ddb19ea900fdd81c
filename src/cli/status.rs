//! `dats status`: one task.

use clap::Args;

use super::Session;
use super::client::segment;
use super::exit::Failure;
use super::follow::outcome;
use super::progress::{task_details, wait};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The task.
    id: String,
    /// Wait for its end first; a task that failed or was cancelled gives
    /// exit code 1.
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.wait {
        let task = wait(session, &arguments.id).await?;
        session.screen.show(&task, task_details)?;
        return outcome(&task.json);
    }
    let task = session.client.get(&format!("/tasks/{}", segment(&arguments.id))).await?;
    session.screen.show(&task, task_details)
}
