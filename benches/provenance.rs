//! Latency of provenance queries over HTTP, and their effect on other requests. Stores of a
//! hundred thousand and of a million records, each with about three inputs, chosen evenly
//! among all earlier records; the real server; one connection in a closed loop.
//!
//! `DATS_BENCH_RECORDS` (100000,1000000), `DATS_BENCH_ROUNDS` (30: how often each query is
//! sent), `DATS_BENCH_SECONDS` (20: for each side of the comparisons), `DATS_BENCH_DATA` (a
//! directory in which prepared stores are kept for the next run).

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dats::clock::Stopwatch;
use dats::engine::Subject;
use dats::lineage::{Graph, Node};
use dats::task::ArtifactId;
use dats::workload::load::{Connection, MakeRequest, Measured, get_request, post_request};
use dats::workload::mixed;
use petgraph::visit::{IntoNeighborsDirected as _, NodeIndexable as _};
use serde_json::{Value, json};
use support::run::{is_test, run, setting, verdict};
use support::server::Process;
use support::{engine, linked};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const JSON: &str = "application/json";
/// Longest time for an answer about a hundred thousand records.
const LIMIT: Duration = Duration::from_secs(1);
/// Approximate bytes of a changed flag in the audit trail.
const CHANGE_BYTES: usize = 6;

fn main() {
    if is_test() {
        return;
    }
    let sizes = std::env::var("DATS_BENCH_RECORDS").unwrap_or_else(|_| "100000,1000000".to_owned());
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let kept = std::env::var_os("DATS_BENCH_DATA").map_or_else(|| dir.path().to_owned(), PathBuf::from);
    for records in sizes.split(',').map(|size| size.trim().parse().expect("a number of records")) {
        let data = kept.join(format!("records-{records}"));
        let prepared = prepare(&data, records);
        let service = Process::start(&data);
        println!("\n{records} records, {} inputs; ready after {:.1?}", prepared.inputs, service.started_in);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = Client { runtime, address: service.address, rounds: setting("DATS_BENCH_ROUNDS", 30) };
        client.queries(records);
        client.cascades(&prepared, dir.path());
        if prepared.is_first() {
            beside_walks(&service, records);
            beside_taints(&service);
        }
        println!("resident memory: {} MiB", service.resident_mib());
    }
}

/// A prepared store.
struct Prepared {
    graph: Arc<Graph>,
    root: Node,
    inputs: u64,
}

impl Prepared {
    /// Returns whether the store has the size of the comparisons.
    fn is_first(&self) -> bool {
        self.graph.len() <= 100_000
    }
}

/// Fills a store with the records of completed tasks, unless an earlier run has.
fn prepare(data: &Path, records: u64) -> Prepared {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let is_new = !data.join("dats.redb").exists();
    let started = Stopwatch::start();
    let (engine, writer) = engine::start(data, 0);
    if is_new {
        runtime.block_on(linked::finish(&engine, records));
        println!("{records} records made in {:.0?}", started.elapsed());
    }
    let graph = engine.provenance().graph();
    assert_eq!(u64::from(graph.len()), records, "{} has another number of records", data.display());
    let first = Subject::Artifact(ArtifactId::new(&linked::artifact(0)).expect("an artifact"));
    let root = first.resolve(&graph).expect("the first record");
    drop(engine);
    writer.stop().expect("a store that holds");
    Prepared { inputs: graph.edge_count(), graph, root }
}

/// Latencies of one query.
struct QueryTimes(Vec<Duration>);

impl QueryTimes {
    /// Returns the latency within which `percent` of the answers arrived.
    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let [p50, p95, worst] = [50, 95, 100].map(|percent| self.at(percent).as_secs_f64() * 1000.0);
        let verdict = if self.at(95) <= LIMIT { "" } else { "  ABOVE 1 s" };
        println!("  {name:44} P50 {p50:>9.2} ms   P95 {p95:>9.2} ms   max {worst:>9.2} ms{verdict}");
    }
}

struct Client {
    runtime: Runtime,
    address: SocketAddr,
    rounds: u64,
}

