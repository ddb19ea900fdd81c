//! Promises 1 to 5 and 9 against `kill -9`: clients that never stop, a server
//! that is killed at random moments, and a ledger outside of it.
//!
//! `DATS_SEED` repeats a run as far as timing allows, `DATS_ROUNDS` makes it
//! longer. The journal of a run that fails is kept; its path is printed.

mod check;
mod facts;
mod restart;
mod rollback;
mod system_calls;
mod undo;
mod work;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::process::{Server, Setup};
use facts::{Dice, Facts, journal_path};
use work::{CHANGING, FIXED, FIXED_LIMIT, Field};

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills() {
    let seed = number_of("DATS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = number_of("DATS_ROUNDS").unwrap_or(22);
    println!("DATS_SEED={seed} DATS_ROUNDS={rounds}, journal in {}", journal_path(seed).display());
    let mut dice = Dice::new(seed);
    let setup = Setup::new().with("DATS__TASK_MANAGEMENT__BACKOFF_INITIAL_SECONDS", "1");
    let facts = Arc::new(Mutex::new(Facts::new(seed)));
    let (gate, server) = watch::channel(None);
    let (stopping, stop) = watch::channel(false);
    let field = Field { facts: Arc::clone(&facts), server, stop };

    let mut process = setup.start();
    make_projects(&Client::new(&process.address)).await;
    gate.send_replace(Some(Client::new(&process.address)));
    let mut clients = spawn(&field, &mut dice);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(100 + dice.below(900))).await;
        process.kill();
        gate.send_replace(None);
        process = restart(&setup, &mut dice);
        let client = Client::new(&process.address);
        look(&client, &facts, &format!("round {round} of seed {seed}")).await;
        gate.send_replace(Some(client));
    }
    stopping.send_replace(true);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let mut facts = facts.lock().unwrap().clone();
    check::at_end(&Client::new(&process.address), &mut facts).await;
    println!("{}", summary(&facts));
    assert_eq!(facts.errors, [""; 0], "seed {seed}");
    // A run in which nothing was at stake proves nothing.
    assert!(facts.lost >= rounds / 2 && facts.tasks.len() > 100 && facts.events.len() > 50, "{}", summary(&facts));
    std::fs::remove_file(journal_path(seed)).unwrap();
}

fn summary(facts: &Facts) -> String {
    let (lost, tasks, events) = (facts.lost, facts.tasks.len(), facts.events.len());
    let (cancelled, log) = (facts.cancelled.len(), facts.log.len());
    format!("{lost} lost answers, {tasks} tasks, {cancelled} cancelled, {events} events, {log} entries of the log")
}

/// Limits that never change, and some that do.
async fn make_projects(client: &Client) {
    for project in FIXED {
        let body = json!({"project_id": project, "max_concurrent": FIXED_LIMIT});
        assert_eq!(client.post("projects", &body).await.status, 201);
    }
    for project in CHANGING {
        assert_eq!(client.post("projects", &json!({"project_id": project})).await.status, 201);
    }
}

fn spawn(field: &Field, dice: &mut Dice) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let mut own = || Dice::new(dice.roll());
    for _ in 0..4 {
        clients.spawn(work::client(field.clone(), own()));
    }
    for _ in 0..3 {
        clients.spawn(work::worker(field.clone(), own()));
    }
    clients.spawn(work::manager(field.clone(), own()));
    clients.spawn(work::watcher(field.clone()));
    clients
}

/// Starts again on the same data; now and then it dies at once.
fn restart(setup: &Setup, dice: &mut Dice) -> Server {
    let mut process = setup.start();
    while dice.chance(20) {
        std::thread::sleep(Duration::from_millis(dice.below(30)));
        process.kill();
        process = setup.start();
    }
    process
}

/// Checks while the clients wait for the gate to open.
async fn look(client: &Client, facts: &Mutex<Facts>, when: &str) {
    let mut seen = facts.lock().unwrap().clone();
    seen.note(when);
    check::after_start(client, &mut seen).await;
    assert_eq!(seen.errors, [""; 0], "{when}");
    facts.lock().unwrap().log = seen.log;
}
