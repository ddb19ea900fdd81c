//! How long to wait before trying again.

use std::time::Duration;

use http::HeaderValue;

use crate::task::Timestamp;

/// The `count`-th wait, from 1: `initial`, then twice as long each time, at
/// most `max`.
pub(super) fn doubled(initial: Duration, max: Duration, count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(30);
    initial.saturating_mul(1 << doublings).min(max)
}

/// Between one half and the whole of `step`, by a fraction from 0 to 1, so
/// that what failed together does not come again together.
pub(super) fn jittered(step: Duration, fraction: f64) -> Duration {
    let half = step / 2;
    half + half.mul_f64(fraction.clamp(0.0, 1.0))
}

/// A random fraction from 0 to 1.
pub(super) fn fraction() -> f64 {
    rand::random()
}

/// How long a `Retry-After` header (RFC 9110, 10.2.3) asks to wait: seconds,
/// or a date. `None` for anything else.
pub(super) fn retry_after(header: &HeaderValue, now: Timestamp) -> Option<Duration> {
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
        let wait = |count| doubled(Duration::from_secs(1), Duration::from_mins(1), count).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 8, 1000, u32::MAX].map(wait), [1, 1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let step = Duration::from_secs(8);
        assert_eq!(jittered(step, 0.0), step / 2);
        assert_eq!(jittered(step, 1.0), step);
        assert_eq!(jittered(step, 7.0), step);
        assert!((0..100).map(|_| jittered(step, fraction())).all(|wait| (step / 2..=step).contains(&wait)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-09T18:00:00Z".parse().unwrap();
        let asked = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap(), now).map(|wait| wait.as_secs());
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked(" 0 "), Some(0));
        assert_eq!(asked("Fri, 09 Jan 2026 18:00:30 GMT"), Some(30));
        assert_eq!(asked("Fri, 09 Jan 2026 17:00:00 GMT"), Some(0), "a date that has passed");
        for text in ["", "soon", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
