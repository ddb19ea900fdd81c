//! The steps of several tasks and of their subtasks, in the order of the event log.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::story::StoryTask;
use crate::client::{self, Client, Follower, RECONNECT_PAUSE, segment};
use crate::workload::error::Error;

/// Longest time for a story, many times the usual one.
const STORY_TIMEOUT: Duration = Duration::from_mins(2);
/// Steps that may wait for the receiver.
const MAX_WAITING_STEPS: usize = 64;
/// How long steps are collected before they are sorted: each task has a stream of its own,
/// and the streams deliver the steps of one commit at slightly different times.
const COLLECT: Duration = Duration::from_millis(30);
/// How long an unreachable server is retried.
const PATIENCE: Duration = Duration::from_mins(1);

/// A step in the life of a task.
#[derive(Debug)]
pub struct Step<'a> {
    /// The task.
    pub task: &'a StoryTask,
    /// The step as the server sent it.
    pub json: &'a Value,
    /// Labels of all tasks of the story so far, by id.
    pub labels: &'a HashMap<String, String>,
}

/// A step of a task, or the error that ended its stream.
type Received = Result<(StoryTask, Value), Error>;

/// Calls `on_step` with each step of the tasks and of their subtasks, until all have ended.
/// Fails if that takes longer than two minutes.
pub async fn follow<E, F>(client: &Client, tasks: &[StoryTask], on_step: F) -> Result<(), E>
where
    E: From<Error>,
    F: FnMut(Step<'_>) -> Result<(), E>,
{
    timeout(STORY_TIMEOUT, follow_all(client, tasks, on_step)).await.unwrap_or_else(|_| {
        let message = format!("not all tasks of the demo ended within {} s", STORY_TIMEOUT.as_secs());
        Err(Error::Failed(message).into())
    })
}

async fn follow_all<E, F>(client: &Client, tasks: &[StoryTask], mut on_step: F) -> Result<(), E>
where
    E: From<Error>,
    F: FnMut(Step<'_>) -> Result<(), E>,
{
    let (sender, mut received) = channel(MAX_WAITING_STEPS);
    let mut followers = JoinSet::new();
    let mut labels = HashMap::new();
    let mut start = |task: StoryTask, labels: &mut HashMap<String, String>| {
        labels.insert(task.task_id.clone(), task.label.clone());
        followers.spawn(follow_one(client.clone(), task, sender.clone()));
    };
    for task in tasks {
        start(task.clone(), &mut labels);
    }
    let mut open = tasks.len();
    while open > 0
        && let Some(first) = received.recv().await
    {
        for (task, json) in sorted(first?, &mut received).await? {
            for id in json["detail"]["children"].as_array().into_iter().flatten() {
                let path = format!("/tasks/{}", segment(id.as_str().unwrap_or_default()));
                let subtask = client.get(&path).await.map_err(Error::from)?;
                start(task.subtask(&subtask.json), &mut labels);
                open += 1;
            }
            on_step(Step { task: &task, json: &json, labels: &labels })?;
            if json["type"] == "task.finished" {
                open -= 1;
            }
        }
    }
    Ok(())
}

/// Collects the steps that arrive together with the first one, in the order of the log.
async fn sorted(
    first: (StoryTask, Value),
    received: &mut Receiver<Received>,
) -> Result<Vec<(StoryTask, Value)>, Error> {
    sleep(COLLECT).await;
    let mut steps = vec![first];
    while let Ok(step) = received.try_recv() {
        steps.push(step?);
    }
    steps.sort_by_key(|(_, step)| step["seq"].as_u64());
    Ok(steps)
}

/// Sends each step of one task.
async fn follow_one(client: Client, task: StoryTask, sender: Sender<Received>) {
    let path = format!("/tasks/{}/stream", segment(&task.task_id));
    let mut follower = Follower::new(client, path, None, PATIENCE);
    loop {
        let step = match follower.next().await {
            Ok(Some(event)) => serde_json::from_str::<Value>(&event.data)
                .map_err(|error| client::Error::Protocol(format!("an event is not JSON: {error}"))),
            Ok(None) => {
                sleep(RECONNECT_PAUSE).await;
                continue;
            }
            Err(error) => Err(error),
        };
        let is_last = step.as_ref().map_or(true, |step| step["type"] == "task.finished");
        // The receiver is dropped when the story fails.
        let sent = sender.send(step.map(|step| (task.clone(), step)).map_err(Error::from)).await;
        if is_last || sent.is_err() {
            return;
        }
    }
}
