//! Who may write the copy: drills, first starts of restored directories, and
//! what an owner does that learns that it is none any more.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::equal::assert_equal;
use super::world::{PATIENCE, User, caught_up, copy_becomes, setup, stop, verify};
use crate::support::client::Client;
use crate::support::postgres::{self, Database};
use crate::support::process::{Ran, Server, Setup, run};

const TABLES: [&str; 8] = [
    "provenance_records",
    "artifact_dependencies",
    "tasks",
    "projects",
    "tier_pauses",
    "taint_facts",
    "replication_state",
    "dats_schema_history",
];

fn restore(setup: &Setup, url: &str, more: &[&str]) -> Ran {
    let dir = setup.data_dir().display().to_string();
    let arguments = [&["restore", "--from", "postgres", "--data-dir", &dir], more].concat();
    run("127.0.0.1:1", &[("DATABASE_URL", url)], &arguments)
}

/// Everything that the database holds, and its schema.
async fn content(database: &Database) -> Vec<i64> {
    let mut hashes = Vec::new();
    for table in TABLES {
        let sql = format!("SELECT coalesce(sum(hashtextextended(t::text, 0) % 1000000007), 0)::bigint FROM {table} t");
        hashes.push(database.number(&sql).await);
    }
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = current_schema()";
    hashes.push(database.number(columns).await);
    hashes
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let answer = Client::new(&server.address).get(path).await;
    (answer.status, answer.json())
}

