//! `dats rerun`: a finished task once more, as a new one.

use clap::Args;
use serde_json::json;

use super::exit::Failure;
use super::session::Session;
use super::submit::announce;
use crate::client::segment;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The finished task.
    id: String,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let answer = session.client.post(&format!("/tasks/{}/rerun", segment(&arguments.id)), &json!({})).await?;
    let id = answer.json["task_id"].as_str().unwrap_or_default().to_owned();
    announce(session, &answer, &id)
}
