//! `dats status`: one task, or the tree it was split into.

use clap::Args;

use super::exit::Failure;
use super::follow::outcome;
use super::progress::{task_details, wait};
use super::session::Session;
use super::tree::tree_table;
use crate::client::segment;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The task.
    id: String,
    /// Wait for its end first; a task that failed or was cancelled gives
    /// exit code 1.
    #[arg(long)]
    wait: bool,
    /// Show it with its subtasks, and theirs, each with what it waits for.
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
