//! Time of a commit by the number of its submissions, beside the time that the disk needs
//! for a durable write of as many bytes.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dats::store::{About, Batch, Counters, LogEntry, Standing, Store};
use dats::task::{Change, Now, Seq, TaskId, Timestamp, submit};
use support::limits::{DurableFile, resolved, submission};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of the rows of one submission.
const ROW_BYTES: usize = 600;

fn commit_submissions(store: &Store, count: u64, seq: &mut Seq) {
    let now = Now::aligned(Timestamp::from_micros(1_768_000_000_000_000));
    let mut batch = Batch::default();
    for number in 0..count {
        let project = format!("proj-{}", number % 20);
        let submission = submission("Create a Python function that calculates fibonacci numbers", &project);
        let id = TaskId::new(Uuid::now_v7());
        let task = submit(id, &submission, resolved(), &[], now, &dats::task::Policy::default()).task;
        *seq = seq.next();
        let entry = LogEntry {
            at: now.wall,
            observed: now.observed,
            project: task.project.clone(),
            about: About::Task(Standing {
                task: id,
                version: 1,
                status: task.status(),
                phase: task.phase(),
                attempt: 0,
            }),
            change: Change::Created,
            event: None,
            on_bus: false,
        };
        batch.put_submission(id, &submission).expect("a row");
        batch.put_task(None, &task).expect("a row");
        batch.append(*seq, entry).expect("a row");
        if number < 20 {
            batch.put_counters(&task.project, &Counters::default()).expect("a row");
        }
    }
    batch.commit(store, now).expect("a commit");
}

fn commit(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = Store::open(&dir.path().join("data"), 128 << 20).expect("a store");
    let mut seq = Seq(0);
    let mut group = criterion.benchmark_group("commit");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(30);
    for count in [1_u64, 16, 64, 256] {
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("store", count), &count, |bencher, &count| {
            bencher.iter(|| commit_submissions(&store, count, &mut seq));
        });
        let bytes = ROW_BYTES * usize::try_from(count).expect("a count");
        let mut file = DurableFile::new(dir.path(), bytes.next_multiple_of(4096));
        group.bench_with_input(BenchmarkId::new("write and fdatasync", count), &count, |bencher, _| {
            bencher.iter(|| file.write_durably());
        });
    }
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
