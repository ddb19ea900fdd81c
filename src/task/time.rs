//! Calendar times as microseconds since 1970 in UTC, as Postgres stores them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::micros;

/// A calendar time in whole microseconds. Displayed as RFC 3339 with `Z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// Latest time that can be displayed: the end of the year 9999.
const MAX_MICROS: i64 = 253_402_207_200_000_000;

/// A text that is no RFC 3339 time between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time from 1970 to 9999-12-30, such as 2026-01-09T18:00:00Z")]
pub struct InvalidTime;

impl Timestamp {
    /// From microseconds since 1970, clamped to 1970 and 9999.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        if micros < 0 {
            Self(0)
        } else if micros > MAX_MICROS {
            Self(MAX_MICROS)
        } else {
            Self(micros)
        }
    }

    /// Microseconds since 1970; never negative.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.unsigned_abs() / 1000
    }

    /// The time `duration` later, at most the end of 9999.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self::from_micros(micros::later(self.0, duration))
    }

    /// The time `duration` earlier, at least 1970.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self::from_micros(micros::earlier(self.0, duration))
    }

    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        micros::since(self.0, earlier.0)
    }
}

impl Timestamp {
    /// Length of the longest text, in bytes.
    pub const TEXT_BYTES: usize = 27;

    /// Writes the time as RFC 3339 text into `buffer`, with as many digits of the fraction as
    /// needed. Status answers hold several times, and this is a few times faster than a general
    /// formatter.
    #[must_use]
    pub fn to_text(self, buffer: &mut [u8; Self::TEXT_BYTES]) -> &str {
        *buffer = *b"0000-00-00T00:00:00.000000Z";
        // Every value is in jiff's range, and the text is ASCII.
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        let time = jiff::tz::Offset::UTC.to_datetime(time);
        let parts = [time.month(), time.day(), time.hour(), time.minute(), time.second()];
        write_digits(&mut buffer[..4], time.year().unsigned_abs().into());
        for (part, at) in parts.into_iter().zip([5, 8, 11, 14, 17]) {
            write_digits(&mut buffer[at..at + 2], part.unsigned_abs().into());
        }
        write_digits(&mut buffer[20..26], time.subsec_nanosecond().unsigned_abs() / 1000);
        let mut length = Self::TEXT_BYTES;
        if buffer[20..26] == *b"000000" {
            length = 20;
        } else {
            while buffer[length - 2] == b'0' {
                length -= 1;
            }
        }
        buffer[length - 1] = b'Z';
        std::str::from_utf8(&buffer[..length]).unwrap_or_default()
    }
}

/// Adds a number to the ASCII zeros in `digits`.
fn write_digits(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10).to_le_bytes()[0];
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text(&mut [0; Self::TEXT_BYTES]))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    /// Parses RFC 3339 with any offset. Fractions finer than a microsecond are cut.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        let micros = time.as_microsecond();
        if (0..=MAX_MICROS).contains(&micros) { Ok(Self(micros)) } else { Err(InvalidTime) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_rfc_3339() {
        let time: Timestamp = "2026-01-09T19:00:00.123456789+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-01-09T18:00:00.123456Z");
        let whole: Timestamp = "2026-01-09T18:00:00Z".parse().unwrap();
        assert_eq!(whole.to_string(), "2026-01-09T18:00:00Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("1969-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn shows_the_same_as_a_general_formatter() {
        let mut micros: i64 = 1;
        let ends = [0, 1, 999_999, 1_000_000, MAX_MICROS, MAX_MICROS - 1, 951_782_400_000_000, 1_000_000_000_120_000];
        let random = std::iter::repeat_with(|| {
            micros = micros.wrapping_mul(48_271).wrapping_add(7_919).rem_euclid(MAX_MICROS);
            micros
        });
        for micros in ends.into_iter().chain(random.take(20_000)) {
            let expected = jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
            assert_eq!(Timestamp(micros).to_string(), expected);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Timestamp::default().since(end), Duration::ZERO);
    }
}
