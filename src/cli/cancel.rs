//! `dats cancel`: an open task, for good.

use clap::Args;
use serde_json::{Value, json};

use super::exit::Failure;
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The task.
    id: String,
    /// Why, for its history.
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
