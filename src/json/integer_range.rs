//! Integers outside of 64 bits, which a parser would round.

use super::error::Invalid;
use super::findings::FieldError;
use super::text::quoted;

/// Digits of the largest 64-bit integer.
const MAX_DIGITS: usize = 19;

/// Refuses integers outside of 64 bits, because a value that is passed on must not
/// change unnoticed. A number with a fraction or an exponent is a floating point
/// number to every parser, and is accepted.
pub fn check_integers(raw: &[u8]) -> Result<(), Invalid> {
    match find_oversized_integer(raw) {
        None => Ok(()),
        Some((at, text)) => {
            let message =
                format!("has the number {} at byte {at}; {}", quoted(text).replace('"', ""), allowed_integers());
            Err(Invalid::Fields(vec![FieldError::new("", message)]))
        }
    }
}

/// The part of a message that says which integers are allowed.
#[must_use]
pub fn allowed_integers() -> String {
    format!("whole numbers must be from {} to {}, larger ones can be sent as text", i64::MIN, u64::MAX)
}

/// Returns the offset, in bytes, and the digits of the first integer outside of 64
/// bits. The text must be JSON.
#[must_use]
pub fn find_oversized_integer(raw: &[u8]) -> Option<(usize, &str)> {
    if !has_long_digits(raw) {
        return None;
    }
    let (mut in_string, mut escaped, mut start) = (false, false, None);
    for (at, byte) in raw.iter().chain(b" ").enumerate() {
        let numeric = !in_string && matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        match (start, numeric) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                let text = raw.get(from..at).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
                if is_oversized(text) {
                    return Some((from, text));
                }
                start = None;
            }
            (Some(_), true) | (None, false) => {}
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    None
}

/// Whether a text has enough digits in a row. Most texts do not, and are not searched
/// further.
fn has_long_digits(raw: &[u8]) -> bool {
    let mut run = 0;
    raw.iter().any(|byte| {
        run = if byte.is_ascii_digit() { run + 1 } else { 0 };
        run >= MAX_DIGITS
    })
}

fn is_oversized(number: &str) -> bool {
    let is_integer = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        check_integers(text.as_bytes()).is_err()
    }

    #[test]
    fn integers_outside_of_64_bits_are_refused() {
        assert!(!refused(r#"{"a":18446744073709551615,"b":-9223372036854775808}"#));
        assert!(refused(r#"{"a":18446744073709551616}"#));
        assert!(refused(r#"{"a":[-9223372036854775809]}"#));
        assert!(refused("123456789012345678901234567890"));
        assert!(!refused(r#"{"a":"18446744073709551616","b":"\"18446744073709551616"}"#));
        assert!(!refused(r#"{"a":18446744073709551616.5,"b":18446744073709551616e3}"#));
        let Err(Invalid::Fields(errors)) = check_integers(b"{\"a\":99999999999999999999}") else { panic!("taken") };
        assert!(errors[0].message.starts_with("has the number 99999999999999999999 at byte 5;"), "{errors:?}");
    }
}