impl Client {
    /// Sends a query several times, after one to warm up.
    fn ask(&self, name: &str, rounds: u64, request: impl Fn(u64) -> Vec<u8>) {
        self.runtime.block_on(async {
            let mut connection = Connection::open(self.address).await.expect("a server that listens");
            let mut asked = QueryTimes(Vec::new());
            for round in 0..=rounds {
                let request = request(round);
                let started = Stopwatch::start();
                let (status, body) = connection.call(&request).await.expect("a server that answers");
                assert_eq!(status, 200, "{name}: {}", String::from_utf8_lossy(body));
                asked.0.push(started.elapsed());
            }
            asked.0.remove(0);
            asked.print(name);
        });
    }

    fn get(&self, name: &str, path: impl Fn(u64) -> String) {
        self.ask(name, self.rounds, |round| get_request(&format!("/api/v1/{}", path(round))));
    }

    /// Measures the queries that change nothing.
    fn queries(&self, records: u64) {
        let any = |round| linked::artifact(mixed(round) % records);
        let (first, last) = (linked::artifact(0), linked::artifact(records - 1));
        self.get("record", |round| format!("provenance/{}", any(round)));
        self.get("artifact", |round| format!("artifacts/{}", any(round)));
        self.get("dependents of the first, first page", |_| format!("provenance/{first}/dependents"));
        self.get("dependents, direct", |round| format!("provenance/{}/dependents?direct=true", any(round)));
        self.get("dependencies of the last, first page", |_| format!("provenance/{last}/dependencies"));
        self.get("impact of the first", |_| format!("provenance/{first}/impact"));
        self.get("shortest path, first to last", |_| format!("provenance/path?from={first}&to={last}"));
        for format in ["dot", "prov"] {
            self.get(&format!("export, {format}, depth 2"), |round| {
                // A record with others above and below it, but not more than a document holds.
                let middle = linked::artifact(records / 2 + mixed(round) % 1000);
                format!("provenance/{middle}/export?format={format}&depth=2")
            });
        }
        self.get("list, newest", |_| "provenance".to_owned());
        self.get("list, project and status", |_| "provenance?project_id=proj-3&status=passed&limit=1000".to_owned());
        self.get("list, a model without records", |_| "provenance?model=none".to_owned());
        self.get("list, tainted (none)", |_| "provenance?tainted=true".to_owned());
        self.get("consistency of a project", |_| "projects/proj-3/consistency".to_owned());
        self.all_pages(&first, records);
    }

    /// Measures a walk over all pages, with a thousand entries each.
    fn all_pages(&self, first: &str, records: u64) {
        let rounds = if records > 100_000 { 3 } else { 10 };
        let path = format!("/api/v1/provenance/{first}/dependents?limit=1000");
        let (mut whole, mut single, mut found) = (QueryTimes(Vec::new()), QueryTimes(Vec::new()), 0);
        self.runtime.block_on(async {
            let mut connection = Connection::open(self.address).await.expect("a server that listens");
            for _ in 0..rounds {
                let (started, mut cursor) = (Stopwatch::start(), None);
                found = 0;
                loop {
                    let page = cursor.take().map_or_else(|| path.clone(), |next| format!("{path}&cursor={next}"));
                    let asked = Stopwatch::start();
                    let (status, body) = connection.call(&get_request(&page)).await.expect("a server that answers");
                    single.0.push(asked.elapsed());
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
                    found += memchr::memmem::find_iter(body, "\"through\"").count();
                    cursor = text_after(body, b"\"next_cursor\":\"");
                    if cursor.is_none() {
                        break;
                    }
                }
                whole.0.push(started.elapsed());
            }
        });
        whole.print(&format!("dependents, all pages: {found} entries"));
        single.print("  each page of a thousand");
    }

    /// Sends a request that is not measured.
    fn call(&self, request: &[u8]) -> Value {
        self.runtime.block_on(async {
            let mut connection = Connection::open(self.address).await.expect("a server that listens");
            let (status, body) = connection.call(request).await.expect("a server that answers");
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
            serde_json::from_slice(body).expect("JSON")
        })
    }

