//! A load that keeps its pace, whatever the answers do: each request has a time
//! at which it is due, and its latency counts from there. So a server that
//! stalls is charged for everything that had to wait meanwhile.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::client::Error;
use crate::cli::exit::Failure;
use crate::clock::Stopwatch;

/// Requests that may wait for a connection; with more, the pace waits too, which
/// the latencies show all the same.
const WAITING: usize = 8192;
/// How long after the end of a load its answers are waited for.
const DRAIN: Duration = Duration::from_secs(30);

/// Latencies above an hour count as one: a histogram has a size.
const MOST_MICROS: u64 = 3_600_000_000;

/// How hard to press.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) per_second: u32,
    pub(super) duration: Duration,
    /// Requests under way at once, at most.
    pub(super) connections: u32,
}

impl Pace {
    /// Requests in all.
    pub(super) fn requests(&self) -> u64 {
        u64::from(self.per_second).saturating_mul(self.duration.as_secs())
    }

    /// When the request with this number is due.
    fn due(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Latencies of successful answers, and how many there were of the others.
#[derive(Debug)]
pub(super) struct Latencies {
    micros: Histogram<u64>,
    failed: u64,
    first_error: Option<String>,
}

impl Latencies {
    pub(super) fn new() -> Result<Self, Failure> {
        let micros = Histogram::new_with_max(MOST_MICROS, 3)
            .map_err(|error| Failure::Failed(format!("can't measure: {error}")))?;
        Ok(Self { micros, failed: 0, first_error: None })
    }

    /// An answer that came so long after it was asked for.
    pub(super) fn add(&mut self, latency: Duration) {
        self.micros.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// One that did not come, or was a refusal.
    pub(super) fn add_failure(&mut self, reason: &str) {
        self.failed += 1;
        self.first_error.get_or_insert_with(|| reason.to_owned());
    }

    /// The latency that so many of a hundred requests were not slower than, in
    /// microseconds. A request that failed is slower than any: none where it is
    /// one of those.
    pub(super) fn percentile(&self, percent: u64) -> Option<u64> {
        let all = self.micros.len() + self.failed;
        let rank = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.micros.iter_recorded().find_map(|step| {
            seen += step.count_since_last_iteration();
            (seen >= rank).then(|| step.value_iterated_to())
        })
    }

    /// What a report says of them; `took` is the time that they took in all.
    pub(super) fn figures(&self, took: Duration) -> Figures {
        let count = self.micros.len();
        let at = |percent| self.percentile(percent).map(milliseconds);
        Figures {
            count,
            failed: self.failed,
            first_error: self.first_error.clone(),
            per_second: (number(count) / took.as_secs_f64().max(0.001)).round(),
            p50_ms: at(50),
            p95_ms: at(95),
            p99_ms: at(99),
            worst_ms: (count > 0).then(|| milliseconds(self.micros.max())),
        }
    }
}

/// The latencies of one kind of request. A percentile is null where failures
/// reach down to it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    /// Successful answers.
    pub(super) count: u64,
    /// Refusals, and requests without an answer.
    pub(super) failed: u64,
    pub(super) first_error: Option<String>,
    /// Successful answers a second.
    pub(super) per_second: f64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// The slowest of the successful answers.
    pub(super) worst_ms: Option<f64>,
}

fn milliseconds(micros: u64) -> f64 {
    number(micros) / 1000.0
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Asks at this pace until its end or until `stop`, and waits for the answers.
pub(super) async fn paced<Ask, Asked>(
    pace: Pace,
    bar: &ProgressBar,
    stop: &CancellationToken,
    ask: Ask,
) -> Result<Figures, Failure>
where
    Ask: Fn(u64) -> Asked + Clone + Send + 'static,
    Asked: Future<Output = Result<(), Error>> + Send + 'static,
{
    let started = Stopwatch::start();
    let (sender, due) = mpsc::channel(WAITING);
    let load = Arc::new(Load {
        started,
        due: tokio::sync::Mutex::new(due),
        latencies: Mutex::new(Latencies::new()?),
        give_up: pace.duration + DRAIN,
        bar: bar.clone(),
        stop: stop.clone(),
    });
    let mut connections = JoinSet::new();
    for _ in 0..pace.connections {
        connections.spawn(Arc::clone(&load).connection(ask.clone()));
    }
    // A thread: the timers of the runtime know milliseconds only.
    let pacer = tokio::task::spawn_blocking(move || keep(pace, &started, &sender));
    while connections.join_next().await.is_some() {}
    let took = started.elapsed();
    let figures = load.latencies.lock().unwrap_or_else(PoisonError::into_inner).figures(took);
    // With the last reader of its channel gone, it ends by itself.
    drop(load);
    let _ = pacer.await;
    Ok(figures)
}

/// Says of each request when it is due.
fn keep(pace: Pace, started: &Stopwatch, sender: &mpsc::Sender<(u64, Duration)>) {
    for number in 0..pace.requests() {
        let due = pace.due(number);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        if sender.blocking_send((number, due)).is_err() {
            return;
        }
    }
}

/// What the connections of a load share.
struct Load {
    started: Stopwatch,
    due: tokio::sync::Mutex<mpsc::Receiver<(u64, Duration)>>,
    latencies: Mutex<Latencies>,
    give_up: Duration,
    bar: ProgressBar,
    stop: CancellationToken,
}

impl Load {
    /// Takes what is due next, whenever the last answer is there.
    async fn connection<Ask, Asked>(self: Arc<Self>, ask: Ask)
    where
        Ask: Fn(u64) -> Asked,
        Asked: Future<Output = Result<(), Error>>,
    {
        while let Some((number, due)) = self.next().await {
            let answer = if self.started.elapsed() < self.give_up { Some(ask(number).await) } else { None };
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Some(Ok(())) => latencies.add(self.started.elapsed().saturating_sub(due)),
                Some(Err(error)) => latencies.add_failure(&error.to_string()),
                None => latencies.add_failure("not asked: the answers before it took too long"),
            }
            self.bar.inc(1);
        }
    }

    async fn next(&self) -> Option<(u64, Duration)> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            next = async { self.due.lock().await.recv().await } => next,
        }
    }
}

