//! A lost data directory, made again from the copy.

use std::ops::Range;

use dats::clock::Clock;
use dats::engine::{Engine, NewCheckpoint};
use dats::store::Store;
use serde_json::{Value, json};

use super::equal::assert_equal;
use super::world::{User, caught_up, copy_becomes, setup, stop, verify};
use crate::support::client::Client;
use crate::support::fixtures::{CACHE_BYTES, project, settings, submission};
use crate::support::postgres;
use crate::support::process::{Ran, Setup, run};

fn restore(setup: &Setup, url: &str) -> Ran {
    let dir = setup.data_dir().display().to_string();
    run("127.0.0.1:1", &[("DATABASE_URL", url)], &["restore", "--from", "postgres", "--data-dir", &dir])
}

async fn page(client: &Client, path: &str) -> Value {
    client.get(path).await.json()
}

/// What must be the same again; the ids of entries follow from the store.
async fn facts(client: &Client, path: &str) -> Value {
    let mut page = page(client, path).await;
    for entry in page["taint_events"].as_array_mut().into_iter().flatten() {
        entry["id"].take();
    }
    page
}

/// A task of the tier `large`, leased with whatever stands before it.
async fn leased(client: &Client, task: &str) -> Value {
    let ask = json!({"worker_id": "w", "max": 100, "lease_seconds": 600, "wait_seconds": 10});
    loop {
        let lease = client.post("queues/large/lease", &ask).await.json();
        let leases = lease["leases"].as_array().unwrap();
        assert!(!leases.is_empty(), "{task} is not given to anybody");
        if let Some(found) = leases.iter().find(|lease| lease["task"]["task_id"] == task) {
            return found["task"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_on_where_the_lost_one_was() {
    let Some(database) = postgres::database().await else { return };
    let lost = setup(&database.url());
    let mut server = lost.start();
    let client = Client::new(&server.address);
    User::new(8, &server).act(80).await;
    let options = json!({"tier": "large", "qa_profile": "none"});
    let task = client.submit(&json!({"description": "under way", "options": options})).await;
    assert_eq!(leased(&client, &task).await["attempt"], 1);
    caught_up(&server, &lost, &database).await;
    let paths = [
        "provenance?limit=1000",
        "taint-events?limit=1000",
        "projects?limit=1000",
        "projects/one/checkpoints?limit=1000",
        "cascades/cascade%200?limit=1000",
        "cascades/cascade%201?limit=1000",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(facts(&client, path).await);
    }
    let total = page(&client, "tasks?limit=1").await["total"].clone();
    let exported = client.get("provenance/export").await;
    let head = page(&client, "/health/detailed").await["figures"]["log_head"].as_u64().unwrap();
    server.kill();

    let new = setup(&database.url());
    let restored = restore(&new, &database.url());
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(restore(&new, &database.url()).code, 1, "a data directory with something in it is left alone");
    // The lost one was killed a moment ago: it may be alive.
    let server = new.clone().flag("--take-over").start();
    let client = Client::new(&server.address);
    for (path, before) in paths.into_iter().zip(before) {
        assert_eq!(facts(&client, path).await, before, "{path}");
    }
    assert_eq!(page(&client, "tasks?limit=1").await["total"], total);
    // An export from before has nothing that is not there, entries of the trail included.
    let trail = page(&client, "taint-events?limit=1000").await;
    let lines = String::from_utf8(exported.body.to_vec()).unwrap();
    let entries: Vec<&str> = lines.lines().filter(|line| line.contains("\"cascade_depth\"")).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let told = client.ask("POST", "provenance/import", &headers, entries.join("\n")).await.unwrap();
    let unchanged = String::from_utf8(told.body.to_vec()).unwrap().matches("\"outcome\":\"unchanged\"").count();
    assert!(unchanged > 0 && unchanged == entries.len(), "{told:?}");
    assert_eq!(page(&client, "taint-events?limit=1000").await, trail);
    // The attempt that was under way is lost; what comes of it is stale.
    assert_eq!(leased(&client, &task).await["attempt"], 2);
    let data = json!({"task_id": task, "artifact_id": "late", "attempt": 1});
    let event =
        json!({"specversion": "1.0", "id": "late", "source": "/t", "type": "dats.task.output.created", "data": data});
    let headers = [("content-type", "application/cloudevents+json")];
    let answer = client.ask("POST", "events", &headers, event.to_string()).await.unwrap();
    assert_eq!(answer.json()["outcome"], "stale", "{answer:?}");
    // Positions of the lost log are of another time.
    let events = page(&client, &format!("events?after={head}&limit=1")).await;
    assert!(events.to_string().contains("reset") || events["events"][0]["seq"].as_u64() > Some(head), "{events}");
    User::new(9, &server).act(40).await;
    stop(server, &new, &database).await;
    assert_equal(&new.data_dir(), &database).await;
    let verified = verify(&new, &database.url(), &[]);
    assert_eq!(verified.code, 0, "{} {}", verified.stdout, verified.stderr);
    // Should the lost one turn up again, it has lost its right to the copy.
    let mut server = lost.start();
    let copy = copy_becomes(&server, &lost, |copy| copy["status"] == "refused").await;
    assert!(copy["last_error"]["message"].as_str().unwrap().contains("has taken over the copy"), "{copy}");
    server.kill();
}

/// What is made after a restore comes after what was made before it, by its id, also
/// where the lost service ran with a clock that was ahead: the order among own records
/// and checkpoints is that of their ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_go_on_above_those_of_the_lost_store() {
    let Some(database) = postgres::database().await else { return };
    let lost = setup(&database.url()).flag("--accept-clock");
    let checkpoint = {
        let clock = Clock::new();
        clock.step_wall(7_200 * 1_000_000);
        let store = Store::open(&lost.data_dir(), CACHE_BYTES).unwrap();
        let (engine, writer) = Engine::start(store, settings(), &clock).unwrap();
        engine.tasks().submit(vec![submission("p", "made ahead")], None).await.unwrap();
        let checkpoint = engine.checkpoints().create(project("p"), NewCheckpoint::default()).await.unwrap();
        drop(engine);
        writer.stop().unwrap();
        checkpoint
    };
    let server = lost.start();
    stop(server, &lost, &database).await;

    let new = setup(&database.url());
    let restored = restore(&new, &database.url());
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let server = new.start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "made later", "project_id": "p"})).await;
    assert!(task.as_str() > checkpoint.id.as_str(), "{task} was made after {}", checkpoint.id);
}