    /// Measures taints and clears of the first record, on which nearly all others depend.
    fn cascades(&self, prepared: &Prepared, dir: &Path) {
        let last = linked::artifact(u64::from(prepared.graph.len()) - 1);
        let dry = flag_request("taint", &json!({"reason": "a bench", "dry_run": true}));
        self.ask("taint of the first, dry run", self.rounds, |_| dry.clone());
        let (mut taints, mut clears, mut bare) =
            (QueryTimes(Vec::new()), QueryTimes(Vec::new()), QueryTimes(Vec::new()));
        let mut suspects = 0;
        let arrays = Arrays::new(&prepared.graph);
        let mut target = QueryTimes(Vec::new());
        for _ in 0..self.rounds.min(10) {
            let started = Stopwatch::start();
            let answer = self.call(&flag_request("taint", &json!({"reason": "a bench"})));
            taints.0.push(started.elapsed());
            suspects = usize::try_from(answer["counts"]["suspect"].as_u64().expect("a count")).expect("a count");
            let started = Stopwatch::start();
            self.call(&flag_request("clear", &json!({"reason": "a bench"})));
            clears.0.push(started.elapsed());
            let started = Stopwatch::start();
            let reached = arrays.walk(prepared.root);
            let walked = started.elapsed();
            assert_eq!(reached, suspects);
            let written = write_durably(dir, suspects * CHANGE_BYTES);
            bare.0.push(walked + written);
            target.0.push(walked * 5 + written);
        }
        taints.print(&format!("taint of the first: {suspects} suspects"));
        clears.print("clear of it");
        bare.print("limit: a bare walk and one durable write");
        target.print("target: five bare walks and one durable write");
        self.call(&flag_request("taint", &json!({"reason": "a bench"})));
        self.get("root causes of the last, tainted", |_| format!("provenance/{last}/root-cause"));
        self.get("list, suspect, a thousand", |_| "provenance?suspect=true&limit=1000".to_owned());
        self.get("audit trail, newest", |_| "taint-events?limit=1000".to_owned());
        self.call(&flag_request("clear", &json!({"reason": "a bench"})));
    }
}

/// The dependents of all records in two arrays.
struct Arrays {
    starts: Vec<usize>,
    dependents: Vec<usize>,
}

impl Arrays {
    fn new(graph: &Graph) -> Self {
        let (mut starts, mut dependents) = (vec![0], Vec::new());
        for node in graph.nodes() {
            let of_it = graph.neighbors_directed(node, petgraph::Direction::Incoming);
            dependents.extend(of_it.map(|dependent| graph.to_index(dependent)));
            starts.push(dependents.len());
        }
        Self { starts, dependents }
    }

    /// Returns how many records a breadth-first walk reaches.
    fn walk(&self, start: Node) -> usize {
        let start = Graph::default().to_index(start);
        let mut seen = fixedbitset::FixedBitSet::with_capacity(self.starts.len());
        seen.insert(start);
        let mut queue = vec![start];
        let mut next = 0;
        while let Some(&node) = queue.get(next) {
            next += 1;
            for &dependent in &self.dependents[self.starts[node]..self.starts[node + 1]] {
                if !seen.put(dependent) {
                    queue.push(dependent);
                }
            }
        }
        queue.len() - 1
    }
}

/// Writes bytes durably and returns how long that took.
fn write_durably(dir: &Path, bytes: usize) -> Duration {
    let mut file = File::create(dir.join("limit")).expect("a file");
    let content = vec![7; bytes];
    let started = Stopwatch::start();
    file.write_all(&content).expect("a write");
    file.sync_data().expect("a sync");
    started.elapsed()
}

fn flag_request(action: &str, body: &Value) -> Vec<u8> {
    post_request(&format!("/api/v1/provenance/{}/{action}", linked::artifact(0)), &body.to_string(), JSON)
}

