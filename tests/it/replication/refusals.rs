//! What the database refuses, and who is refused by it.

use serde_json::json;

use super::equal::assert_equal;
use super::world::{User, caught_up, copy_becomes, setup, stop, verify};
use crate::support::client::Client;
use crate::support::postgres::{self, PASSWORD};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_row_is_set_aside_alone() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url());
    let server = setup.start();
    caught_up(&server, &setup, &database).await;
    database.execute("ALTER TABLE tasks ADD CHECK (description <> 'poison')").await;
    let tasks: Vec<_> = (0..30)
        .map(|number| json!({"description": if number == 17 { "poison" } else { "food" }, "project_id": "kitchen"}))
        .collect();
    let answer = Client::new(&server.address).post("tasks/batch", &json!({"tasks": tasks})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    caught_up(&server, &setup, &database).await;
    assert_eq!(database.number("SELECT count(*) FROM tasks WHERE project_id = 'kitchen'").await, 29);
    assert_eq!(database.number("SELECT count(*) FROM replication_rejects WHERE source = 'tasks'").await, 1);
    let copy = copy_becomes(&server, &setup, |copy| copy["rejects"] == 1).await;
    assert_eq!(copy["status"], "healthy", "one bad row stops nothing: {copy}");
    stop(server, &setup, &database).await;
    let verified = verify(&setup, &database.url(), &["--repair"]);
    assert_eq!(verified.code, 1, "{} {}", verified.stdout, verified.stderr);
    database.execute("ALTER TABLE tasks DROP CONSTRAINT tasks_description_check").await;
    let verified = verify(&setup, &database.url(), &["--repair"]);
    assert_eq!(verified.code, 0, "{} {}", verified.stdout, verified.stderr);
    assert_eq!(database.number("SELECT count(*) FROM replication_rejects").await, 0);
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_bad_record_waits_with_it() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url());
    let server = setup.start();
    caught_up(&server, &setup, &database).await;
    // Refused by a trigger, and only when the transaction ends.
    database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'not this one'; END $$; \
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON provenance_records \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
             WHEN (NEW.outputs->0->>'artifact_id' = 'bad') EXECUTE FUNCTION refuse()",
        )
        .await;
    let client = Client::new(&server.address);
    for (artifact, used) in [("good", vec![]), ("bad", vec!["good"]), ("after", vec!["bad", "good"])] {
        let options = json!({"tier": "tiny", "qa_profile": "none"});
        let task = client.submit(&json!({"description": artifact, "options": options})).await;
        let ask = json!({"worker_id": "w", "max": 1, "lease_seconds": 60, "wait_seconds": 10});
        client.post("queues/tiny/lease", &ask).await;
        let data = json!({"task_id": task, "artifact_id": artifact, "inputs_consumed": used});
        let event = json!({"specversion": "1.0", "id": artifact, "source": "/t", "type": "dats.task.output.created", "data": data});
        let headers = [("content-type", "application/cloudevents+json")];
        client.ask("POST", "events", &headers, event.to_string()).await.unwrap();
    }
    caught_up(&server, &setup, &database).await;
    assert_eq!(database.number("SELECT count(*) FROM provenance_records").await, 2);
    assert_eq!(database.number("SELECT count(*) FROM artifact_dependencies").await, 1);
    let waiting = "SELECT count(*) FROM replication_rejects WHERE source = 'artifact_dependencies'";
    assert_eq!(database.number(waiting).await, 2, "one to the bad record and one from it");
    stop(server, &setup, &database).await;
    database.execute("DROP TRIGGER refuse ON provenance_records").await;
    let verified = verify(&setup, &database.url(), &["--repair"]);
    assert_eq!(verified.code, 0, "{} {}", verified.stdout, verified.stderr);
    assert_eq!(database.number("SELECT count(*) FROM artifact_dependencies").await, 3);
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_data_directory_does_not_write_there_unless_told_to() {
    let Some(database) = postgres::database().await else { return };
    let first = setup(&database.url());
    let server = first.start();
    User::new(3, &server).act(30).await;
    stop(server, &first, &database).await;
    let before = database.number("SELECT sum(hashtext(state::text)) FROM tasks").await;
    let second = setup(&database.url());
    let mut server = second.start();
    Client::new(&server.address).submit(&json!({"description": "a stranger"})).await;
    let copy = copy_becomes(&server, &second, |copy| copy["status"] == "refused").await;
    assert!(copy["last_error"]["message"].as_str().unwrap().contains("another data directory"), "{copy}");
    assert_eq!(database.number("SELECT sum(hashtext(state::text)) FROM tasks").await, before);
    server.kill();
    let adopting = second.clone().flag("--adopt");
    let server = adopting.start();
    stop(server, &adopting, &database).await;
    assert_equal(&second.data_dir(), &database).await;
    let mut server = first.start();
    copy_becomes(&server, &first, |copy| copy["status"] == "refused").await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_once_and_never_shown() {
    let Some(database) = postgres::database().await else { return };
    let wrong = database.url().replace(PASSWORD, "wrong-horse");
    let setup = setup(&wrong);
    let server = setup.start();
    let client = Client::new(&server.address);
    client.submit(&json!({"description": "goes on"})).await;
    let copy = copy_becomes(&server, &setup, |copy| copy["status"] == "misconfigured").await;
    assert!(copy["last_error"]["message"].as_str().unwrap().contains("password authentication failed"), "{copy}");
    // Long enough for some more tries.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let (log, health) = (setup.log(), client.get("/health/detailed").await);
    assert_eq!(log.matches("password authentication failed").count(), 1, "{log}");
    assert!(!log.contains("wrong-horse") && !String::from_utf8_lossy(&health.body).contains("wrong-horse"));
    let shown = crate::support::process::run("127.0.0.1:1", &[("DATABASE_URL", &wrong)], &["config", "show"]);
    assert!(shown.stdout.contains("***@127.0.0.1") && !shown.stdout.contains("wrong-horse"), "{}", shown.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_tables_the_copy_stops_and_says_so() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url());
    let server = setup.start();
    caught_up(&server, &setup, &database).await;
    database.execute("ALTER TABLE tasks RENAME TO mislaid").await;
    let client = Client::new(&server.address);
    client.submit(&json!({"description": "nowhere to go"})).await;
    let copy = copy_becomes(&server, &setup, |copy| copy["status"] == "misconfigured").await;
    assert!(copy["last_error"]["message"].as_str().unwrap().contains("\"tasks\" does not exist"), "{copy}");
    assert_eq!(copy["rejects"], 0, "it is no fault of a row: {copy}");
    assert_eq!(client.get("/readyz").await.status, 200);
    database.execute("ALTER TABLE mislaid RENAME TO tasks").await;
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
}