/// What came from elsewhere is in the copy, too, entry by entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imported_entries_of_another_audit_trail_come_back() {
    let Some(database) = postgres::database().await else { return };
    let lost = setup(&database.url());
    let server = lost.start();
    let client = Client::new(&server.address);
    let entry = |number: u64| {
        json!({
            "id": format!("event {number}"), "timestamp": "2026-01-09T18:00:00.5", "artifact_id": format!("art {number}"),
            "provenance_id": "r", "reason": "why \u{e4}", "source_artifact_id": "", "source_provenance_id": "",
            "cascade_depth": number, "cascade_id": "c", "action": "suspect", "more": {"z": 1.10, "a": null},
        })
    };
    let lines = |numbers: Range<u64>| numbers.map(|number| entry(number).to_string() + "\n").collect::<String>();
    let import = async |client: &Client, numbers: Range<u64>| {
        let headers = [("content-type", "application/x-ndjson")];
        let answer = client.ask("POST", "provenance/import", &headers, lines(numbers)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    // Some before the database has anything: they are scanned; some later.
    assert_eq!(import(&client, 0..20).await.matches("\"created\"").count(), 21);
    caught_up(&server, &lost, &database).await;
    import(&client, 20..45).await;
    stop(server, &lost, &database).await;
    assert_equal(&lost.data_dir(), &database).await;
    assert_eq!(database.number("SELECT count(*) FROM imported_taint_events WHERE cascade_id = 'c'").await, 45);
    let verified = verify(&lost, &database.url(), &[]);
    assert_eq!(verified.code, 0, "{} {}", verified.stdout, verified.stderr);
    database.execute("UPDATE imported_taint_events SET original = '{}' WHERE number = 7").await;
    assert_eq!(verify(&lost, &database.url(), &[]).code, 1);
    assert_eq!(verify(&lost, &database.url(), &["--repair"]).code, 0);

    let server = lost.start();
    let before = page(&Client::new(&server.address), "taint-events?limit=1000").await;
    assert_eq!(before["taint_events"].as_array().unwrap().len(), 45);
    drop(server);
    let new = setup(&database.url());
    let restored = restore(&new, &database.url());
    assert!(
        restored.code == 0 && restored.stdout.contains("45 imported ones"),
        "{} {}",
        restored.stdout,
        restored.stderr
    );
    let server = new.clone().flag("--take-over").start();
    let client = Client::new(&server.address);
    assert_eq!(page(&client, "taint-events?limit=1000").await, before);
    // Known again, and numbered on.
    let again = import(&client, 0..46).await;
    assert_eq!(again.matches("\"unchanged\"").count(), 45 + 1, "{again}");
    stop(server, &new, &database).await;
    assert_equal(&new.data_dir(), &database).await;
}
