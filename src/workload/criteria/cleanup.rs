//! Cleanup on a server that was running before the bench: open tasks of the bench are
//! cancelled, its projects are archived.

use http::Method;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::tasks::{filter_ids, task_path};
use crate::client::{Call, Client, segment, with_query};
use crate::workload::error::Error;

/// Tasks on a page of the list.
const PAGE: usize = 1000;

/// Cancels the open tasks of a project and archives it. Returns a message if it could not
/// be archived.
pub(super) async fn archive(
    client: &Client,
    project: &str,
    connections: u32,
    bar: &ProgressBar,
) -> Result<Option<String>, Error> {
    loop {
        let open = open_tasks(client, project).await?;
        let left = filter_ids(client, &open, connections, bar, |client, id| async move {
            let body = json!({"reason": "a bench has ended"});
            Ok(client.post(&format!("{}/cancel", task_path(&id)), &body).await.is_err())
        });
        // If none could be cancelled, the next page would be the same.
        if left.await?.len() == open.len() {
            break;
        }
    }
    let archived = client.call(Call::new(Method::DELETE, format!("/projects/{}", segment(project)))).await;
    Ok(archived.err().map(|error| format!("project {project} could not be archived: {error}")))
}

async fn open_tasks(client: &Client, project: &str) -> Result<Vec<String>, Error> {
    let query = [
        ("project_id", Some(project.to_owned())),
        ("status", Some("pending,running".to_owned())),
        ("limit", Some(PAGE.to_string())),
    ];
    let page = client.get(&with_query("/tasks", &query)).await?;
    let tasks = page.json["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let id = |task: &Value| task["task_id"].as_str().map(str::to_owned);
    Ok(tasks.iter().filter_map(id).collect())
}
