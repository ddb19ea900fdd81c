//! Comparison of this build with another one: submissions with their processor time and
//! written bytes, status reads, whole task lives. Both run in turn, each as a process of
//! its own on a data directory of its own, with the limits beside them.
//!
//! `DATS_BENCH_BEFORE`: binary of the other version (required).
//! `DATS_BENCH_PROGRAM`: binary of this version (default: the one that was built).
//! `DATS_BENCH_SECONDS` (10): for each side of each round.
//! `DATS_BENCH_ROUNDS` (3).
//! `DATS_BENCH_TASKS` (200000): finished tasks that are read.
//! `DATS_BENCH_ONLY`: only `submissions`, `reads` or `lives`.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dats::clock::Stopwatch;
use dats::workload::load::{Connection, MakeRequest, Measured, get_request, post_request};
use support::limits::{bare_hyper, without_storage};
use support::lives::{PROJECTS, call, finish_all, submission_request, submit_batch};
use support::run::{is_test, run, setting};
use support::server::Process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One round of submissions.
#[derive(Debug, Clone)]
struct Submissions {
    measured: Measured,
    processor_micros: f64,
    bytes: f64,
}

fn main() {
    if is_test() {
        return;
    }
    let Some(before) = std::env::var_os("DATS_BENCH_BEFORE") else {
        println!("versions: set DATS_BENCH_BEFORE to the binary of another version");
        return;
    };
    let program = std::env::var_os("DATS_BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_dats").into());
    let sides = [PathBuf::from(before), PathBuf::from(program)];
    let seconds = Duration::from_secs(setting("DATS_BENCH_SECONDS", 10));
    let rounds = usize::try_from(setting("DATS_BENCH_ROUNDS", 3)).expect("a small number");
    let only = std::env::var("DATS_BENCH_ONLY").unwrap_or_default();
    if only.is_empty() || only == "submissions" {
        for connections in [64, 256] {
            submissions(&sides, connections, seconds, rounds);
        }
    }
    if only.is_empty() || only == "reads" {
        status_reads(&sides, seconds, rounds);
    }
    if only.is_empty() || only == "lives" {
        whole_lives(&sides, seconds, rounds);
    }
}

fn float(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a figure needs no more than 52 bits")]
    {
        number as f64
    }
}

fn median<T>(mut rounds: Vec<T>, of: impl Fn(&T) -> f64) -> T {
    rounds.sort_by(|a, b| of(a).total_cmp(&of(b)));
    rounds.swap_remove(rounds.len() / 2)
}

fn line(name: &str, measured: &Measured) -> String {
    format!(
        "  {name:22} {:>8.0} /s   p50 {:>9.1?}   p99 {:>9.1?}   worst {:>9.1?}   unexpected {}",
        measured.per_second(),
        measured.quantile(0.5),
        measured.quantile(0.99),
        measured.quantile(1.0),
        measured.latencies.failed()
    )
}

/// Compares submissions. Each round has an empty data directory, so that both sides store the
/// same.
fn submissions(sides: &[PathBuf; 2], connections: u64, span: Duration, rounds: usize) {
    let make: MakeRequest = Arc::new(submission_request);
    let limit = without_storage();
    let mut limits = Vec::new();
    let mut found: [Vec<Submissions>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        limits.push(run(limit, connections, span, 201, &make));
        for (side, found) in sides.iter().zip(&mut found) {
            found.push(submissions_once(side, connections, span, &make));
        }
    }
    println!("\ndurable submissions, {connections} connections, medians of {rounds} rounds");
    let limit = median(limits, Measured::per_second);
    println!("{}", line("without storage", &limit));
    let [before, this] = found.map(|rounds| {
        let rate = median(rounds.clone(), |round| round.measured.per_second()).measured;
        let processor_micros = median(rounds.clone(), |round| round.processor_micros).processor_micros;
        let bytes = median(rounds, |round| round.bytes).bytes;
        Submissions { measured: rate, processor_micros, bytes }
    });
    for (name, side) in [("before", &before), ("this", &this)] {
        println!("{}", line(name, &side.measured));
        println!(
            "  {:22} {:.1} µs of processor time, {:.0} bytes written a submission",
            "", side.processor_micros, side.bytes
        );
    }
    ratio("rate to the same without storage", this.measured.per_second() / limit.per_second(), "at least 0.75");
    ratio("rate to before", this.measured.per_second() / before.measured.per_second(), "");
    ratio(
        "p99 to before",
        this.measured.quantile(0.99).as_secs_f64() / before.measured.quantile(0.99).as_secs_f64(),
        "at most 1",
    );
    ratio(
        "processor time to before",
        this.processor_micros / before.processor_micros,
        "at most 0.75 at 64 connections",
    );
    ratio("bytes written to before", this.bytes / before.bytes, "at most 0.6 at 64 connections");
}

