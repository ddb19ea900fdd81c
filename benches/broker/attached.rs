//! What submissions at a fixed pace pay for a broker and a database: the same
//! service without them and with both, in turn; and whether what is to be
//! published or copied grows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dats::clock::Stopwatch;
use serde_json::Value;

use super::setting;
use super::support::load::{Connection, MakeRequest, Measured, get, post};
use super::support::pace::paced;
use super::support::server::Process;
use super::world::{Peer, RabbitMq, environment, pause, postgres};

const PER_SECOND: u32 = 2000;
const TARGET: f64 = 1.5;

/// What waits for the broker, and for the database, in changes.
type Waiting = (u64, u64);

pub(crate) async fn measure(broker: &RabbitMq) {
    let span = Duration::from_secs(setting("DATS_BENCH_SECONDS", 10));
    let Some(first) = postgres::private_database().await else { return };
    // Tests have it off; here commits are to cost what they cost.
    first.execute("ALTER SYSTEM SET fsync = on").await;
    first.execute("SELECT pg_reload_conf()").await;
    let peer = Peer::connect(broker.address()).await.expect("a broker");
    let (mut alone, mut attached) = (Vec::new(), Vec::new());
    println!("\n{PER_SECOND} submissions a second, each published and copied, {} s a round", span.as_secs());
    for round in 0..setting("DATS_BENCH_ROUNDS", 3) {
        let slots = environment(broker).into_iter().filter(|(name, _)| !name.starts_with("RABBITMQ"));
        alone.push(side(&slots.collect::<Vec<_>>(), span, None).await);
        let database = postgres::Database::on(first.server.clone()).await;
        let mut settings = environment(broker);
        match std::env::var("ATTACH").as_deref() {
            Ok("rabbit") => {}
            Ok("postgres") => {
                settings.retain(|(name, _)| !name.starts_with("RABBITMQ"));
                settings.push(("DATABASE_URL", database.url()));
            }
            _ => settings.push(("DATABASE_URL", database.url())),
        }
        attached.push(side(&settings, span, Some(round)).await);
        peer.purge().await;
    }
    let (alone, attached) = (median(alone), median(attached));
    for (name, measured) in [("alone", &alone), ("with both", &attached)] {
        println!(
            "  {name:10} {:>6.0} /s   P50 {:>8.1?}   P95 {:>8.1?}   P99 {:>8.1?}   worst {:>8.1?}   unexpected {}",
            measured.per_second,
            measured.quantile(0.5),
            measured.quantile(0.95),
            measured.quantile(0.99),
            measured.quantile(1.0),
            measured.unexpected,
        );
    }
    let ratio = attached.quantile(0.95).as_secs_f64() / alone.quantile(0.95).as_secs_f64();
    let verdict = if ratio <= TARGET { "holds" } else { "FALLS SHORT" };
    println!("  ratio of P95 {ratio:.2}, target at most {TARGET}: {verdict}");
}

fn median(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by_key(|measured| measured.quantile(0.95));
    rounds.swap_remove(rounds.len() / 2)
}

/// One side on a fresh data directory; of an attached one also what waits.
async fn side(settings: &[(&str, String)], span: Duration, attached: Option<u64>) -> Measured {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let service = Process::start_with(&dir.path().join("data"), settings);
    // Connections, declarations and migrations come first.
    pause(3000).await;
    let make: MakeRequest = Arc::new(|number| {
        let description = "Create a Python function that calculates fibonacci numbers";
        let body = format!(
            "{{\"description\":\"{description}\",\"project_id\":\"proj-{}\",\"options\":{{\"tier\":\"small\"}}}}",
            number % 20
        );
        post("/api/v1/tasks", &body, "application/json")
    });
    let (before, total) = (cpu(service.id()), machine());
    let load = async {
        let found = paced(service.address, PER_SECOND, span, 201, make).await;
        println!("    cpu service {:.2}, all {:.2} s", cpu(service.id()) - before, machine() - total);
        found
    };
    let Some(round) = attached else { return load.await };
    let watching = watch(service.address, span);
    let (measured, seen) = tokio::join!(load, watching);
    let ended = Stopwatch::start();
    let mut connection = Connection::open(service.address).await;
    while waiting(&mut connection).await != (0, 0) {
        assert!(ended.elapsed() < Duration::from_mins(1), "what waits does not go");
        pause(20).await;
    }
    let part = |at: usize| seen.get(seen.len() * at / 4).or(seen.last()).copied().unwrap_or_default();
    println!(
        "  round {round}: changes that wait for the broker and the database, at a quarter {:?}, half {:?}, three quarters {:?}, \
         the end {:?}, most {:?}; none {:.1?} later",
        part(1),
        part(2),
        part(3),
        part(4),
        (seen.iter().map(|seen| seen.0).max().unwrap_or(0), seen.iter().map(|seen| seen.1).max().unwrap_or(0)),
        ended.elapsed(),
    );
    measured
}

async fn watch(address: SocketAddr, span: Duration) -> Vec<Waiting> {
    let started = Stopwatch::start();
    let mut connection = Connection::open(address).await;
    let mut seen = Vec::new();
    while started.elapsed() < span {
        pause(250).await;
        seen.push(waiting(&mut connection).await);
    }
    seen
}

async fn waiting(connection: &mut Connection) -> Waiting {
    let (_, body) = connection.call(&get("/api/v1/health/detailed")).await;
    let health: Value = serde_json::from_slice(body).expect("JSON");
    let of = |name: &str, figure: &str| health["dependencies"][name][figure].as_u64().unwrap_or(0);
    (of("rabbitmq", "backlog_changes"), of("postgres", "lag_changes"))
}

fn cpu(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("figures");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("f").split_whitespace().collect();
    (fields[11].parse::<f64>().expect("n") + fields[12].parse::<f64>().expect("n")) / 100.0
}

fn machine() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("figures");
    let f: Vec<f64> = stat.lines().next().expect("l").split_whitespace().skip(1).map(|x| x.parse().expect("n")).collect();
    (f.iter().take(8).sum::<f64>() - f[3] - f[4]) / 100.0
}
