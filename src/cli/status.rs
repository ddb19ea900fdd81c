//! `dats status`: shows a task, or the tree of its subtasks.

use clap::Args;

use super::exit::Failure;
use super::follow::outcome;
use super::progress::{task_details, wait};
use super::session::Session;
use super::tree::tree_table;
use crate::client::segment;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats status 01890a5d-ac96-774b-bcce-b302099a8057 --wait")]
pub(super) struct Arguments {
    /// Id of the task.
    id: String,
    /// Wait for the end of the task first. The exit code is 1 if it failed or was cancelled.
    #[arg(long)]
    wait: bool,
    /// Show the task with all subtasks, each with what it waits for.
    #[arg(long)]
    tree: bool,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let path = format!("/tasks/{}", segment(&arguments.id));
    let ended = if arguments.wait { Some(wait(session, &arguments.id).await?) } else { None };
    if arguments.tree {
        let tree = session.client.get(&format!("{path}/tree")).await?;
        session.screen.show(&tree, tree_table)?;
    } else {
        let task = match &ended {
            Some(task) => task,
            None => &session.client.get(&path).await?,
        };
        session.screen.show(task, task_details)?;
    }
    ended.map_or(Ok(()), |task| outcome(&task.json))
}