/// Numbers that look like chance and are the same in every run (`SplitMix64`).
pub(super) const fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_slower_than_any_answer() {
        let mut latencies = Latencies::new().unwrap();
        (1..=95).for_each(|millis| latencies.add(Duration::from_millis(millis)));
        (0..5).for_each(|_| latencies.add_failure("refused"));
        let figures = latencies.figures(Duration::from_secs(1));
        assert_eq!((figures.count, figures.failed, figures.first_error.as_deref()), (95, 5, Some("refused")));
        assert!(figures.p95_ms.is_some_and(|p95| (94.9..95.1).contains(&p95)), "{figures:?}");
        assert_eq!(figures.p99_ms, None);
        latencies.add_failure("refused");
        assert_eq!(latencies.percentile(95), None);
        latencies.add(Duration::from_hours(2));
        let worst = latencies.figures(Duration::from_secs(1)).worst_ms;
        assert!(worst.is_some_and(|worst| (3_599_000.0..3_602_000.0).contains(&worst)), "{worst:?}");
    }

    #[test]
    fn nothing_asked_has_no_percentile() {
        let figures = Latencies::new().unwrap().figures(Duration::ZERO);
        assert_eq!((figures.p50_ms, figures.worst_ms), (None, None));
    }

    #[tokio::test]
    async fn a_stall_is_charged_to_everything_that_had_to_wait() {
        let pace = Pace { per_second: 100, duration: Duration::from_secs(1), connections: 1 };
        let ask = |number| async move {
            if number == 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(())
        };
        let figures = paced(pace, &ProgressBar::hidden(), &CancellationToken::new(), ask).await.unwrap();
        assert_eq!(figures.count, 100);
        // Fifty were due meanwhile, evenly: with one connection all waited.
        assert!(figures.p95_ms.is_some_and(|p95| p95 > 300.0), "{figures:?}");
    }

    #[tokio::test]
    async fn a_stop_ends_a_load_early() {
        let pace = Pace { per_second: 1000, duration: Duration::from_mins(10), connections: 4 };
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let ask = move |number| {
            let stop = ended.clone();
            async move {
                if number == 20 {
                    stop.cancel();
                }
                Ok(())
            }
        };
        let figures = paced(pace, &ProgressBar::hidden(), &stop, ask).await.unwrap();
        assert!((21..30).contains(&figures.count), "{figures:?}");
    }
}