fn ratio(name: &str, ratio: f64, target: &str) {
    let target = if target.is_empty() { String::new() } else { format!(" (target: {target})") };
    println!("  {name}: {ratio:.2}{target}");
}

fn submissions_once(side: &Path, connections: u64, span: Duration, make: &MakeRequest) -> Submissions {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let service = Process::start_program(side, &dir.path().join("data"), &[]);
    let (processor, bytes) = (service.processor_time(), service.bytes_written());
    let measured = run(service.address, connections, span, 201, make);
    // Deferred work belongs to the submissions, too.
    std::thread::sleep(Duration::from_secs(3));
    let count = float(measured.latencies.count());
    let processor = service.processor_time().checked_sub(processor).expect("time that goes on");
    let bytes = service.bytes_written() - bytes;
    Submissions { measured, processor_micros: processor.as_secs_f64() * 1e6 / count, bytes: float(bytes) / count }
}

/// Compares status reads of finished tasks, each side on its own directory.
fn status_reads(sides: &[PathBuf; 2], span: Duration, rounds: usize) {
    let dirs = sides.each_ref().map(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"));
    let mut services = Vec::new();
    for (side, dir) in sides.iter().zip(&dirs) {
        let service = Process::start_program(side, &dir.path().join("data"), &[]);
        let ids = complete_tasks(service.address, setting("DATS_BENCH_TASKS", 200_000), Duration::MAX).0;
        services.push((service, Arc::new(ids)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sample = runtime.block_on(async {
        let (service, ids) = &services[1];
        let mut connection = Connection::open(service.address).await.expect("a server that listens");
        connection
            .call(&get_request(&format!("/api/v1/tasks/{}", ids[ids.len() / 2])))
            .await
            .expect("a server that answers")
            .1
            .to_vec()
    });
    let length = sample.len();
    let limit = bare_hyper(Bytes::from(sample));
    let mut found: [Vec<Measured>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let ids = services[1].1.clone();
        found[0].push(run(limit, 64, span, 200, &read_request(ids)));
        for (place, (service, ids)) in services.iter().enumerate() {
            found[place + 1].push(run(service.address, 64, span, 200, &read_request(ids.clone())));
        }
    }
    println!("\nstatus reads of {length} bytes, 64 connections, medians of {rounds} rounds");
    let [limit, before, this] = found.map(|rounds| median(rounds, Measured::per_second));
    for (name, measured) in [("bare hyper", &limit), ("before", &before), ("this", &this)] {
        println!("{}", line(name, measured));
    }
    ratio("rate to bare hyper", this.per_second() / limit.per_second(), "at least 0.85");
    ratio("rate to before", this.per_second() / before.per_second(), "");
}

fn read_request(ids: Arc<Vec<String>>) -> MakeRequest {
    Arc::new(move |number| {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let place = usize::try_from(spread).unwrap_or(0) % ids.len();
        get_request(&format!("/api/v1/tasks/{}", ids[place]))
    })
}

fn whole_lives(sides: &[PathBuf; 2], span: Duration, rounds: usize) {
    let mut found: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (side, found) in sides.iter().zip(&mut found) {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
            let service = Process::start_program(side, &dir.path().join("data"), &[]);
            let (ids, took) = complete_tasks(service.address, u64::MAX, span);
            found.push(float(u64::try_from(ids.len()).expect("a count")) / took.as_secs_f64());
        }
    }
    println!("\nwhole lives (submit, lease, output, verdict) in batches, one connection, medians of {rounds} rounds");
    let [before, this] = found.map(|rounds| median(rounds, |rate| *rate));
    println!("  before {before:.0} /s, this {this:.0} /s");
    ratio("rate to before", this / before, "at least 1.5");
}

/// Completes tasks until there are `most` or the time is up.
fn complete_tasks(address: SocketAddr, most: u64, span: Duration) -> (Vec<String>, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = Connection::open(address).await.expect("a server that listens");
        for project in 0..PROJECTS {
            let body = format!("{{\"project_id\":\"proj-{project}\",\"max_concurrent\":10000}}");
            call(&mut connection, &post_request("/api/v1/projects", &body, "application/json"), 201).await;
        }
        let started = Stopwatch::start();
        let mut ids = Vec::new();
        while u64::try_from(ids.len()).expect("a count") < most && started.elapsed() < span {
            submit_batch(&mut connection, 1000).await;
            ids.extend(finish_all(&mut connection, true).await);
        }
        (ids, started.elapsed())
    })
}
