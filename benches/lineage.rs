//! Walks of the provenance graph compared with a plain breadth-first walk over compact
//! arrays, and the cost of its steps.
//!
//! Two shapes: records with three inputs each, chosen evenly among all earlier records, so
//! that neighbours are far apart in memory; and one chain. The limit is a breadth-first
//! walk over an array of offsets and one of targets, with a bit set.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use dats::clock::Stopwatch;
use dats::lineage::{Action, Graph, Node, Record, Relationship, RestoredRecord, WorkStart};
use dats::task::{ArtifactId, ProjectId, RecordId, RecordStatus, Seq, TaskId, Timestamp};
use fixedbitset::FixedBitSet;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Returns a number that looks random and is the same in every run.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 31)
}

fn uuid(kind: u64, number: u64) -> Uuid {
    Uuid::from_u64_pair(mixed(number * 4 + kind), number)
}

fn artifact(number: u64) -> ArtifactId {
    ArtifactId::new(&uuid(1, number).to_string()).expect("an artifact")
}

fn record_id(number: u64) -> RecordId {
    RecordId::new(uuid(2, number))
}

/// Returns the numbers of the records that a record uses.
type Shape = fn(u64) -> Vec<u64>;

fn from_anywhere(number: u64) -> Vec<u64> {
    (0..number.min(3)).map(|input| mixed(number * 3 + input) % number).collect()
}

fn from_the_one_before(number: u64) -> Vec<u64> {
    number.checked_sub(1).into_iter().collect()
}

fn record(number: u64, project: &ProjectId, shape: Shape) -> Record {
    Record {
        id: record_id(number),
        task: TaskId::new(uuid(3, number)),
        project: project.clone(),
        status: RecordStatus::Passed,
        created_at: Timestamp::from_micros(i64::try_from(number).expect("a time") * 1000),
        started_at: None,
        began: WorkStart::After(Seq(number)),
        inputs: shape(number).into_iter().map(|input| (artifact(input), Relationship::Consumed)).collect(),
        outputs: vec![artifact(number)],
    }
}

fn rows(count: u64, shape: Shape) -> Vec<RestoredRecord> {
    let project = ProjectId::new("proj-123").expect("a project");
    let row = |number| {
        let record = record(number, &project, shape);
        RestoredRecord { record, seq: Seq(number + 1), fact: None, rebound: Vec::new(), refused: Vec::new() }
    };
    (0..count).map(row).collect()
}

/// The dependents of all records in one array.
struct Arrays {
    starts: Vec<u32>,
    targets: Vec<u32>,
}

impl Arrays {
    fn of(graph: &Graph) -> Self {
        let (mut starts, mut targets) = (vec![0], Vec::new());
        for node in graph.nodes() {
            let below = graph.dependents(&[node], Some(1));
            targets.extend(below.iter().map(|found| index(graph, found.record)));
            starts.push(u32::try_from(targets.len()).expect("an index"));
        }
        Self { starts, targets }
    }

    fn walk(&self, from: u32) -> usize {
        let mut seen = FixedBitSet::with_capacity(self.starts.len());
        seen.insert(place(from));
        let mut queue = vec![from];
        let mut next = 0;
        while let Some(&node) = queue.get(next) {
            next += 1;
            let bounds = [self.starts[place(node)], self.starts[place(node) + 1]].map(place);
            for &target in &self.targets[bounds[0]..bounds[1]] {
                if !seen.put(place(target)) {
                    queue.push(target);
                }
            }
        }
        queue.len() - 1
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).expect("an index")
}

fn index(graph: &Graph, node: Node) -> u32 {
    u32::try_from(petgraph::visit::NodeIndexable::to_index(graph, node)).expect("an index")
}

/// Returns the median time of several runs.
fn median<T>(runs: usize, mut run: impl FnMut() -> T) -> Duration {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..runs {
        let started = Stopwatch::start();
        black_box(run());
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times[runs / 2]
}

fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1000.0)
}

