//! The service as a process, killed with -9 in the middle of routing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::client::Client;
use crate::support::process::{Server, Setup};
use crate::support::random::{Random, from_environment};
use crate::support::stand_in::StandIn;

const PATIENCE: Duration = Duration::from_secs(20);
/// Every task is split into two parts that don't depend on each other.
const SPLITTING: [&str; 8] =
    ["--decompose-rate", "1", "--subtasks-min", "2", "--subtasks-max", "2", "--dependencies", "none"];

fn setup(agent: &StandIn) -> Setup {
    Setup::new()
        .with("DATS__ROUTING__AGENT_SERVICE_URL", &agent.url)
        .with("DATS__ROUTING__FALLBACK", "wait")
        .with("DATS__ROUTING__AGENT_TIMEOUT_SECONDS", "5")
}

async fn status(server: &Server, task: &str) -> Value {
    Client::new(&server.address).get(&format!("tasks/{task}")).await.json()
}

fn children(status: &Value) -> Vec<String> {
    let children = status["children"].as_array().into_iter().flatten();
    children.map(|child| child.as_str().unwrap().to_owned()).collect()
}

/// Waits until a task is no longer to be routed.
async fn routed(server: &Server, setup: &Setup, task: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(server, task).await;
        if status["phase"] != "analyzing" {
            return status;
        }
        assert!(Instant::now() < deadline, "{task} is not routed: {status}\n{}", setup.log());
        sleep(Duration::from_millis(10)).await;
    }
}

/// How often each change stands in a task's history.
async fn times(server: &Server, task: &str, name: &str) -> usize {
    let history = Client::new(&server.address).get(&format!("tasks/{task}/events?limit=1000")).await.json();
    let events = history["events"].as_array().unwrap_or_else(|| panic!("no events: {history}"));
    events.iter().filter(|event| event["type"] == name).count()
}

async fn total(server: &Server) -> u64 {
    Client::new(&server.address).get("tasks?limit=1").await.json()["total"].as_u64().unwrap()
}

/// Waits until the Agent is being asked about something.
async fn is_asking(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = Client::new(&server.address).get("/metrics").await;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        if text.lines().any(|line| line.starts_with("dats_routing_calls_in_flight") && !line.ends_with(" 0")) {
            return;
        }
        assert!(Instant::now() < deadline, "the Agent is not asked:\n{text}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn killed_in_the_middle_of_each_step() {
    for step in ["analyze", "decompose", "estimate"] {
        let mut hanging = StandIn::agent(&[&SPLITTING[..], &["--fault", "hang", "--fault-on", step]].concat());
        let setup = setup(&hanging);
        let mut server = setup.start();
        let task = Client::new(&server.address).submit(&json!({"description": "work"})).await;
        if step == "estimate" {
            routed(&server, &setup, &task).await;
        }
        is_asking(&server).await;
        server.kill();
        let server = setup.start();
        is_asking(&server).await;
        hanging.kill();
        let _agent = StandIn::start("agent", &hanging.listen(), &SPLITTING);
        let status = routed(&server, &setup, &task).await;
        let parts = children(&status);
        assert_eq!((&status["phase"], parts.len()), (&json!("children"), 2), "{step}: {status}");
        for part in &parts {
            let status = routed(&server, &setup, part).await;
            assert!(children(&status).is_empty(), "{step}: {status}");
            assert_eq!(times(&server, part, "task.routed").await, 1, "{step}");
        }
        assert_eq!((times(&server, &task, "task.split").await, total(&server).await), (1, 3), "{step}");
    }
}

#[tokio::test]
async fn killed_again_and_again_each_task_is_split_once() {
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let agent = StandIn::agent(&[&SPLITTING[..], &["--fault", "cut", "--fault-rate", "0.1"]].concat());
    let setup = setup(&agent);
    let mut server = setup.start();
    let (mut roots, mut interrupted) = (Vec::new(), 0);
    for _ in 0..from_environment("DATS_ROUNDS", 6) {
        let client = Client::new(&server.address);
        for number in 0..10 {
            roots.push(client.submit(&json!({"description": format!("work {number}")})).await);
        }
        sleep(Duration::from_millis(random.below(30))).await;
        server.kill();
        server = setup.start();
        let health = Client::new(&server.address).get("health/detailed").await.json();
        interrupted += health["figures"]["tasks"]["analyzing"].as_u64().unwrap();
    }
    assert!(interrupted > 0, "each round was over before the kill");
    for task in &roots {
        let parts = children(&routed(&server, &setup, task).await);
        assert_eq!((parts.len(), times(&server, task, "task.split").await), (2, 1));
        for part in &parts {
            routed(&server, &setup, part).await;
            assert_eq!(times(&server, part, "task.routed").await, 1);
        }
    }
    assert_eq!(total(&server).await, 3 * u64::try_from(roots.len()).unwrap());
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}
