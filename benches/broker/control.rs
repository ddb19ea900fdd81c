//! The control: what broker and database get from a service at the same pace,
//! by bare loops of the client libraries, beside a service that has neither.
//! What submissions pay for it is the machine's price for running three
//! stores and a load generator on its cores, whoever feeds the other two.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use dats::clock::Stopwatch;
use tokio_util::sync::CancellationToken;

use super::publish::{EVENTS, Sample};
use super::support::upsert::Upserts;
use super::world::postgres::Database;
use super::world::{ATTACHED_PER_SECOND, Peer, pause};

/// The pauses after a wave and after a transaction, as the service makes them.
const WAVES: u64 = 25;
const TRANSACTIONS: u64 = 250;
/// The priority that the service gives to its own side of this work.
const NICE: i32 = 10;

/// Loops that run until they are told to end.
pub(crate) struct Control {
    stop: CancellationToken,
    threads: [JoinHandle<()>; 2],
}

impl Control {
    /// Feeds the broker with `samples`, and with rows like those of the table of
    /// tasks in `database` a table beside it.
    pub(crate) fn start(broker: SocketAddr, samples: Vec<Sample>, database: Database) -> Self {
        let stop = CancellationToken::new();
        let publishing = publish(broker, samples, stop.clone());
        let threads = [in_the_background(publishing), in_the_background(upsert(database, stop.clone()))];
        Self { stop, threads }
    }

    pub(crate) fn stop(self) {
        self.stop.cancel();
        for thread in self.threads {
            thread.join().expect("a loop that ended");
        }
    }
}

fn in_the_background(doing: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE).expect("a lower priority");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(doing);
    })
}

/// How many are due, of so many a second.
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
        pause(WAVES).await;
    }
}

async fn upsert(database: Database, stop: CancellationToken) {
    let client = database.connect().await;
    let upserts = Upserts::of(&client, "tasks", usize::try_from(ATTACHED_PER_SECOND).expect("a count")).await;
    let statement = client.prepare(upserts.sql()).await.expect("a statement");
    let (started, mut written) = (Stopwatch::start(), 0);
    while !stop.is_cancelled() {
        let due = due(&started, u64::from(ATTACHED_PER_SECOND));
        upserts.run_anew(&client, &statement, due - written).await;
        written = due;
        let _ = tokio::time::timeout(Duration::from_millis(TRANSACTIONS), stop.cancelled()).await;
    }
}
