//! `dats cancel`: cancels an open task.

use clap::Args;
use serde_json::{Value, json};

use super::exit::Failure;
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats cancel 01890a5d-ac96-774b-bcce-b302099a8057 --reason \"no longer needed\"")]
pub(super) struct Arguments {
    /// Id of the task.
    id: String,
    /// Reason, which is recorded in the history of the task.
    #[arg(long)]
    reason: Option<String>,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let body = match &arguments.reason {
        Some(reason) => json!({"reason": reason}),
        None => json!({}),
    };
    let answer = session.client.post(&format!("/tasks/{}/cancel", segment(&arguments.id)), &body).await?;
    session.screen.show(&answer, |_, task: &Value| {
        format!("task {} is {}", arguments.id, task["status"].as_str().unwrap_or("cancelled"))
    })
}
