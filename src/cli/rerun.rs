//! `dats rerun`: submits a finished task again, as a new task.

use clap::Args;
use serde_json::json;

use super::exit::Failure;
use super::session::Session;
use super::submit::announce;
use crate::client::segment;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats rerun 01890a5d-ac96-774b-bcce-b302099a8057")]
pub(super) struct Arguments {
    /// Id of the finished task.
    id: String,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let answer = session.client.post(&format!("/tasks/{}/rerun", segment(&arguments.id)), &json!({})).await?;
    let id = answer.json["task_id"].as_str().unwrap_or_default().to_owned();
    announce(session, &answer, &id)
}
