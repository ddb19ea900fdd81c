//! The open loop. Because latency counts from the time at which a request is due, a
//! server that stalls is charged for every request that had to wait meanwhile.

use std::future::Future;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::latency::{Latencies, Measured};
use crate::clock::Stopwatch;

/// Requests that may wait for one connection. With more, the schedule is delayed too,
/// which does not change what is measured: latencies count from the due time.
const MAX_WAITING: usize = 8192;
/// How long after the end of the schedule requests are still sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The rate and length of a load.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests a second.
    pub per_second: u32,
    /// Length of the schedule.
    pub duration: Duration,
    /// Connections, which take turns; each has one request under way at most.
    pub connections: u32,
}

impl Pace {
    /// Returns the number of requests of the whole schedule.
    #[must_use]
    pub fn requests(&self) -> u64 {
        u64::from(self.per_second).saturating_mul(self.duration.as_secs())
    }

    /// Returns when the request `number` is due, from the start of the run.
    fn due(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A request of the schedule.
struct Due {
    number: u64,
    at: Duration,
}

/// Sends requests at `pace` until the schedule or `stop` ends, and waits for the answers.
///
/// `ask` sends the request with a number over a connection and returns the connection
/// with the result. `connections` holds one connection for each that the pace names.
pub async fn run_open_loop<Connection, Ask, Asked>(
    pace: Pace,
    connections: Vec<Connection>,
    bar: &ProgressBar,
    stop: &CancellationToken,
    ask: Ask,
) -> Measured
where
    Connection: Send + 'static,
    Ask: Fn(Connection, u64) -> Asked + Clone + Send + 'static,
    Asked: Future<Output = (Connection, Result<(), String>)> + Send + 'static,
{
    let started = Stopwatch::start();
    let (mut senders, mut clients) = (Vec::new(), JoinSet::new());
    for connection in connections {
        let (sender, due) = mpsc::channel(MAX_WAITING);
        senders.push(sender);
        let run = Run { started, give_up: pace.duration + DRAIN_TIMEOUT, bar: bar.clone(), stop: stop.clone() };
        clients.spawn(run.send(connection, due, ask.clone()));
    }
    // A thread, because the timers of the runtime have a resolution of milliseconds.
    let pacer = tokio::task::spawn_blocking(move || send_due(pace, &started, &senders));
    let mut latencies = Latencies::default();
    while let Some(client) = clients.join_next().await {
        match client {
            Ok(of_client) => latencies.merge(of_client),
            Err(error) => latencies.record_failure(&format!("a connection stopped: {error}")),
        }
    }
    let took = started.elapsed();
    // It ends by itself, because the receivers of its channels are gone.
    let _ = pacer.await;
    Measured { latencies, took }
}

/// Hands each request to the next connection at the time at which it is due.
fn send_due(pace: Pace, started: &Stopwatch, senders: &[mpsc::Sender<Due>]) {
    for (number, sender) in (0..pace.requests()).zip(senders.iter().cycle()) {
        let at = pace.due(number);
        std::thread::sleep(at.saturating_sub(started.elapsed()));
        if sender.blocking_send(Due { number, at }).is_err() {
            return;
        }
    }
}

/// What each connection knows of the run.
struct Run {
    started: Stopwatch,
    /// Requests that are not sent by then count as failed.
    give_up: Duration,
    bar: ProgressBar,
    stop: CancellationToken,
}

impl Run {
    /// Sends each request once it is due and the last answer has arrived.
    async fn send<Connection, Ask, Asked>(
        self,
        mut connection: Connection,
        mut due: mpsc::Receiver<Due>,
        ask: Ask,
    ) -> Latencies
    where
        Ask: Fn(Connection, u64) -> Asked,
        Asked: Future<Output = (Connection, Result<(), String>)>,
    {
        let mut latencies = Latencies::default();
        while let Some(Due { number, at }) = self.next(&mut due).await {
            if self.started.elapsed() < self.give_up {
                let result;
                (connection, result) = ask(connection, number).await;
                match result {
                    Ok(()) => latencies.record(self.started.elapsed().saturating_sub(at)),
                    Err(error) => latencies.record_failure(&error),
                }
            } else {
                latencies.record_failure("not sent: the answers before it took too long");
            }
            self.bar.inc(1);
        }
        latencies
    }

    async fn next(&self, due: &mut mpsc::Receiver<Due>) -> Option<Due> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            next = due.recv() => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stall_is_charged_to_every_request_that_had_to_wait() {
        let pace = Pace { per_second: 100, duration: Duration::from_secs(1), connections: 1 };
        let ask = |(), number| async move {
            if number == 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            ((), Ok(()))
        };
        let measured = run_open_loop(pace, vec![()], &ProgressBar::hidden(), &CancellationToken::new(), ask).await;
        let figures = measured.figures();
        assert_eq!(figures.count, 100);
        // Fifty were due meanwhile, evenly: with one connection all waited.
        assert!(figures.p95_ms.is_some_and(|p95| p95 > 300.0), "{figures:?}");
    }

    /// Runs ten minutes of load that the request number 20 stops, and returns how many
    /// requests were sent.
    async fn sent_before_stop(connections: u32) -> u64 {
        let pace = Pace { per_second: 1000, duration: Duration::from_mins(10), connections };
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let ask = move |(), number| {
            let stop = ended.clone();
            async move {
                if number == 20 {
                    stop.cancel();
                }
                ((), Ok(()))
            }
        };
        let of_run = vec![(); usize::try_from(connections).unwrap()];
        run_open_loop(pace, of_run, &ProgressBar::hidden(), &stop, ask).await.figures().count
    }

    #[tokio::test]
    async fn a_stop_ends_a_load_early() {
        assert_eq!(sent_before_stop(1).await, 21);
        // Number 20 is the sixth of the first connection; the others do not wait for it.
        let sent = sent_before_stop(4).await;
        assert!((6..600_000).contains(&sent), "{sent}");
    }
}
