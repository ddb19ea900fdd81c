//! Waits between attempts.

use std::time::Duration;

use http::HeaderValue;

use crate::task::Timestamp;

/// Returns the `count`-th wait, counted from 1: `initial`, doubled each time, up to
/// `max`.
pub(super) fn backoff(initial: Duration, max: Duration, count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(30);
    initial.saturating_mul(1 << doublings).min(max)
}

/// Shortens a wait by up to a half, by a fraction from 0 to 1, so that calls that
/// failed together are not retried together.
pub(super) fn with_jitter(step: Duration, fraction: f64) -> Duration {
    let half = step / 2;
    half + half.mul_f64(fraction.clamp(0.0, 1.0))
}

/// Returns a random fraction from 0 to 1.
pub(super) fn random_fraction() -> f64 {
    rand::random()
}

/// Returns the wait that a `Retry-After` header (RFC 9110, section 10.2.3) asks for: a
/// number of seconds, or the time until a date.
pub(super) fn parse_retry_after(header: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = header.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::from_micros(date.as_microsecond()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit() {
        let wait = |count| backoff(Duration::from_secs(1), Duration::from_mins(1), count).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 8, 1000, u32::MAX].map(wait), [1, 1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let step = Duration::from_secs(8);
        assert_eq!(with_jitter(step, 0.0), step / 2);
        assert_eq!(with_jitter(step, 1.0), step);
        assert_eq!(with_jitter(step, 7.0), step);
        assert!((0..100).map(|_| with_jitter(step, random_fraction())).all(|wait| (step / 2..=step).contains(&wait)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-09T18:00:00Z".parse().unwrap();
        let asked =
            |text: &str| parse_retry_after(&HeaderValue::from_str(text).unwrap(), now).map(|wait| wait.as_secs());
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked(" 0 "), Some(0));
        assert_eq!(asked("Fri, 09 Jan 2026 18:00:30 GMT"), Some(30));
        assert_eq!(asked("Fri, 09 Jan 2026 17:00:00 GMT"), Some(0), "a date that has passed");
        for text in ["", "soon", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
