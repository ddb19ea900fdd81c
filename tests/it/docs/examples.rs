//! The programs in `examples/`: a client's task goes through a worker and a QA service.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::root;
use crate::support::process::Setup;

/// Longest time that the client may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Python program of `examples/`, killed when dropped.
struct Program(Child);

impl Program {
    fn start(server: &str, name: &str, arguments: &[&str]) -> Self {
        let child = Command::new("python3")
            .arg(root().join("examples").join(name))
            .args(arguments)
            .env_remove("DATS_API_KEY")
            .env("DATS_URL", format!("http://{server}"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Kills the program and returns what it printed.
    fn end(mut self) -> String {
        let _ = self.0.kill();
        let output = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        let errors = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        output + &errors
    }

    /// Waits until the program has ended by itself.
    fn wait(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_task_passes_through_worker_and_qa() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "python3 does not work");
        println!("skipped: python3 does not work");
        return;
    }
    let server = Setup::new().start();
    let qa = Program::start(&server.address, "qa.py", &[]);
    let worker = Program::start(&server.address, "worker.py", &["small"]);
    let mut client = Program::start(&server.address, "client.py", &["Write a haiku about queues"]);
    let has_succeeded = client.wait();
    let (client, worker, qa) = (client.end(), worker.end(), qa.end());
    assert!(has_succeeded, "client: {client}\nworker: {worker}\nQA: {qa}");
    assert!(client.contains("completed\n# Write a haiku about queues\n"), "{client}");
    assert!(worker.contains("attempt 1") && worker.contains("(applied)"), "{worker}");
    assert!(qa.contains("task.validated (applied)"), "{qa}");
}
