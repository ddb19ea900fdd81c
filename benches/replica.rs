//! Throughput of the copy in Postgres: rows a second, from the list of changes through
//! snapshot, rows and JSON to a committed transaction. The limit is a bare batch upsert of
//! the same rows, already in memory, into equal tables.
//!
//! The bench starts and stops a private Postgres whose commits wait for the disk.
//! `BENCH_DATABASE_URL` selects an empty database instead.

#[path = "../tests/it/support/postgres.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "written for tests, and this bench uses a part of it")]
mod postgres;
#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::time::Duration;

use dats::clock::{Clock, Stopwatch};
use dats::engine::Engine;
use dats::replica::{Ownership, Replicator, Settings};
use dats::store::Store;
use support::engine::{finish, start};
use support::run::is_test;
use support::upsert::Upserts;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TASKS: u64 = 20_000;
const BATCH: usize = 1000;
/// Tables of the bare upserts; each has one row for each task.
const TABLES: [&str; 2] = ["tasks", "provenance_records"];

fn main() {
    if is_test() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        if let Ok(url) = std::env::var("BENCH_DATABASE_URL") {
            return measure(&url).await;
        }
        let Some(database) = postgres::private_database().await else { return };
        // Tests turn fsync off; this bench measures real commits.
        database.execute("ALTER SYSTEM SET fsync = on").await;
        database.execute("SELECT pg_reload_conf()").await;
        measure(&database.url()).await;
    });
}

async fn measure(url: &str) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let data = dir.path().join("data");
    let store = Store::open(&data, 1 << 20).expect("a store");
    store.list_changes(true, Clock::new().now()).expect("a list");
    drop(store);
    let (engine, writer) = start(&data, 1 << 20);
    let client = connect(url).await;
    follow(&engine, url, &client).await;
    finish(&engine, TASKS).await;
    let (rows, seconds) = follow(&engine, url, &client).await;
    let followed = rows / seconds;
    println!("the copy: {rows:.0} rows in {seconds:.2} s, {followed:.0} a second");
    let (rows, seconds) = bare(&client).await;
    let limit = rows / seconds;
    println!("limit, bare upserts by {BATCH}: {rows:.0} rows in {seconds:.2} s, {limit:.0} a second");
    println!("ratio {:.2}", followed / limit);
    writer.stop().expect("a clean end");
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a database");
    tokio::spawn(connection);
    client
}

/// Waits until the copy has caught up. Returns rows and seconds.
async fn follow(engine: &Engine, url: &str, client: &Client) -> (f64, f64) {
    let settings = Settings {
        address: url.parse().expect("an address"),
        provenance_table: "provenance_records".to_owned(),
        batch_rows: BATCH,
        contents: false,
        statement_timeout: Duration::from_secs(30),
        retry_max: Duration::from_secs(1),
        adopt: true,
    };
    let replicator = Replicator::new(engine.clone(), settings, Ownership::in_memory(), Clock::new());
    let (status, stop) = (replicator.status(), CancellationToken::new());
    let stopwatch = Stopwatch::start();
    let running = tokio::spawn(replicator.run(stop.clone()));
    let goal = i64::try_from(engine.replication().commit_number().0).expect("a number");
    let sql = "SELECT count(*) FROM replication_state WHERE commit >= $1 AND scan_table IS NULL";
    // The table does not exist before the first migration.
    while client.query_one(sql, &[&goal]).await.map_or(0, |row| row.get::<_, i64>(0)) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = stopwatch.elapsed().as_secs_f64();
    stop.cancel();
    running.await.expect("a clean end");
    (f64::from(u32::try_from(status.figures().rows).expect("a count")), seconds)
}

/// Upserts the same rows into equal tables. Returns rows and seconds.
async fn bare(client: &Client) -> (f64, f64) {
    let (mut rows, mut seconds) = (0.0, 0.0);
    for table in TABLES {
        let upserts = Upserts::of(client, table, BATCH).await;
        let stopwatch = Stopwatch::start();
        rows += upserts.run(client).await;
        seconds += stopwatch.elapsed().as_secs_f64();
        client.batch_execute(&format!("DROP TABLE bare_{table}")).await.expect("no table");
    }
    (rows, seconds)
}
