//! A database that comes later, or comes back.

use std::time::Duration;

use dats::clock::Clock;
use serde_json::json;
use tokio::time::sleep;

use super::equal::assert_equal;
use super::world::{User, copy_becomes, setup, stop};
use crate::support::client::Client;
use crate::support::postgres;
use crate::support::process::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_late_to_a_full_data_directory() {
    let Some(database) = postgres::database().await else { return };
    let alone = Setup::new();
    let mut server = alone.start();
    let mut user = User::new(5, &server);
    user.act(120).await;
    server.kill();
    // Small pages, and killed again and again on the way.
    let with = alone.clone().with("DATABASE_URL", &database.url()).with("DATS__STORAGE__BATCH_ROWS", "4");
    for _ in 0..3 {
        let mut server = with.start();
        user.moves_to(&server);
        sleep(Duration::from_millis(60)).await;
        user.act(5).await;
        server.kill();
    }
    let server = with.start();
    stop(server, &with, &database).await;
    assert_equal(&with.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_and_added_again() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url());
    let server = setup.start();
    let mut user = User::new(6, &server);
    user.act(40).await;
    stop(server, &setup, &database).await;
    let alone = setup.clone().with("DATABASE_URL", "");
    let mut server = alone.start();
    user.moves_to(&server);
    user.act(40).await;
    server.kill();
    let dir = setup.data_dir().display().to_string();
    let pruned = crate::support::process::run("127.0.0.1:1", &[], &["prune", "--older-than", "0s", "--data-dir", &dir]);
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    let server = setup.start();
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
}

/// Timers change tasks until the writer ends, and the copy ends after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_stop_copies_what_timers_do_until_its_end() {
    let Some(database) = postgres::database().await else { return };
    let setup = setup(&database.url()).with("DATS__STORAGE__BATCH_ROWS", "1000");
    let server = setup.start();
    let client = Client::new(&server.address);
    let begin = Clock::new().wall().after(Duration::from_millis(500));
    let tasks: Vec<_> = (0..1000)
        .map(|place| {
            let due = begin.after(Duration::from_millis(4) * place).to_string();
            json!({"description": "d", "options": {"tier": "small", "not_before": due}})
        })
        .collect();
    assert_eq!(client.post("tasks/batch", &json!({ "tasks": tasks })).await.status, 200);
    sleep(Duration::from_millis(1500)).await;
    stop(server, &setup, &database).await;
    let pending = database.number("SELECT count(*) FROM tasks WHERE phase = 'scheduled'").await;
    assert!((1..999).contains(&pending), "{pending} of the tasks were not due: the stop was no part of it");
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_start_at_once_one_makes_the_tables_and_one_is_refused() {
    let Some(database) = postgres::database().await else { return };
    let (one, other) = (setup(&database.url()), setup(&database.url()));
    let starting = {
        let one = one.clone();
        tokio::task::spawn_blocking(move || one.start())
    };
    let second = other.start();
    let first = starting.await.unwrap();
    let mut found = Vec::new();
    for (server, setup) in [(&first, &one), (&second, &other)] {
        let copy = copy_becomes(server, setup, |copy| copy["doing"] == "following" || copy["doing"] == "refused").await;
        found.push(copy["doing"].as_str().unwrap().to_owned());
    }
    found.sort();
    assert_eq!(found, ["following", "refused"]);
    // Each migration once, and nobody met the other half-way.
    assert_eq!(database.number("SELECT count(*) - count(DISTINCT version) FROM dats_schema_history").await, 0);
    for log in [one.log(), other.log()] {
        assert!(!log.contains("already exists") && !log.contains("panicked"), "{log}");
    }
}
