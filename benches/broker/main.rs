//! What do `RabbitMQ` and Postgres cost, and how fast do events pass? Three
//! questions, each against a broker and a database of its own, which this
//! bench starts and ends itself:
//!
//! 1. How many events a second do we publish, held against a bare loop of the
//!    client library that sends the same messages?
//! 2. How long from the publishing of an event by another service until its
//!    effect can be read over HTTP: at rest, under load, over a restart of the
//!    broker?
//! 3. What do submissions at a fixed pace pay for both being attached, and
//!    does either fall behind? Beside it, what they pay when bare clients do
//!    the same to broker and database.
//!
//! `DATS_BENCH_SECONDS` (10: for each side of each comparison of times),
//! `DATS_BENCH_ROUNDS` (3), `DATS_BENCH_EVENTS` (20000: for each round of the
//! first question), `DATS_BENCH_ONLY` (one of `publish`, `latency`, `attached`).

mod attached;
mod control;
mod latency;
mod publish;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "this bench needs a part of it")]
mod support;
mod world;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if support::run::is_test() || !world::has_broker() {
        return;
    }
    let only = std::env::var("DATS_BENCH_ONLY").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let broker = world::start_broker();
    if wanted("publish") {
        runtime.block_on(publish::measure(&broker));
    }
    if wanted("latency") {
        runtime.block_on(latency::measure(&broker));
    }
    if wanted("attached") {
        runtime.block_on(attached::measure(&broker));
    }
}
