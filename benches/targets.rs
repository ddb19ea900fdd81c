//! The performance targets of the service, with a million finished tasks and ten thousand
//! open ones. Each limit and the service run in turn, for several rounds in one process;
//! the targets are ratios.
//!
//! `DATS_BENCH_TASKS` (1000000), `DATS_BENCH_SECONDS` (30: for each side of
//! each comparison).

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dats::clock::Stopwatch;
use dats::workload::load::{Connection, MakeRequest, Measured, get_request, post_request};
use dats::workload::mixed;
use support::limits::{DurableFile, bare_hyper, without_storage};
use support::lives::{PROJECTS, call, finish_all, submission_request, submit_batch};
use support::run::{is_test, run, setting, verdict};
use support::server::{Process, Running};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u32 = 3;
const OPEN: u64 = 10_000;

fn main() {
    if is_test() {
        return;
    }
    let tasks = setting("DATS_BENCH_TASKS", 1_000_000);
    let seconds = setting("DATS_BENCH_SECONDS", 30);
    let round = Duration::from_secs(seconds) / ROUNDS;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let data = dir.path().join("data");
    println!("{tasks} finished tasks, {OPEN} open ones, {seconds} s a side in {ROUNDS} rounds\n");
    let ids = populate(&data, tasks);
    memory_and_start(&data);
    status_reads(&data, ids, round);
    submissions(&data, dir.path(), round);
}

/// Completes tasks through HTTP, and leaves some open.
fn populate(data: &Path, tasks: u64) -> Vec<String> {
    let service = Running::start(data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = Stopwatch::start();
    let ids = runtime.block_on(async {
        let mut connection = Connection::open(service.address).await.expect("a server that listens");
        for project in 0..PROJECTS {
            let body =
                format!("{{\"project_id\":\"proj-{project}\",\"qa_profile\":\"none\",\"max_concurrent\":10000}}");
            call(&mut connection, &post_request("/api/v1/projects", &body, "application/json"), 201).await;
        }
        let mut ids = Vec::new();
        while u64::try_from(ids.len()).expect("a count") < tasks {
            submit_batch(&mut connection, 1000).await;
            ids.extend(finish_all(&mut connection, false).await);
        }
        for _ in 0..OPEN / 1000 {
            submit_batch(&mut connection, 1000).await;
        }
        for project in 0..PROJECTS {
            let request = format!("/api/v1/projects/proj-{project}");
            let body = "{\"max_concurrent\":10}";
            let patch = String::from_utf8(post_request(&request, body, "application/json")).expect("text");
            call(&mut connection, patch.replacen("POST", "PATCH", 1).as_bytes(), 200).await;
        }
        ids
    });
    let rate = ids.len().checked_div(usize::try_from(started.elapsed().as_secs()).unwrap_or(1).max(1));
    println!(
        "populated in {:.0?}: {} completed tasks a second through HTTP in batches",
        started.elapsed(),
        rate.unwrap_or(0)
    );
    ids
}

/// Measures the service as a process of its own: its memory, and its start after `kill -9`.
fn memory_and_start(data: &Path) {
    let first = Process::start(data);
    println!("\nstart after a clean stop: {:.0?}", first.started_in);
    drop(first);
    let second = Process::start(data);
    println!("start after kill -9: {:.0?} (target: under 5 s)", second.started_in);
    // Finished tasks are loaded into memory in the background.
    let mut resident = 0;
    for _ in 0..60 {
        std::thread::sleep(Duration::from_secs(1));
        let now = second.resident_mib();
        if now <= resident {
            break;
        }
        resident = now;
    }
    println!("resident memory: {resident} MiB (target: under 1024)");
}

/// Runs both sides in turn for several rounds, and returns the median round of each.
fn in_turn(mut limit: impl FnMut() -> Measured, mut service: impl FnMut() -> Measured) -> (Measured, Measured) {
    let (mut limits, mut services) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        limits.push(limit());
        services.push(service());
    }
    (median(limits), median(services))
}

fn median(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    rounds.swap_remove(rounds.len() / 2)
}

fn report(name: &str, limit: &Measured, service: &Measured, target: f64) {
    let ratio = service.per_second() / limit.per_second();
    println!("\n{name}");
    for (side, measured) in [("limit", limit), ("service", service)] {
        println!(
            "  {side:8} {:>8.0} /s   p50 {:>9.1?}   p99 {:>9.1?}   worst {:>9.1?}   unexpected {}",
            measured.per_second(),
            measured.quantile(0.5),
            measured.quantile(0.99),
            measured.quantile(1.0),
            measured.latencies.failed(),
        );
    }
    println!("  ratio    {ratio:.2}, target {target:.2}: {}", verdict(ratio >= target));
}

fn status_reads(data: &Path, ids: Vec<String>, round: Duration) {
    let service = Running::start(data);
    // After a start, the service loads finished tasks into memory.
    std::thread::sleep(Duration::from_secs(20));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sample = runtime.block_on(async {
        let mut connection = Connection::open(service.address).await.expect("a server that listens");
        connection
            .call(&get_request(&format!("/api/v1/tasks/{}", ids[ids.len() / 2])))
            .await
            .expect("a server that answers")
            .1
            .to_vec()
    });
    println!("\na status answer has {} bytes", sample.len());
    let limit = bare_hyper(Bytes::from(sample));
    let ids = Arc::new(ids);
    let make: MakeRequest = Arc::new(move |number| {
        let place = usize::try_from(mixed(number)).unwrap_or(0) % ids.len();
        get_request(&format!("/api/v1/tasks/{}", ids[place]))
    });
    let of = |address: SocketAddr| run(address, 64, round, 200, &make);
    let (limit, service) = in_turn(|| of(limit), || of(service.address));
    report("status reads of uniformly chosen tasks, 64 connections, against bare hyper", &limit, &service, 0.70);
}

fn submissions(data: &Path, dir: &Path, round: Duration) {
    let service = Running::start(data);
    let limit = without_storage();
    let make: MakeRequest = Arc::new(submission_request);
    for (connections, target) in [(64, 0.20), (256, 0.40)] {
        let of = |address: SocketAddr| run(address, connections, round, 201, &make);
        let (limit, service) = in_turn(|| of(limit), || of(service.address));
        let name = format!("durable submissions, {connections} connections, against the same without storage");
        report(&name, &limit, &service, target);
    }
    one_at_a_time(service.address, dir, round, &make);
}

fn one_at_a_time(service: SocketAddr, dir: &Path, round: Duration, make: &MakeRequest) {
    let empty = bare_hyper(Bytes::new());
    let ask: MakeRequest = Arc::new(|_| get_request("/"));
    let mut file = DurableFile::new(dir, 4096);
    let (mut writes, mut trips, mut submissions) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Stopwatch::start();
        while started.elapsed() < round {
            writes.push(file.write_durably());
        }
        trips.push(run(empty, 1, round, 200, &ask));
        submissions.push(run(service, 1, round, 201, make));
    }
    writes.sort_unstable();
    let write = writes[writes.len() / 2];
    let (trip, submission) = (median(trips).quantile(0.5), median(submissions).quantile(0.5));
    let ratio = submission.as_secs_f64() / (write + trip).as_secs_f64();
    println!("\none submission at a time, medians");
    println!("  4 KiB write + fdatasync {write:.1?}, empty round trip {trip:.1?}, submission {submission:.1?}");
    println!("  ratio {ratio:.2}, target at most 3: {}", verdict(ratio <= 3.0));
}
