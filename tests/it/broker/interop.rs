//! Workers and QA that share no code with the service: Python, on pika.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::world::{Names, Recorder, health, soon, status_becomes};
use crate::support::client::Client;
use crate::support::rabbitmq;

/// A Python with the packages that are needed, below `target`; `None`: it
/// can't be had here.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = root.join("target/interop-rabbitmq");
    let python = home.join("bin/python");
    let needed = root.join("tests/interop/rabbitmq/requirements.txt");
    let has_packages = |python: &Path| succeeds(Command::new(python).args(["-c", "import pika"]));
    if !has_packages(&python) {
        let made = succeeds(Command::new("python3").args(["-m", "venv"]).arg(&home));
        let installing = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        let installed = made && succeeds(Command::new(&python).args(installing).arg(needed));
        if !installed {
            return None;
        }
    }
    has_packages(&python).then_some(python)
}

fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A program that ends with this.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn start(python: &Path, role: &str, port: u16, names: &Names, queue: &str) -> Program {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/rabbitmq/others.py");
    let (port, exchange) = (port.to_string(), names.exchange("task"));
    let mut command = Command::new(python);
    command.arg(script).args([role, "127.0.0.1", &port, &exchange, queue]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready", "{role}");
    Program(child)
}

#[tokio::test]
async fn a_worker_and_qa_in_python_complete_tasks() {
    if !rabbitmq::is_installed("broker::interop") {
        return;
    }
    let Some(python) = python() else {
        println!("skipped: broker::interop needs python3 with venv, and pika from the package index");
        return;
    };
    let (broker, names) = (rabbitmq::shared().address(), Names::new());
    let recorder = Recorder::start(broker, &names).await;
    let server = names.setup(broker).start();
    let client = Client::new(&server.address);
    soon("it is connected", async || health(&client).await["status"] == "connected").await;
    let _worker = start(&python, "worker", broker.port(), &names, &names.work_queue("coding"));
    let _qa = start(&python, "qa", broker.port(), &names, &format!("{}.qa", names.0));
    let mut tasks = Vec::new();
    for _ in 0..10 {
        tasks.push(client.submit(&json!({"description": "d", "options": {"tier": "coding"}})).await);
    }
    for task in &tasks {
        let done = status_becomes(&client, task, "completed").await;
        assert_eq!(done["artifacts"][0]["path"], "fib.py");
        let record = client.get(&format!("provenance/{}", done["provenance_id"].as_str().unwrap())).await.json();
        assert_eq!((&record["worker_id"], &record["confidence"]), (&json!("python-worker"), &json!(0.97)));
        soon("its end is told", async || recorder.own_of_task(task).len() == 3).await;
        assert_eq!(recorder.own_of_task(task), ["task.created", "task.ready.coding", "task.finished"]);
    }
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
}