/// Returns the text after the last `before`, up to the next quotation mark.
fn text_after(body: &[u8], before: &[u8]) -> Option<String> {
    let from = memchr::memmem::rfind(body, before)? + before.len();
    let length = memchr::memchr(b'"', &body[from..])?;
    String::from_utf8(body[from..from + length].to_vec()).ok()
}

/// Sends requests during a measurement. Returns the result of the measurement and the number of
/// requests.
fn beside<T>(address: SocketAddr, pause: Duration, requests: &[Vec<u8>], measure: impl FnOnce() -> T) -> (T, u64) {
    let ended = Arc::new(AtomicBool::new(false));
    let (stop, requests) = (ended.clone(), requests.to_vec());
    let asking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut connection, mut count) = (Connection::open(address).await.expect("a server that listens"), 0);
            // In whole rounds, because one request undoes another.
            while !stop.load(Ordering::Relaxed) {
                for request in &requests {
                    assert_eq!(connection.call(request).await.expect("a server that answers").0, 200);
                    count += 1;
                    tokio::time::sleep(pause).await;
                }
            }
            count
        })
    });
    let measured = measure();
    ended.store(true, Ordering::Relaxed);
    (measured, asking.join().expect("a thread that ended"))
}

fn line(name: &str, measured: &Measured) {
    println!(
        "  {name:44} {:>8.0} /s   P50 {:.1?}, P99 {:.1?}, worst {:.1?}, unexpected {}",
        measured.per_second(),
        measured.quantile(0.5),
        measured.quantile(0.99),
        measured.quantile(1.0),
        measured.latencies.failed(),
    );
}

/// Measures status reads alone, and beside a walk over all records ten times a second.
fn beside_walks(service: &Process, records: u64) {
    let round = Duration::from_secs(setting("DATS_BENCH_SECONDS", 20)) / 4;
    let ids = linked::tasks(&service.address, records);
    let make: MakeRequest = Arc::new(move |number| {
        let place = usize::try_from(mixed(number)).unwrap_or(0) % ids.len();
        get_request(&format!("/api/v1/tasks/{}", ids[place]))
    });
    let walk = [get_request(&format!("/api/v1/provenance/{}/dependents", linked::artifact(0)))];
    let reads = || run(service.address, 64, round, 200, &make);
    reads();
    let (mut alone, mut accompanied, mut walks) = (Vec::new(), Vec::new(), 0);
    for _ in 0..4 {
        alone.push(reads());
        let (measured, count) = beside(service.address, Duration::from_millis(100), &walk, reads);
        accompanied.push(measured);
        walks += count;
    }
    println!("\nstatus reads, 64 connections, in turn");
    let [alone, accompanied] = [alone, accompanied].map(middle);
    line("alone", &alone);
    line(&format!("beside {walks} walks in total, one each 100 ms"), &accompanied);
    let ratio = accompanied.per_second() / alone.per_second();
    println!("  ratio {ratio:.2}, target at least 0.80: {}", verdict(ratio >= 0.8));
}

fn middle(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    rounds.swap_remove(rounds.len() / 2)
}

/// Measures submissions alone, and beside taints and clears of all records without a pause.
fn beside_taints(service: &Process) {
    let round = Duration::from_secs(setting("DATS_BENCH_SECONDS", 20)) / 2;
    let body =
        json!({"description": "beside a taint", "project_id": "beside", "options": {"tier": "small"}}).to_string();
    let make: MakeRequest = Arc::new(move |_| post_request("/api/v1/tasks", &body, JSON));
    let submissions = || run(service.address, 16, round, 201, &make);
    println!("\nsubmissions, 16 connections");
    line("alone", &submissions());
    let reason = json!({"reason": "a bench"});
    let both = [flag_request("taint", &reason), flag_request("clear", &reason)];
    let (measured, count) = beside(service.address, Duration::ZERO, &both, submissions);
    line(&format!("beside {count} taints and clears without pause"), &measured);
    let (p99, target) = (measured.quantile(0.99), Duration::from_millis(100));
    println!("  P99 {p99:.1?}, target under 100 ms: {}", verdict(p99 < target));
}
