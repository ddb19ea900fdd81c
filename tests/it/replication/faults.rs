//! What the database can do to the copy, one thing at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::equal::assert_equal;
use super::world::{User, caught_up, copy_becomes, setup, stop};
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::postgres;
use crate::support::process::Setup;
use crate::support::proxy::{Proxy, Traffic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_into_the_void_is_given_up() {
    let Some(database) = postgres::database().await else { return };
    let proxy = Proxy::to((std::net::Ipv4Addr::LOCALHOST, database.server.port).into());
    let setup =
        setup(&database.url_through(proxy.address.port())).with("DATS__STORAGE__STATEMENT_TIMEOUT_SECONDS", "1");
    let server = setup.start();
    caught_up(&server, &setup, &database).await;
    proxy.traffic(Traffic::Swallow);
    let client = Client::new(&server.address);
    client.submit(&json!({"description": "while nobody answers"})).await;
    let away = copy_becomes(&server, &setup, |copy| copy["status"] == "away").await;
    assert!(away["lag_changes"].as_u64().unwrap() > 0, "{away}");
    assert_eq!(client.get("/health/detailed").await.json()["status"], "degraded");
    assert_eq!(client.get("/health").await.status, 200);
    let metrics = client.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("dats_replica_state{state=\"away\"} 1"), "{metrics}");
    proxy.traffic(Traffic::Refuse);
    proxy.traffic(Traffic::Pass);
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again() {
    let Some(database) = postgres::private_database().await else { return };
    // Who has waited so long looks for a deadlock, once: the copy, after the
    // other one has begun to wait for it.
    database.execute(&format!("ALTER DATABASE {} SET deadlock_timeout = '2s'", database.name)).await;
    let setup = setup(&database.url()).with("DATS__STORAGE__STATEMENT_TIMEOUT_SECONDS", "20");
    let server = setup.start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "wanted by two"})).await;
    caught_up(&server, &setup, &database).await;
    // The row first, then the state: the copy takes them the other way round.
    let other = database.connect().await;
    other.batch_execute("SET deadlock_timeout = '30s'; BEGIN").await.unwrap();
    other.batch_execute(&format!("UPDATE tasks SET phase = phase WHERE id = '{task}'")).await.unwrap();
    client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    sleep(Duration::from_millis(500)).await;
    other.batch_execute("UPDATE replication_state SET written_at = now()").await.unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    let met = database.server.log().contains("deadlock detected");
    assert!(met, "no deadlock was met: {}", database.server.log());
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for() {
    let Some(database) = postgres::database_on_small_disk(200).await else { return };
    let setup = setup(&database.url());
    let server = setup.start();
    let mut user = User::new(12, &server);
    user.act(20).await;
    caught_up(&server, &setup, &database).await;
    database.server.fill_disk(true);
    // Enough that the database needs room for it.
    let client = Client::new(&server.address);
    let description = "x".repeat(60_000);
    for _ in 0..5 {
        let tasks: Vec<_> = (0..15).map(|_| json!({"description": description})).collect();
        assert_eq!(client.post("tasks/batch", &json!({"tasks": tasks})).await.status, 200);
    }
    copy_becomes(&server, &setup, |copy| copy["status"] == "away").await;
    user.act(10).await;
    database.server.fill_disk(false);
    if !database.server.is_running() {
        database.server.stop(true);
        database.server.run();
    }
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_connection_proves_whom_it_leads_to() {
    let Some(database) = postgres::private_database().await else { return };
    let (Some(its), Some(other)) = (Certificates::of("localhost"), Certificates::of("localhost")) else { return };
    database.server.encrypt(&its.certificate(), &its.key()).await;
    let options = format!("sslmode=verify-full&sslrootcert={}", its.authority().display());
    let url = database.url().replace("sslmode=disable", &options);
    // The certificate names the host, not its address.
    let named = setup(&url.replace("@127.0.0.1", "@localhost"));
    let server = named.start();
    caught_up(&server, &named, &database).await;
    let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'dats' AND ssl";
    assert_eq!(database.number(sql).await, 1);
    stop(server, &named, &database).await;
    let unnamed = named.clone().with("DATABASE_URL", &url);
    refused(&unnamed, "not valid for name", 1).await;
    let its = its.authority().display().to_string();
    let url = url.replace("@127.0.0.1", "@localhost").replace(&its, &other.authority().display().to_string());
    refused(&named.with("DATABASE_URL", &url), "invalid peer certificate", 2).await;
}

/// Only a person can change that the database does not prove who it is.
async fn refused(setup: &Setup, words: &str, told: usize) {
    let server = setup.start();
    let copy = copy_becomes(&server, setup, |copy| copy["status"] == "misconfigured").await;
    assert!(copy["last_error"]["message"].as_str().unwrap().contains(words), "{copy}");
    // Long enough for some more tries.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        setup.log().matches("unable to write to the database until").count(),
        told,
        "once a run: {}",
        setup.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_cascade_arrives_over_a_restart() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url()).with("DATS__STORAGE__BATCH_ROWS", "3");
    let mut server = setup.start();
    let client = Client::new(&server.address);
    // A chain: each output uses the one before.
    let mut previous: Option<String> = None;
    for number in 0..40 {
        let options = json!({"tier": "tiny", "qa_profile": "none"});
        let task = client.submit(&json!({"description": "a link", "options": options})).await;
        let artifact = format!("link-{number}");
        let ask = json!({"worker_id": "w", "max": 1, "lease_seconds": 60, "wait_seconds": 10});
        client.post("queues/tiny/lease", &ask).await;
        let data =
            json!({"task_id": task, "artifact_id": artifact, "inputs_consumed": previous.iter().collect::<Vec<_>>()});
        let event = json!({"specversion": "1.0", "id": artifact, "source": "/t", "type": "dats.task.output.created", "data": data});
        let headers = [("content-type", "application/cloudevents+json")];
        client.ask("POST", "events", &headers, event.to_string()).await.unwrap();
        previous = Some(artifact);
    }
    caught_up(&server, &setup, &database).await;
    let tainted = client.post("provenance/link-0/taint", &json!({"reason": "bad"})).await;
    assert_eq!(tainted.status, 200, "{tainted:?}");
    sleep(Duration::from_millis(20)).await;
    server.kill();
    let server = setup.start();
    stop(server, &setup, &database).await;
    assert_eq!(database.number("SELECT count(*) FROM provenance_records WHERE is_suspect").await, 39);
    assert_equal(&setup.data_dir(), &database).await;
}

