//! A load generator that keeps its pace, whatever the answers do: each request
//! has a time at which it is due, and its latency counts from there. So a
//! server that stalls is charged for everything that had to wait meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use dats::clock::Stopwatch;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use super::load::{Connection, MakeRequest, Measured};

/// Connections that take turns.
const CONNECTIONS: usize = 64;
/// Requests that may wait for a connection: as many as come in a long stall.
const WAITING: usize = 8192;

/// Sends `per_second` requests a second for `duration`, and waits for every
/// answer.
pub(crate) async fn paced(
    address: SocketAddr,
    per_second: u32,
    duration: Duration,
    expected: u16,
    make: MakeRequest,
) -> Measured {
    let started = Stopwatch::start();
    let (mut senders, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let (sender, due) = mpsc::channel(WAITING);
        senders.push(sender);
        clients.push(tokio::spawn(client(address, started, due, expected, make.clone())));
    }
    // A thread: the timers of the runtime know milliseconds only.
    let pacer = std::thread::spawn(move || pace(&started, per_second, duration, &senders));
    let mut latency = Histogram::new(3).expect("a histogram");
    let mut unexpected = 0;
    for client in clients {
        let (of_client, wrong) = client.await.expect("a client that ended");
        latency.add(of_client).expect("histograms of one kind");
        unexpected += wrong;
    }
    pacer.join().expect("a pacer that ended");
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a rate needs no more than 52 bits")]
    let per_second = latency.len() as f64 / started.elapsed().as_secs_f64();
    Measured { per_second, latency, unexpected }
}

fn pace(started: &Stopwatch, per_second: u32, duration: Duration, senders: &[mpsc::Sender<(u64, Duration)>]) {
    let step = Duration::from_secs(1) / per_second;
    // Connections are made first.
    let mut due = Duration::from_millis(100) + started.elapsed();
    let end = due + duration;
    for (number, sender) in (0..).zip(senders.iter().cycle()) {
        if due >= end {
            return;
        }
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        sender.try_send((number, due)).expect("a server that stalls for less than minutes");
        due += step;
    }
}

async fn client(
    address: SocketAddr,
    started: Stopwatch,
    mut due: mpsc::Receiver<(u64, Duration)>,
    expected: u16,
    make: MakeRequest,
) -> (Histogram<u64>, u64) {
    let mut connection = Connection::open(address).await;
    let mut latency = Histogram::new(3).expect("a histogram");
    let mut unexpected = 0;
    while let Some((number, at)) = due.recv().await {
        let status = connection.call(&make(number)).await.0;
        let micros = u64::try_from(started.elapsed().saturating_sub(at).as_micros()).unwrap_or(u64::MAX);
        latency.record(micros.max(1)).expect("a latency within range");
        unexpected += u64::from(status != expected);
    }
    (latency, unexpected)
}