/// Runs both in turn, so that both run under the same conditions, and prints the ratio.
fn compare(name: &str, graph: &Graph) {
    let arrays = Arrays::of(graph);
    let root = graph.find(record_id(0)).expect("the root");
    let reached = graph.dependents(&[root], None).len();
    assert_eq!(reached, arrays.walk(0));
    let mut ratios: Vec<f64> = (0..9)
        .map(|_| {
            let ours = median(3, || graph.dependents(&[root], None).len());
            let plain = median(3, || arrays.walk(0));
            ours.as_secs_f64() / plain.as_secs_f64()
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let plain = median(9, || arrays.walk(0));
    println!(
        "{name}: dependents of a root that reaches {reached}: {:.2} times a plain walk ({})",
        ratios[4],
        millis(plain)
    );
}

/// Inserts records as the writer does: after each group a version is published, and a reader
/// holds it until the next one.
fn append(name: &str, graph: &Graph, count: u64, shape: Shape) {
    let (project, mut graph) = (ProjectId::new("proj-123").expect("a project"), graph.clone());
    let mut published = graph.clone();
    let mut number = count;
    for group in [1, 64] {
        let mut times = Vec::new();
        for _ in 0..10_000 / group {
            let records: Vec<Record> = (0..group).map(|next| record(number + next, &project, shape)).collect();
            number += group;
            let started = Stopwatch::start();
            for record in &records {
                graph.insert(record, graph.newest().next()).expect("a step");
            }
            published.clone_from(&graph);
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let [half, most, all] = [times.len() / 2, times.len() * 99 / 100, times.len() - 1].map(|at| times[at]);
        println!("{name}: insert {group} and publish: median {half:?}, p99 {most:?}, longest {all:?}");
    }
    assert_eq!(published.len(), graph.len());
}

fn built(name: &str, count: u64, shape: Shape) -> Graph {
    let rows = rows(count, shape);
    let started = Stopwatch::start();
    let (graph, step) = Graph::restore(rows, Seq(count)).expect("a graph");
    let took = started.elapsed();
    assert!(step.bound.is_empty() && step.refused.is_empty());
    let footprint = graph.footprint();
    let per = |bytes: usize, count: u64| bytes / usize::try_from(count).expect("a count");
    println!(
        "\n{name}: built in {}; {} edges; bytes: {} a record, {} an edge, {} an artifact with its name",
        millis(took),
        graph.edge_count(),
        per(footprint.records, count),
        per(footprint.edges, graph.edge_count()),
        per(footprint.artifacts, count)
    );
    graph
}

fn queries(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, graph: &Graph, count: u64) {
    let [first, middle, last] = [0, count / 2, count - 1].map(|it| graph.find(record_id(it)).expect("a record"));
    group.bench_function(BenchmarkId::new("dependents", name), |bencher| {
        bencher.iter(|| graph.dependents(&[first], None).len());
    });
    group.bench_function(BenchmarkId::new("dependents to depth 3", name), |bencher| {
        bencher.iter(|| graph.dependents(&[middle], Some(3)).len());
    });
    group.bench_function(BenchmarkId::new("path", name), |bencher| bencher.iter(|| graph.path(first, last, None)));
    group.bench_function(BenchmarkId::new("impact", name), |bencher| {
        bencher.iter(|| graph.impact(&[first], None).tasks.len());
    });
}

fn steps(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, graph: &Graph) {
    let (root, position) = ([record_id(0)], graph.newest().next());
    group.bench_function(BenchmarkId::new("taint", name), |bencher| {
        let taint = |mut graph: Graph| graph.apply(Action::Taint, &root, position).map(|step| (graph, step));
        bencher.iter_batched(|| graph.clone(), taint, BatchSize::PerIteration);
    });
    let mut tainted = graph.clone();
    tainted.apply(Action::Taint, &root, position).expect("a step");
    group.bench_function(BenchmarkId::new("clear", name), |bencher| {
        let clear = |mut graph: Graph| graph.apply(Action::Clear, &root, position.next()).map(|step| (graph, step));
        bencher.iter_batched(|| tainted.clone(), clear, BatchSize::PerIteration);
    });
    let mut twice = graph.clone();
    twice.apply(Action::Taint, &[record_id(0), record_id(1)], position).expect("a step");
    group.bench_function(BenchmarkId::new("clear, another taint stays", name), |bencher| {
        let clear = |mut graph: Graph| graph.apply(Action::Clear, &root, position.next()).map(|step| (graph, step));
        bencher.iter_batched(|| twice.clone(), clear, BatchSize::PerIteration);
    });
    let last = tainted.nodes().last().expect("a record");
    group.bench_function(BenchmarkId::new("root causes", name), |bencher| {
        bencher.iter(|| tainted.root_causes(last, None).len());
    });
}

fn lineage(criterion: &mut Criterion) {
    // `cargo test --benches` passes this argument.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut group = criterion.benchmark_group("lineage");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300)).sample_size(10);
    let shapes: [(&str, u64, Shape); 3] = [
        ("100000", 100_000, from_anywhere),
        ("1000000", 1_000_000, from_anywhere),
        ("chain of 1000000", 1_000_000, from_the_one_before),
    ];
    for (name, count, shape) in shapes {
        let graph = built(name, count, shape);
        compare(name, &graph);
        append(name, &graph, count, shape);
        queries(&mut group, name, &graph, count);
        steps(&mut group, name, &graph);
    }
    group.finish();
}

criterion_group!(benches, lineage);
criterion_main!(benches);
