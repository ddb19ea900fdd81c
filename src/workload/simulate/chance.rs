//! Random decisions that depend on the seed, the task and the attempt alone. A repeated
//! run decides the same, in whatever order the tasks arrive.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Random numbers for one attempt of one task.
#[derive(Debug)]
pub(super) struct Chance(StdRng);

impl Chance {
    /// Creates the generator. Different purposes, such as worker and QA, get different
    /// numbers for the same attempt.
    pub(super) fn new(seed: u64, purpose: &str, task_id: &str, attempt: u64) -> Self {
        let mut hash = Sha256::new();
        for part in [&seed.to_be_bytes()[..], purpose.as_bytes(), task_id.as_bytes(), &attempt.to_be_bytes()] {
            // The lengths distinguish ("a", "bc") from ("ab", "c").
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Self(StdRng::from_seed(hash.finalize().into()))
    }

    /// Returns true with the given probability.
    pub(super) fn hits(&mut self, rate: f64) -> bool {
        self.0.random_bool(rate)
    }

    /// Returns `base` plus up to `jitter`, in steps of a millisecond.
    pub(super) fn delay(&mut self, base: Duration, jitter: Duration) -> Duration {
        let jitter = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
        base.saturating_add(Duration::from_millis(self.0.random_range(0..=jitter)))
    }

    /// Returns a number from 0 to `most`.
    pub(super) fn number(&mut self, most: u32) -> u32 {
        self.0.random_range(0..=most)
    }

    /// Returns one of the values; `null` if there are none.
    pub(super) fn pick<T: Serialize>(&mut self, from: &[T]) -> Value {
        let end = from.len();
        if end == 0 { Value::Null } else { json!(from.get(self.0.random_range(0..end))) }
    }

    /// Returns a share from `low` to `high` hundredths.
    pub(super) fn share(&mut self, low: u8, high: u8) -> f64 {
        f64::from(self.0.random_range(low..=high)) / 100.0
    }
}

/// Parses a probability; the argument parser of rates.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_probabilities() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["-0.1", "1.1", "NaN", "x"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    fn numbers(seed: u64, purpose: &str, task: &str, attempt: u64) -> (Vec<bool>, Duration, f64) {
        let mut chance = Chance::new(seed, purpose, task, attempt);
        let hits = (0..64).map(|_| chance.hits(0.5)).collect();
        (hits, chance.delay(Duration::from_secs(1), Duration::from_mins(1)), chance.share(0, 100))
    }

    #[test]
    fn same_seed_and_attempt_decide_the_same() {
        let first = numbers(1, "worker", "t-1", 1);
        assert_eq!(first, numbers(1, "worker", "t-1", 1));
        for other in [
            numbers(2, "worker", "t-1", 1),
            numbers(1, "qa", "t-1", 1),
            numbers(1, "worker", "t-2", 1),
            numbers(1, "worker", "t-1", 2),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_rates_zero_and_one_are_exact() {
        for task in 0..100 {
            let mut chance = Chance::new(7, "x", &task.to_string(), 1);
            assert!(!chance.hits(0.0) && chance.hits(1.0));
            assert_eq!(chance.delay(Duration::from_secs(1), Duration::ZERO), Duration::from_secs(1));
        }
    }
}
