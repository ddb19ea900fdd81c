//! The service's own life: settings, start, stop, what it refuses.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{fails, json as shown};
use crate::support::client::Client;
use crate::support::process::{Setup, run};

const PATIENCE: Duration = Duration::from_secs(20);
const STORE_FAILED: i32 = 4;

#[test]
fn settings_are_shown_and_checked() {
    let secret = [("DATS__SECURITY__API_KEY", "hunter2"), ("SERVICE_PORT", "8123")];
    let ran = run("", &secret, &["config", "show"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("8123") && ran.stdout.contains("SERVICE_PORT"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
    assert_eq!(run("", &secret, &["config", "check"]).code, 0);
    let wrong = [
        ("DATS__SERVER__LISTN", "x", "listen"),
        ("DATS__ENGINE__RETENTION_DAYS", "soon", "retention_days"),
        ("DATABASE_URL", "mysql://dats:hunter2@db/dats", "postgresql://"),
    ];
    for (name, value, names) in wrong {
        for command in [&["config", "check"][..], &["serve"], &["prune"]] {
            let ran = run("", &[(name, value)], command);
            assert_eq!(ran.code, 2, "{command:?} {name}: {}", ran.stderr);
            assert!(ran.stderr.contains(names) && !ran.stderr.contains("hunter2"), "{name}: {}", ran.stderr);
        }
    }
    fails("", 2, &["config", "check", "--config", "/nonexistent/settings.yaml"]);
}

#[test]
fn a_second_server_is_refused() {
    let setup = Setup::new();
    let first = setup.start();
    let ended = setup.try_start().err().expect("two servers on one data directory");
    assert_eq!(ended.status.code(), Some(STORE_FAILED), "{}", ended.stderr);
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
    let elsewhere = Setup::new().listen(&first.address).try_start().err().expect("two servers on one port");
    assert_eq!(elsewhere.status.code(), Some(1), "{}", elsewhere.stderr);
    let directory = setup.data_dir().display().to_string();
    fails("", STORE_FAILED, &["prune", "--older-than", "1d", "--data-dir", &directory]);
    assert_eq!(shown(&first, &["list"])["total"], 0);
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_left_alone() {
    let setup = Setup::new();
    let mut server = setup.start();
    for number in 0..50 {
        Client::new(&server.address).submit(&json!({"description": format!("work {number}")})).await;
    }
    server.kill();
    let file = setup.data_dir().join("dats.redb");
    let whole = fs::read(&file).unwrap();
    let half = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[9..400].iter_mut().for_each(|byte| *byte ^= 0xff);
    for (what, bytes) in
        [("empty", &[][..]), ("cut", &whole[..half]), ("foreign", b"not a store"), ("flipped", &flipped)]
    {
        fs::write(&file, bytes).unwrap();
        let ended = setup.try_start().err().unwrap_or_else(|| panic!("a store that is {what} was opened"));
        assert_eq!(ended.status.code(), Some(STORE_FAILED), "{what}: {}", ended.stderr);
        assert!(fs::read(&file).unwrap() == bytes, "a store that is {what} was written to");
    }
    fs::write(&file, &whole).unwrap();
    let server = setup.start();
    assert_eq!(Client::new(&server.address).get("tasks").await.json()["total"], 50);
}

#[tokio::test]
async fn finished_tasks_are_pruned_from_a_stopped_service() {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let (ended, open) =
        (client.submit(&json!({"description": "x"})).await, client.submit(&json!({"description": "y"})).await);
    client.post(&format!("tasks/{ended}/cancel"), &json!({})).await;
    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
    let directory = setup.data_dir().display().to_string();
    let verified = run("", &[], &["verify", "--data-dir", &directory]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    assert!(verified.stdout.ends_with(" is sound\n"), "{}", verified.stdout);
    let pruned = run("", &[], &["prune", "--older-than", "0s", "--data-dir", &directory]);
    assert_eq!((pruned.code, pruned.stdout.as_str()), (0, "1 finished tasks removed\n"), "{}", pruned.stderr);
    let server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!(client.get(&format!("tasks/{ended}")).await.status, 404);
    assert_eq!(client.get(&format!("tasks/{open}")).await.status, 200);
    assert_eq!(client.get("projects/default/status").await.json()["total"], 1);
}

#[tokio::test]
async fn sigterm_answers_what_is_under_way() {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let body = r#"{"description":"in flight"}"#;
    let head = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut submission = client.connect().await;
    submission.write_all(head.as_bytes()).await.unwrap();
    let mut stream = client.connect().await;
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let worker = client.clone();
    let waiting =
        tokio::spawn(
            async move { worker.post("queues/small/lease", &json!({"worker_id": "w", "wait_seconds": 60})).await },
        );
    sleep(Duration::from_millis(300)).await;
    server.signal("TERM");
    let lease = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!((lease.status, lease.json()), (200, json!({"leases": []})), "a wait ends with the service");
    assert!(server.is_running(), "a request is under way");
    // The wait and the listener end by the same signal, in any order.
    timeout(PATIENCE, async { while tokio::net::TcpStream::connect(&server.address).await.is_ok() {} })
        .await
        .expect("it still accepts connections");
    submission.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, submission.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.wait(PATIENCE).code(), Some(0), "{}", setup.log());
    let address = server.address.clone();
    let again = setup.clone().listen(&address).start();
    assert_eq!(again.address, address, "it starts on the same port at once");
    assert_eq!(Client::new(&address).get("tasks").await.json()["total"], 1);
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x"})).await;
    let mut stuck = client.connect().await;
    stuck
        .write_all(
            b"POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n",
        )
        .await
        .unwrap();
    sleep(Duration::from_millis(200)).await;
    server.signal("TERM");
    sleep(Duration::from_millis(300)).await;
    assert!(server.is_running(), "it waits for the request under way");
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(5)).code(), Some(130));
    let server = setup.start();
    assert_eq!(Client::new(&server.address).get(&format!("tasks/{task}")).await.status, 200);
}

#[tokio::test]
async fn draining_has_an_end() {
    let setup = Setup::new().with("DATS__SERVER__DRAIN_TIMEOUT_SECONDS", "1");
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let mut stuck = client.connect().await;
    stuck
        .write_all(
            b"POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n",
        )
        .await
        .unwrap();
    sleep(Duration::from_millis(200)).await;
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(0), "{}", setup.log());
}
