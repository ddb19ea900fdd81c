//! Latencies and the figures that reports show of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Largest latency that the histogram distinguishes, in microseconds; longer ones count
/// as this.
const MAX_MICROS: u64 = 3_600_000_000;
/// Significant decimal digits of a recorded latency.
const DIGITS: u8 = 3;

/// Latencies of successful answers, and the number of failed requests.
#[derive(Debug, Clone)]
pub struct Latencies {
    micros: Histogram<u64>,
    failed: u64,
    first_error: Option<String>,
}

impl Default for Latencies {
    fn default() -> Self {
        let micros = Histogram::new_with_max(MAX_MICROS, DIGITS);
        let micros = micros.unwrap_or_else(|error| unreachable!("the constants are valid: {error}"));
        Self { micros, failed: 0, first_error: None }
    }
}

impl Latencies {
    /// Records a successful answer.
    pub fn record(&mut self, latency: Duration) {
        self.micros.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Records a refusal or a missing answer. The report shows the first reason.
    pub fn record_failure(&mut self, reason: &str) {
        self.failed += 1;
        self.first_error.get_or_insert_with(|| reason.to_owned());
    }

    /// Adds all records of another collection.
    pub fn merge(&mut self, other: Self) {
        if self.micros.add(other.micros).is_err() {
            unreachable!("all histograms have the same range");
        }
        self.failed += other.failed;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Returns the number of successful answers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.micros.len()
    }

    /// Returns the number of failed requests.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.failed
    }

    /// Returns the reason of the first failure.
    #[must_use]
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Returns the latency within which this part of the successful answers, from 0 to 1,
    /// arrived.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(part))
    }

    /// Returns the latency within which `percent` of all requests were answered, in
    /// microseconds. A failed request counts as slower than every answer: `None` if the
    /// percentile falls on a failure.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let all = self.micros.len() + self.failed;
        let rank = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.micros.iter_recorded().find_map(|step| {
            seen += step.count_since_last_iteration();
            (seen >= rank).then(|| step.value_iterated_to())
        })
    }

    /// Summarizes the latencies of requests that took `took` in all.
    #[must_use]
    pub fn figures(&self, took: Duration) -> Figures {
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

/// The result of one run of the load generator.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Latencies of the run.
    pub latencies: Latencies,
    /// Time from the start of the run to its last answer.
    pub took: Duration,
}

impl Measured {
    /// Returns the successful answers a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        number(self.latencies.count()) / self.took.as_secs_f64()
    }

    /// As [`Latencies::quantile`].
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        self.latencies.quantile(part)
    }

    /// As [`Latencies::figures`].
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.latencies.figures(self.took)
    }
}

/// Summary of the requests of one kind. A percentile is null if so many requests failed
/// that it falls on a failure.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Successful answers.
    pub count: u64,
    /// Refusals, and requests without an answer.
    pub failed: u64,
    /// Reason of the first failure.
    pub first_error: Option<String>,
    /// Successful answers a second.
    pub per_second: f64,
    /// Median.
    pub p50_ms: Option<f64>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Slowest successful answer.
    pub worst_ms: Option<f64>,
}

fn milliseconds(micros: u64) -> f64 {
    number(micros) / 1000.0
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_slower_than_any_answer() {
        let mut latencies = Latencies::default();
        (1..=95).for_each(|millis| latencies.record(Duration::from_millis(millis)));
        (0..5).for_each(|_| latencies.record_failure("refused"));
        let figures = latencies.figures(Duration::from_secs(1));
        assert_eq!((figures.count, figures.failed, figures.first_error.as_deref()), (95, 5, Some("refused")));
        assert!(figures.p95_ms.is_some_and(|p95| (94.9..95.1).contains(&p95)), "{figures:?}");
        assert_eq!(figures.p99_ms, None);
        latencies.record_failure("refused");
        assert_eq!(latencies.percentile(95), None);
        latencies.record(Duration::from_hours(2));
        let worst = latencies.figures(Duration::from_secs(1)).worst_ms;
        assert!(worst.is_some_and(|worst| (3_599_000.0..3_602_000.0).contains(&worst)), "{worst:?}");
    }

    #[test]
    fn an_empty_collection_has_no_percentile() {
        let figures = Latencies::default().figures(Duration::ZERO);
        assert_eq!((figures.p50_ms, figures.worst_ms), (None, None));
    }
}
