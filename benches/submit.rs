//! Time of a durable submission through HTTP, on one connection and on 64. The limit is the
//! same without storage: the request is parsed, one thread creates the task, and nothing is
//! stored.

#[expect(dead_code, reason = "this bench uses a part of it")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use dats::workload::load::{ClosedLoop, MakeRequest, post_request};
use support::limits::without_storage;
use support::server::Running;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn submit(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let service = Running::start(&dir.path().join("data"));
    let make: MakeRequest = Arc::new(|number| {
        let description = "Create a Python function that calculates fibonacci numbers";
        let body = format!("{{\"description\":\"{description}\",\"project_id\":\"proj-{}\"}}", number % 20);
        post_request("/api/v1/tasks", &body, "application/json")
    });
    let sides = [("limit: without storage", without_storage()), ("durable", service.address)];
    let mut group = criterion.benchmark_group("submit");
    group.measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    for connections in [1, 64] {
        for (name, address) in sides {
            let mut requests = ClosedLoop::open(address, connections).expect("a server that listens");
            group.bench_function(BenchmarkId::new(name, connections), |bencher| {
                bencher.iter_custom(|count| requests.send(count, 201, &make).expect("answers"));
            });
            println!("{name}, {connections} connections: {}", requests.summary());
        }
    }
    group.finish();
}

criterion_group!(benches, submit);
criterion_main!(benches);
