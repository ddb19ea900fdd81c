//! Worker and QA of the demo.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::workload::console::Console;
use crate::workload::error::Error;
use crate::workload::simulate::{qa, worker};

/// Starts a worker and QA, which run until `stop`. QA rejects the first attempt of the
/// tasks in `reject_first`.
pub fn start_stand_ins(
    client: &Client,
    reject_first: BTreeSet<String>,
    console: Console,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    let worker = worker::Settings {
        tiers: Vec::new(),
        concurrency: 2,
        latency_ms: 400,
        jitter_ms: 600,
        failure_rate: 0.0,
        seed: 1,
        count: None,
        quiet: true,
    };
    let qa = qa::Settings {
        latency_ms: 250,
        rejection_rate: 0.0,
        review_rate: 0.0,
        seed: 1,
        after: Some(0),
        quiet: true,
        reject_first,
    };
    let (of_worker, worker_stop) = (client.clone(), stop.clone());
    let work = async move { worker::Worker::connect(of_worker, worker, console, &worker_stop).await?.run().await };
    tasks.spawn(warn_on_error(work, console));
    tasks.spawn(warn_on_error(qa::run(client.clone(), qa, console, stop.clone()), console));
}

async fn warn_on_error(stand_in: impl Future<Output = Result<(), Error>>, console: Console) {
    if let Err(error) = stand_in.await {
        (console.warn)(&format!("a stand-in stopped: {error}"));
    }
}
