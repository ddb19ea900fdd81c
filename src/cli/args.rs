//! Parsers of argument values.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// Units of a duration and their length in seconds.
const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("", 1)];

/// Parses a duration such as `90`, `90s`, `15m`, `2h` or `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = UNITS.iter().find(|(unit, _)| *unit == &text[digits.len()..]);
    let seconds = digits.parse::<u64>().ok().zip(unit).and_then(|(count, (_, unit))| count.checked_mul(*unit));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a duration such as 90s, 15m, 2h or 30d".to_owned())
}

/// Parses a JSON object.
pub(super) fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object, such as {\"ticket\": 7}".to_owned()),
        Err(error) => Err(format!("expected a JSON object: {error}")),
    }
}

/// Parses a point in time, given as an RFC 3339 time or as a duration from now.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let from_now = duration(text).ok().and_then(|wait| super::output::now().checked_add(wait).ok());
    from_now.ok_or_else(|| "expected a time such as 2026-01-09T18:00:00Z, or a duration from now such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "1w", "-1s", "1.5h", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_absolute_or_from_now() {
        assert!(time("2026-01-09T18:00:00Z").is_ok());
        assert!(time("2h").unwrap() > super::super::output::now());
        assert!(time("tomorrow").is_err());
    }
}