/// While a part of a commit is written, the process dies. The next one lists what
/// came before and after that commit under one number, and other rows come first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_written_in_part_is_whole_after_a_kill() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url()).with("DATS__STORAGE__STATEMENT_TIMEOUT_SECONDS", "60");
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let batch = |description: &str, count: usize| json!({"tasks": vec![json!({"description": description}); count]});
    let older = client.post("tasks/batch", &batch("older", 9)).await.json();
    caught_up(&server, &setup, &database).await;
    // What was trimmed from the list is trimmed by a commit of its own.
    sleep(Duration::from_secs(2)).await;
    database
        .execute(
            "CREATE TABLE written (at serial); CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.description = 'newer' THEN INSERT INTO written DEFAULT VALUES; \
             IF (SELECT count(*) FROM written) > 12 THEN PERFORM pg_advisory_xact_lock(42); END IF; END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER hold BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION hold()",
        )
        .await;
    let holder = database.connect().await;
    holder.batch_execute("SELECT pg_advisory_lock(42)").await.unwrap();
    client.post("tasks/batch", &batch("newer", 40)).await;
    let deadline = tokio::time::Instant::now() + super::world::PATIENCE;
    while database.number("SELECT done FROM replication_state").await < 7 {
        assert!(tokio::time::Instant::now() < deadline, "no part of it is written\n{}", setup.log());
        sleep(Duration::from_millis(20)).await;
    }
    for result in older["results"].as_array().unwrap() {
        let task = result["task"]["task_id"].as_str().unwrap();
        assert_eq!(client.post(&format!("tasks/{task}/cancel"), &json!({})).await.status, 200);
    }
    server.kill();
    holder.batch_execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    database.execute("DROP TRIGGER hold ON tasks").await;
    assert!(database.number("SELECT done FROM replication_state").await >= 7);
    let server = setup.start();
    stop(server, &setup, &database).await;
    assert_eq!(database.number("SELECT count(*) FROM tasks WHERE status = 'cancelled'").await, 9);
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_leave_with_retention_and_their_provenance_stays() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url());
    let server = setup.start();
    User::new(11, &server).act(40).await;
    stop(server, &setup, &database).await;
    let dir = setup.data_dir().display().to_string();
    let pruned = crate::support::process::run(
        "127.0.0.1:1",
        &[("DATABASE_URL", &database.url())],
        &["prune", "--older-than", "0s", "--data-dir", &dir],
    );
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    let records = database.number("SELECT count(*) FROM provenance_records").await;
    assert!(records > 0);
    let server = setup.start();
    stop(server, &setup, &database).await;
    assert_eq!(database.number("SELECT count(*) FROM tasks WHERE status = 'completed'").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM provenance_records").await, records);
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_content_holds_up_nothing_else() {
    let Some(database) = postgres::database().await else { return };
    let proxy = Proxy::to((std::net::Ipv4Addr::LOCALHOST, database.server.port).into());
    let setup = setup(&database.url_through(proxy.address.port())).with("DATS__STORAGE__COPY_CONTENTS", "true");
    let server = setup.start();
    caught_up(&server, &setup, &database).await;
    proxy.traffic(Traffic::Refuse);
    let client = Client::new(&server.address);
    for number in 0..3 {
        let options = json!({"tier": "tiny", "qa_profile": "none"});
        let task = client.submit(&json!({"description": "large", "options": options})).await;
        let ask = json!({"worker_id": "w", "max": 1, "lease_seconds": 60, "wait_seconds": 10});
        client.post("queues/tiny/lease", &ask).await;
        let content = format!("{number}").repeat(200_000);
        let data = json!({"task_id": task, "artifact_id": format!("large-{number}"), "output": {"content": content}});
        let id = format!("large-{number}");
        let event =
            json!({"specversion": "1.0", "id": id, "source": "/t", "type": "dats.task.output.created", "data": data});
        let headers = [("content-type", "application/cloudevents+json")];
        assert_eq!(client.ask("POST", "events", &headers, event.to_string()).await.unwrap().status, 200);
    }
    // The second one loses a byte before it is copied.
    let files = files_below(&setup.data_dir().join("contents"));
    let damaged = files.iter().find(|file| std::fs::read(file).unwrap().starts_with(b"11111")).expect("a file");
    std::fs::write(damaged, "1".repeat(199_999)).unwrap();
    client.submit(&json!({"description": "what comes behind"})).await;
    proxy.traffic(Traffic::Pass);
    stop(server, &setup, &database).await;
    assert_eq!(database.number("SELECT count(*) FROM artifact_contents").await, 2);
    assert_equal(&setup.data_dir(), &database).await;
    assert!(setup.log().contains("content not copied"), "{}", setup.log());
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