/// Waits until a server says that it is not the owner any more.
async fn loses(server: &Server, setup: &Setup) {
    let deadline = Instant::now() + PATIENCE;
    while get(server, "/health").await.1["reason"] != "not_owner" {
        assert!(Instant::now() < deadline, "it goes on as the owner\n{}", setup.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Nothing changes there any more, and what is there can be read.
async fn does_no_work(server: &Server, task: &str) {
    let client = Client::new(&server.address);
    let lease = json!({"worker_id": "w", "max": 1, "lease_seconds": 60, "wait_seconds": 5});
    let failed = json!({"specversion": "1.0", "type": "task.failed", "source": "/t", "id": "x",
        "data": {"task_id": task, "error": "e"}});
    for (path, body) in [
        ("tasks", json!({"description": "x"})),
        ("tasks/batch", json!({"tasks": [{"description": "x"}]})),
        (&format!("tasks/{task}/cancel"), json!({})),
        ("queues/tiny/lease", lease),
        ("queues/tiny/pause", json!({})),
        ("events", failed),
        ("projects", json!({"project_id": "new"})),
    ] {
        let refused = client.post(path, &body).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "not_owner"), "{path}: {refused:?}");
    }
    assert_eq!(client.get(&format!("tasks/{task}")).await.status, 200);
    assert_eq!(client.get("projects?limit=5").await.status, 200);
    assert_eq!(client.get("queues").await.status, 200);
    let (status, health) = get(server, "/health").await;
    assert_eq!((status, &health["status"], &health["reason"]), (200, &json!("degraded"), &json!("not_owner")));
    let (_, health) = get(server, "/health/detailed").await;
    assert_eq!((&health["status"], &health["reason"]), (&json!("degraded"), &json!("not_owner")), "{health}");
    assert_eq!(health["dependencies"]["postgres"]["owner"], false);
    assert_eq!(get(server, "/readyz").await.0, 503);
    assert_eq!(get(server, "/livez").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_changes_nothing_in_the_database() {
    let Some(database) = postgres::database().await else { return };
    let owner = setup(&database.url());
    let server = owner.start();
    User::new(21, &server).act(60).await;
    Client::new(&server.address).post("queues/small/pause", &json!({})).await;
    stop(server, &owner, &database).await;
    // As an earlier version has left it: a drill brings no schema up to date.
    database
        .execute(
            "ALTER TABLE replication_state DROP COLUMN owner_address, DROP COLUMN seen_at; \
             ALTER TABLE tier_pauses DROP COLUMN had_consumer; \
             ALTER TABLE provenance_records DROP COLUMN statements; \
             ALTER TABLE taint_facts DROP COLUMN rollback; DELETE FROM dats_schema_history WHERE version >= 3",
        )
        .await;
    let before = content(&database).await;
    let drill = setup(&database.url());
    let told = restore(&drill, &database.url(), &["--dry-run"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    for part in ["nothing in the database changes", "takes over the copy at its first start", "dry run"] {
        assert!(told.stdout.contains(part), "{part} in {}", told.stdout);
    }
    assert!(!drill.data_dir().join("dats.redb").exists());
    let restored = restore(&drill, &database.url(), &[]);
    assert_eq!(restored.code, 0, "{} {}", restored.stdout, restored.stderr);
    assert!(restored.stdout.find("first start").unwrap() < restored.stdout.find("restored ").unwrap());
    assert_eq!(content(&database).await, before);
    // The owner goes on as if nothing had been.
    let server = owner.start();
    User::new(22, &server).act(10).await;
    stop(server, &owner, &database).await;
    assert_equal(&owner.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_waits_for_a_living_owner_and_takes_over_from_one_that_has_stopped() {
    let Some(database) = postgres::database().await else { return };
    let owner = setup(&database.url());
    let server = owner.start();
    User::new(23, &server).act(40).await;
    caught_up(&server, &owner, &database).await;
    copy_becomes(&server, &owner, |copy| copy["doing"] == "following").await;
    let new = setup(&database.url());
    let restored = restore(&new, &database.url(), &[]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert!(restored.stdout.contains("the owner is alive"), "{}", restored.stdout);
    for _ in 0..2 {
        let refused = new.try_start().err().expect("two owners at once");
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
        let (address, text) = (server.address.as_str(), refused.stderr);
        assert!(text.contains(address) && text.contains("last seen at") && text.contains("--take-over"), "{text}");
    }
    let health = copy_becomes(&server, &owner, |copy| copy["status"] == "healthy").await;
    assert_eq!(health["owner"], true, "{health}");
    // It has written since: what it brought is not in the restored directory, and goes.
    User::new(24, &server).act(20).await;
    stop(server, &owner, &database).await;
    let server = new.start();
    let epoch = database.number("SELECT epoch FROM replication_state").await;
    assert_eq!(epoch, 2);
    User::new(25, &server).act(20).await;
    stop(server, &new, &database).await;
    assert_equal(&new.data_dir(), &database).await;
    let verified = verify(&new, &database.url(), &[]);
    assert_eq!(verified.code, 0, "{} {}", verified.stdout, verified.stderr);
    // It is remembered: the next start needs no right but its own.
    let server = new.start();
    stop(server, &new, &database).await;
}

/// The owner was not seen when the heir looked, and comes back before it takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_comes_back_during_a_takeover_keeps_the_copy() {
    let Some(database) = postgres::database().await else { return };
    let owner = setup(&database.url());
    let server = owner.start();
    User::new(27, &server).act(20).await;
    stop(server, &owner, &database).await;
    let new = setup(&database.url());
    assert_eq!(restore(&new, &database.url(), &[]).code, 0);
    // What the owner writes now is not in the restored directory.
    let server = owner.start();
    User::new(28, &server).act(20).await;
    stop(server, &owner, &database).await;
    let state = "SELECT epoch, store_id::text FROM replication_state";
    let before = database.connect().await.query_one(state, &[]).await.unwrap();

    let comes_back = database.connect().await;
    comes_back.batch_execute("BEGIN; UPDATE replication_state SET seen_at = now()").await.unwrap();
    let starting = tokio::task::spawn_blocking({
        let new = new.clone();
        move || new.try_start().err()
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let deadline = Instant::now() + PATIENCE;
    while database.number(waits).await == 0 {
        assert!(Instant::now() < deadline, "it does not take over: {}", new.log());
        sleep(Duration::from_millis(20)).await;
    }
    comes_back.batch_execute("COMMIT").await.unwrap();
    let refused = starting.await.unwrap().expect("it took the copy from a living owner");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("came back"), "{}", refused.stderr);
    let after = database.connect().await.query_one(state, &[]).await.unwrap();
    let told = |row: &tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, String>(1));
    assert_eq!(told(&before), told(&after));
    // The owner goes on, and the other one takes over once it may.
    let server = owner.start();
    stop(server, &owner, &database).await;
    assert_equal(&owner.data_dir(), &database).await;
    let server = new.start();
    stop(server, &new, &database).await;
    assert_equal(&new.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_taken_over_stops_working_and_says_so() {
    let Some(database) = postgres::database().await else { return };
    let owner = setup(&database.url());
    let mut server = owner.start();
    let client = Client::new(&server.address);
    let options = json!({"tier": "tiny", "qa_profile": "none"});
    let task = client.submit(&json!({"description": "one", "options": options})).await;
    caught_up(&server, &owner, &database).await;
    copy_becomes(&server, &owner, |copy| copy["doing"] == "following").await;
    let new = setup(&database.url());
    assert_eq!(restore(&new, &database.url(), &[]).code, 0);
    let taking = new.clone().flag("--take-over");
    let heir = taking.start();
    // A worker that waits there gets nothing, although there is a task.
    loses(&server, &owner).await;
    does_no_work(&server, &task).await;
    let lease = json!({"worker_id": "w", "max": 1, "lease_seconds": 60, "wait_seconds": 5});
    let leased = Client::new(&heir.address).post("queues/tiny/lease", &lease).await.json();
    assert_eq!(leased["leases"][0]["task"]["task_id"], task, "{leased}");
    // Neither does a restart make it the owner again, unless it is told to.
    server.kill();
    let server = owner.start();
    loses(&server, &owner).await;
    does_no_work(&server, &task).await;
    drop(server);
    stop(heir, &new, &database).await;
    assert_equal(&new.data_dir(), &database).await;
    let adopting = owner.clone().flag("--adopt");
    let server = adopting.start();
    stop(server, &adopting, &database).await;
    assert_equal(&owner.data_dir(), &database).await;
    let server = new.start();
    loses(&server, &new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_directory_does_not_start_without_its_database() {
    let Some(database) = postgres::database().await else { return };
    let owner = setup(&database.url());
    let server = owner.start();
    stop(server, &owner, &database).await;
    let new = setup(&database.url());
    assert_eq!(restore(&new, &database.url(), &[]).code, 0);
    let away = new.clone().with("DATABASE_URL", "postgres://dats:x@127.0.0.1:1/dats");
    let refused = away.try_start().err().expect("nobody knows whether the owner lives");
    assert!(refused.stderr.contains("was restored and can't take over"), "{}", refused.stderr);
    let server = new.start();
    stop(server, &new, &database).await;
}
