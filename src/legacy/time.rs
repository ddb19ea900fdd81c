//! Times in the form of the old program: ISO 8601, usually without an offset, which means UTC, with
//! six digits of a second or none.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::task::Timestamp;

/// The form of a time, for error messages.
pub(super) const ALLOWED: &str = "must be an ISO 8601 time from 1970 to 9999, such as 2026-01-09T18:00:00.123456";

/// Parses a time with or without an offset.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let has_offset = text.parse::<jiff::Timestamp>().is_ok();
    let civil: DateTime = text.parse().ok().filter(|_| !has_offset)?;
    let micros = civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond();
    let time = Timestamp::from_micros(micros);
    (time.as_micros() == micros).then_some(time)
}

/// Formats a time with six digits or none and without an offset, because some readers of these
/// files accept only three or six digits, and can't compare times with an offset to times without.
pub(super) fn write(time: Timestamp) -> String {
    let Ok(moment) = jiff::Timestamp::from_microsecond(time.as_micros()) else { return time.to_string() };
    let civil = TimeZone::UTC.to_datetime(moment);
    match time.as_micros() % 1_000_000 {
        0 => civil.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        micros => format!("{}.{micros:06}", civil.strftime("%Y-%m-%dT%H:%M:%S")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_offset_means_utc() {
        let expected: Timestamp = "2026-01-09T18:00:00.5Z".parse().unwrap();
        for text in [
            "2026-01-09T18:00:00.500000",
            "2026-01-09T18:00:00.5",
            "2026-01-09 18:00:00.500",
            "2026-01-09T18:00:00.500000+00:00",
            "2026-01-09T18:00:00.5Z",
            "2026-01-09T19:00:00.500000+01:00",
            "2026-01-09T18:00:00.500000999",
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        assert_eq!(read("2026-01-09"), Some("2026-01-09T00:00:00Z".parse().unwrap()));
        for text in ["", "yesterday", "1969-12-31T23:59:59", "1969-12-31T23:59:59Z", "18:00", "2026-13-01T00:00:00"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_they_were() {
        for text in ["2026-01-09T18:00:00", "2026-01-09T18:00:00.000001", "2026-01-09T18:00:00.120000"] {
            assert_eq!(write(read(text).unwrap()), text);
        }
    }
}
