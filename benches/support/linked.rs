//! Stores with records that depend on one another.

use std::net::SocketAddr;

use dats::engine::{Engine, EventContent, IncomingEvent};
use dats::task::{ArtifactId, Correlation, OutputArtifact, Report, TaskId};
use dats::workload::load::{Connection, get_request};
use dats::workload::mixed;

use super::engine::{id_of, lease_request, output_of};
use super::limits::submission;

/// Tasks in one commit while a store is filled.
const CHUNK: u64 = 1000;

/// Returns the artifact of the record with a number.
pub(crate) fn artifact(number: u64) -> String {
    format!("artifact-{number:08}")
}

/// Completes `count` tasks. Each uses the artifacts of up to three earlier ones, chosen evenly.
pub(crate) async fn finish(engine: &Engine, count: u64) {
    for chunk in 0..count / CHUNK {
        let project = |n: u64| format!("proj-{}", (chunk + n) % 20);
        let submissions = (0..CHUNK).map(|n| submission("Create a function", &project(n)));
        engine.tasks().submit(submissions.collect(), None).await.expect("room");
        let granted = engine.work().lease(lease_request()).await.expect("tasks");
        let numbered = granted.iter().map(|granted| id_of(&granted.task)).zip(chunk * CHUNK..);
        let outputs: Vec<IncomingEvent> = numbered.map(|(task, number)| output(task, number)).collect();
        assert_eq!(u64::try_from(outputs.len()), Ok(CHUNK), "not all tasks were leased");
        let outcomes = engine.events().accept(outputs).await.expect("room");
        assert!(outcomes.iter().all(Result::is_ok), "an output was refused");
    }
}

fn id(number: u64) -> ArtifactId {
    ArtifactId::new(&artifact(number)).expect("an artifact")
}

fn output(task: TaskId, number: u64) -> IncomingEvent {
    let named = OutputArtifact {
        id: id(number),
        kind: Some("code".to_owned()),
        path: Some("function.py".to_owned()),
        language: None,
        checksum: None,
        size_bytes: None,
    };
    let mut output = output_of(id(number), named);
    output.inputs_consumed = (0..number.min(3)).map(|input| id(mixed(number * 3 + input) % number)).collect();
    IncomingEvent {
        identity: None,
        message: EventContent::Report {
            correlation: Correlation { task: Some(task), artifact: None, review: None },
            report: Report::Output(Box::new(output)),
        },
        raw: "{}".to_owned(),
        on_bus: false,
    }
}

/// Returns the ids of completed tasks, the newest thousand at most.
pub(crate) fn tasks(address: &SocketAddr, records: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = Connection::open(*address).await.expect("a server that listens");
        let path = format!("/api/v1/tasks?status=completed&limit={}", records.min(1000));
        let (_, body) = connection.call(&get_request(&path)).await.expect("a server that answers");
        let page: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        let tasks = page["tasks"].as_array().expect("a list").iter();
        tasks.map(|task| task["task_id"].as_str().expect("an id").to_owned()).collect()
    })
}
