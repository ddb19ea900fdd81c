//! The control: bare loops of the client libraries that put the same load on broker and
//! database, beside a service that has neither. Its effect on submissions is the cost of
//! running three stores and a load generator on the same cores.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use dats::clock::Stopwatch;
use tokio_util::sync::CancellationToken;

use super::publish::{EVENTS, Sample};
use super::support::upsert::Upserts;
use super::world::postgres::Database;
use super::world::{ATTACHED_PER_SECOND, Peer, pause};

/// Pause of the service after each batch of messages, in milliseconds.
const PUBLISH_PAUSE_MS: u64 = 25;
/// Pause of the service after each transaction, in milliseconds.
const TRANSACTION_PAUSE_MS: u64 = 250;
/// Priority of the service's background threads.
const NICE: i32 = 10;

/// Loops that run until [`Control::stop`].
pub(crate) struct Control {
    stop: CancellationToken,
    threads: [JoinHandle<()>; 2],
}

impl Control {
    /// Publishes `samples`, and upserts rows like those of the table of tasks into another table
    /// of `database`.
    pub(crate) fn start(broker: SocketAddr, samples: Vec<Sample>, database: Database) -> Self {
        let stop = CancellationToken::new();
        let publishing = publish(broker, samples, stop.clone());
        let threads = [spawn_background(publishing), spawn_background(upsert(database, stop.clone()))];
        Self { stop, threads }
    }

    pub(crate) fn stop(self) {
        self.stop.cancel();
        for thread in self.threads {
            thread.join().expect("a loop that ended");
        }
    }
}

fn spawn_background(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE).expect("a lower priority");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(task);
    })
}

/// Returns how many are due since the start at a rate.
fn due(started: &Stopwatch, per_second: u64) -> usize {
    let micros = u64::try_from(started.elapsed().as_micros()).expect("a time");
    usize::try_from(micros * per_second / 1_000_000).expect("a count")
}

async fn publish(broker: SocketAddr, samples: Vec<Sample>, stop: CancellationToken) {
    let peer = Peer::connect(broker).await.expect("a broker");
    let (started, mut sent) = (Stopwatch::start(), 0);
    let mut samples = samples.iter().cycle();
    while !stop.is_cancelled() {
        let due = due(&started, EVENTS * u64::from(ATTACHED_PER_SECOND));
        let mut confirms = Vec::with_capacity(due - sent);
        for sample in samples.by_ref().take(due - sent) {
            confirms.push(sample.send(&peer.channel).await.expect("a channel"));
        }
        sent = due;
        for confirm in confirms {
            assert!(confirm.await.expect("a channel").is_ack());
        }
        pause(PUBLISH_PAUSE_MS).await;
    }
}

async fn upsert(database: Database, stop: CancellationToken) {
    let client = database.connect().await;
    let upserts = Upserts::of(&client, "tasks", usize::try_from(ATTACHED_PER_SECOND).expect("a count")).await;
    let statement = client.prepare(upserts.sql()).await.expect("a statement");
    let (started, mut written) = (Stopwatch::start(), 0);
    while !stop.is_cancelled() {
        let due = due(&started, u64::from(ATTACHED_PER_SECOND));
        upserts.run_with_new_ids(&client, &statement, due - written).await;
        written = due;
        let _ = tokio::time::timeout(Duration::from_millis(TRANSACTION_PAUSE_MS), stop.cancelled()).await;
    }
}
