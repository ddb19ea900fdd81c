//! Time of a status read. Through the engine's handle: for tasks whose answers are in memory
//! (hot) and for tasks that are read from the store (cold), beside a look-up in a `HashMap`
//! and a copy of as many bytes. Through HTTP: on one connection, beside bare hyper.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use dats::engine::Engine;
use dats::task::TaskId;
use dats::workload::load::{ClosedLoop, MakeRequest, get_request};
use support::engine;
use support::limits::bare_hyper;
use support::server::Running;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TASKS: u64 = 100_000;
/// Memory for the answers of all tasks.
const HOT_BYTES: usize = 512 << 20;

/// Chooses tasks evenly, with a stride through all of them.
struct Choice<'a> {
    ids: &'a [TaskId],
    at: usize,
}

impl Choice<'_> {
    fn next(&mut self) -> TaskId {
        self.at = (self.at + 61_803) % self.ids.len();
        self.ids[self.at]
    }
}

fn body(engine: &Engine, id: TaskId) -> Bytes {
    engine.tasks().status_now(id).expect("a store").expect("a task").body
}

fn look_up(group: &mut BenchmarkGroup<'_, WallTime>, engine: &Engine, ids: &[TaskId]) {
    let bodies: HashMap<TaskId, Bytes> = ids.iter().map(|id| (*id, body(engine, *id))).collect();
    let mut choice = Choice { ids, at: 0 };
    group.bench_function("limit: HashMap and copy", |bencher| {
        bencher.iter(|| bodies.get(&choice.next()).map(|body| body.to_vec()));
    });
}

fn status(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, engine: &Engine, ids: &[TaskId]) {
    let mut choice = Choice { ids, at: 0 };
    group.bench_function(name, |bencher| bencher.iter(|| body(engine, choice.next())));
}

fn through_http(group: &mut BenchmarkGroup<'_, WallTime>, data: &Path, ids: &[TaskId], sample: Bytes) {
    let service = Running::start(data);
    // After a start, the service loads finished tasks into memory.
    std::thread::sleep(Duration::from_secs(5));
    let ids: Arc<[TaskId]> = ids.into();
    let make: MakeRequest = Arc::new(move |number| {
        let place = usize::try_from(number).expect("a number").wrapping_mul(61_803) % ids.len();
        get_request(&format!("/api/v1/tasks/{}", ids[place]))
    });
    let sides = [("HTTP, limit: bare hyper", bare_hyper(sample)), ("HTTP, one connection", service.address)];
    for (name, address) in sides {
        let mut connections = ClosedLoop::open(address, 1).expect("a server that listens");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| connections.send(count, 200, &make).expect("answers"));
        });
        println!("{name}: {}", connections.summary());
    }
}

fn status_read(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let data = dir.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("status_read");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(30);

    let (engine, writer) = engine::start(&data, HOT_BYTES);
    let ids = runtime.block_on(engine::finish(&engine, TASKS));
    let sample = body(&engine, ids[ids.len() / 2]);
    println!("{TASKS} finished tasks; an answer has {} bytes", sample.len());
    look_up(&mut group, &engine, &ids);
    status(&mut group, "hot", &engine, &ids);
    drop(engine);
    writer.stop().expect("a store that holds");

    let (engine, writer) = engine::start(&data, 0);
    status(&mut group, "cold", &engine, &ids);
    drop(engine);
    writer.stop().expect("a store that holds");

    through_http(&mut group, &data, &ids, sample);
    group.finish();
}

criterion_group!(benches, status_read);
criterion_main!(benches);
