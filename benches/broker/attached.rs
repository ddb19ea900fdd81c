//! Cost of a broker and a database for submissions at a fixed pace: the same service without
//! them and with both, in turn; and whether the backlog of events and rows grows. All of it
//! runs on the same cores, so there is a third side, the [control](super::control). Both are
//! measured again with a broker and a database that only get idle processor time, because
//! then their own work is not in the figures.
//!
//! `DATS_BENCH_ATTACH` (default: both): `rabbitmq` or `postgres`, to measure one of them; then
//! without the control.

use std::net::SocketAddr;
use std::time::Duration;

use dats::clock::Stopwatch;
use dats::workload::load::{Connection, Measured, Pace, get_request, post_request};
use serde_json::Value;

use super::control::Control;

use super::publish;
use super::support::pace::{CONNECTIONS, run_at_pace};
use super::support::run::{setting, verdict};
use super::support::server::Process;
use super::world::{ATTACHED_PER_SECOND, Peer, RabbitMq, Share, environment, pause, postgres, set_share};

const TARGET: f64 = 1.5;

/// Changes that are not yet published or copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Backlog {
    broker: u64,
    database: u64,
}

/// The result of one side.
struct Side {
    load: Measured,
    /// Cores that the service used.
    cores: f64,
}

pub(crate) async fn measure(broker: &RabbitMq) {
    let span = Duration::from_secs(setting("DATS_BENCH_SECONDS", 10));
    let Some(first) = postgres::private_database().await else { return };
    // Tests turn fsync off; this bench measures real commits.
    first.execute("ALTER SYSTEM SET fsync = on").await;
    first.execute("SELECT pg_reload_conf()").await;
    let peer = Peer::connect(broker.address()).await.expect("a broker");
    let only = std::env::var("DATS_BENCH_ATTACH").unwrap_or_default();
    let without: Vec<_> = environment(broker).into_iter().filter(|(name, _)| !name.starts_with("RABBITMQ")).collect();
    let mut alone = Vec::new();
    let mut beside = [Share::Equal, Share::Rest].map(|share| (share, Vec::new(), Vec::new()));
    println!("\n{ATTACHED_PER_SECOND} submissions a second, each published and copied, {} s a round", span.as_secs());
    for round in 0..setting("DATS_BENCH_ROUNDS", 3) {
        alone.push(side(&without, span, None).await);
        for (share, attached, control) in &mut beside {
            set_share(*share, broker, &first.server);
            let database = postgres::Database::on(first.server.clone()).await;
            let mut settings = if only == "postgres" { without.clone() } else { environment(broker) };
            if only != "rabbitmq" {
                settings.push(("DATABASE_URL", database.url()));
            }
            attached.push(side(&settings, span, Some(round)).await);
            if only != "postgres" {
                peer.purge().await;
            }
            if only.is_empty() {
                let feeding = Control::start(broker.address(), publish::samples(broker).await, database);
                control.push(side(&without, span, None).await);
                tokio::task::block_in_place(|| feeding.stop());
                peer.purge().await;
            }
        }
    }
    let alone = median(alone).expect("a round");
    show("alone", &alone);
    for (share, attached, control) in beside {
        println!(
            "  {}",
            if share == Share::Equal {
                "broker and database with equal priority"
            } else {
                "broker and database with idle time only"
            }
        );
        for (name, rounds, is_ours) in [("attached", attached, true), ("control", control, false)] {
            let Some(side) = median(rounds) else { continue };
            show(name, &side);
            compare(&alone, &side, is_ours);
        }
    }
}

/// Compares the service with the target.
fn compare(alone: &Side, side: &Side, is_ours: bool) {
    let ratio = side.load.quantile(0.95).as_secs_f64() / alone.load.quantile(0.95).as_secs_f64();
    let target =
        if is_ours { format!(", target at most {TARGET}: {}", verdict(ratio <= TARGET)) } else { String::new() };
    println!("    ratio of its P95 {ratio:.2}{target}");
}

fn show(name: &str, side: &Side) {
    let load = &side.load;
    println!(
        "  {name:8} {:>6.0} /s   P50 {:>8.1?}   P95 {:>8.1?}   P99 {:>8.1?}   worst {:>8.1?}   unexpected {}   \
         cores of the service {:.2}",
        load.per_second(),
        load.quantile(0.5),
        load.quantile(0.95),
        load.quantile(0.99),
        load.quantile(1.0),
        load.latencies.failed(),
        side.cores,
    );
}

fn median(mut rounds: Vec<Side>) -> Option<Side> {
    rounds.sort_by_key(|side| side.load.quantile(0.95));
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle)
}

/// Measures one side on a fresh data directory; of an attached one also the backlog.
async fn side(settings: &[(&str, String)], span: Duration, attached: Option<u64>) -> Side {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let service = Process::start_with(&dir.path().join("data"), settings);
    // Time for connections, declarations and migrations.
    pause(3000).await;
    let make = |number: u64| {
        let description = "Create a Python function that calculates fibonacci numbers";
        let body = format!(
            "{{\"description\":\"{description}\",\"project_id\":\"proj-{}\",\"options\":{{\"tier\":\"small\"}}}}",
            number % 20
        );
        post_request("/api/v1/tasks", &body, "application/json")
    };
    let pace = Pace { per_second: ATTACHED_PER_SECOND, duration: span, connections: CONNECTIONS };
    let (began, before) = (Stopwatch::start(), service.processor_time());
    let (load, seen) = tokio::join!(
        run_at_pace(service.address, pace, make),
        watch(service.address, if attached.is_some() { span } else { Duration::ZERO }),
    );
    let used = service.processor_time().checked_sub(before).expect("time that goes on");
    let cores = used.as_secs_f64() / began.elapsed().as_secs_f64();
    if let Some(round) = attached {
        report(round, &service, &seen).await;
    }
    Side { load, cores }
}

async fn report(round: u64, service: &Process, seen: &[Backlog]) {
    let ended = Stopwatch::start();
    let mut connection = Connection::open(service.address).await.expect("a server that listens");
    while backlog(&mut connection).await != Backlog::default() {
        assert!(ended.elapsed() < Duration::from_mins(1), "the backlog is not processed");
        pause(20).await;
    }
    let part = |at: usize| seen.get(seen.len() * at / 4).or(seen.last()).copied().unwrap_or_default();
    let most = Backlog {
        broker: seen.iter().map(|seen| seen.broker).max().unwrap_or(0),
        database: seen.iter().map(|seen| seen.database).max().unwrap_or(0),
    };
    println!(
        "  round {round}, backlog in changes: at a quarter {:?}, half {:?}, three quarters {:?}, \
         the end {:?}, most {most:?}; none {:.1?} later",
        part(1),
        part(2),
        part(3),
        part(4),
        ended.elapsed(),
    );
}

async fn watch(address: SocketAddr, span: Duration) -> Vec<Backlog> {
    let started = Stopwatch::start();
    let mut connection = Connection::open(address).await.expect("a server that listens");
    let mut seen = Vec::new();
    while started.elapsed() < span {
        pause(250).await;
        seen.push(backlog(&mut connection).await);
    }
    seen
}

async fn backlog(connection: &mut Connection) -> Backlog {
    let (_, body) = connection.call(&get_request("/api/v1/health/detailed")).await.expect("a server that answers");
    let health: Value = serde_json::from_slice(body).expect("JSON");
    // A service without broker or database has no such field.
    let of = |name: &str, figure: &str| health["dependencies"][name][figure].as_u64().unwrap_or(0);
    Backlog { broker: of("rabbitmq", "backlog_changes"), database: of("postgres", "lag_changes") }
}
