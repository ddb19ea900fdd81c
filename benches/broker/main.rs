//! Cost of `RabbitMQ` and Postgres, and latency of events. Three measurements, against a
//! private broker and a private database:
//!
//! 1. `publish`: events published a second, compared with a bare loop of the client library
//!    that sends the same messages.
//! 2. `latency`: time from the publishing of an event by another service until its effect
//!    can be read over HTTP: at rest, under load, and during a restart of the broker.
//! 3. `attached`: cost of both for submissions at a fixed pace, and whether either falls
//!    behind, compared with bare clients that put the same load on broker and database.
//!
//! `DATS_BENCH_SECONDS` (10: for each side of each comparison of times), `DATS_BENCH_ROUNDS`
//! (3), `DATS_BENCH_EVENTS` (20000: for each round of `publish`), `DATS_BENCH_ONLY` (one of
//! the three names).

mod attached;
mod control;
mod latency;
mod publish;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "this bench uses a part of it")]
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
