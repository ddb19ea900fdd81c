//! Cuts values to a number of bytes of JSON.

use serde::Serialize;
use serde_json::{Map, Value};

/// An array or an object gets another entry only if this many bytes are left: room for the longest
/// number.
const SMALLEST_BYTES: usize = 32;

/// Takes whole values as long as their array has at most `max` bytes. Returns whether values were
/// left out.
pub(super) fn take_fitting<T: Serialize>(values: impl IntoIterator<Item = T>, max: usize) -> (Vec<T>, bool) {
    let (mut left, mut taken) = (max.saturating_sub(2), Vec::new());
    for value in values {
        let bytes = json_bytes(&value) + 1;
        if bytes > left {
            return (taken, true);
        }
        left -= bytes;
        taken.push(value);
    }
    (taken, false)
}

/// Cuts a string to `max` bytes of JSON, between two characters. Returns whether it was cut.
pub(super) fn cut_string(mut text: String, max: usize) -> (String, bool) {
    let (length, is_cut) = fitting_length(&text, max);
    text.truncate(length);
    (text, is_cut)
}

/// Returns how many bytes of a text fit into `max` bytes of JSON, and whether that is not all.
fn fitting_length(text: &str, max: usize) -> (usize, bool) {
    let mut left = max.saturating_sub(2);
    for (place, character) in text.char_indices() {
        let bytes = escaped_bytes(character);
        if bytes > left {
            return (place, true);
        }
        left -= bytes;
    }
    (text.len(), false)
}

/// Returns the number of bytes of a character in JSON text.
const fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

/// Cuts a JSON value to the bytes that are left, from its end: strings are shortened, the last
/// entries of arrays and objects left out. Returns whether something was cut. The recursion is as
/// deep as the value, which has at most 64 levels since it came in a request or an answer.
pub(super) fn cut_value(value: &mut Value, left: &mut usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            *left = left.saturating_sub(json_bytes(value));
            false
        }
        Value::String(text) => {
            let (length, is_cut) = fitting_length(text, *left);
            text.truncate(length);
            *left = left.saturating_sub(json_bytes(value));
            is_cut
        }
        Value::Array(values) => {
            *left = left.saturating_sub(2);
            let (mut kept, mut is_cut) = (Vec::new(), false);
            for mut value in std::mem::take(values) {
                if *left < SMALLEST_BYTES || is_cut {
                    is_cut = true;
                    break;
                }
                *left = left.saturating_sub(1);
                is_cut |= cut_value(&mut value, left);
                kept.push(value);
            }
            *values = kept;
            is_cut
        }
        Value::Object(entries) => {
            *left = left.saturating_sub(2);
            let (mut kept, mut is_cut) = (Map::new(), false);
            for (key, mut value) in std::mem::take(entries) {
                let key_bytes = key.chars().map(escaped_bytes).sum::<usize>() + 4;
                if *left < key_bytes + SMALLEST_BYTES || is_cut {
                    is_cut = true;
                    break;
                }
                *left -= key_bytes;
                is_cut |= cut_value(&mut value, left);
                kept.insert(key, value);
            }
            *entries = kept;
            is_cut
        }
    }
}

/// Returns the number of bytes of a value as JSON.
pub(super) fn json_bytes(value: &impl Serialize) -> usize {
    /// Counts the bytes that are written.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the values nor the counter can fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut(text: &str, max: usize) -> (&str, bool) {
        let (length, is_cut) = fitting_length(text, max);
        (text.get(..length).unwrap(), is_cut)
    }

    #[test]
    fn a_string_is_cut_between_characters_by_its_bytes_in_json() {
        assert_eq!(cut("abc", 5), ("abc", false));
        assert_eq!(cut("abc", 4), ("ab", true));
        assert_eq!(cut("a\u{e4}b", 4), ("a", true));
        assert_eq!(cut("a\u{e4}b", 5), ("a\u{e4}", true));
        for text in ["\"\\\n\u{1}\u{1f}\u{7f}\u{e4}\u{1f600}", "plain"] {
            let bytes = json_bytes(&json!(text));
            assert_eq!(cut(text, bytes), (text, false));
            assert!(cut(text, bytes - 1).1);
        }
        assert_eq!(cut("x", 0), ("", true));
    }

    #[test]
    fn a_value_that_is_cut_keeps_its_beginning_and_its_form() {
        let whole = json!({"score": 0.5, "issues": ["a", {"line": 7}], "comments": null});
        let mut value = whole.clone();
        assert!(!cut_value(&mut value, &mut 1024));
        assert_eq!(value, whole);
        let mut value = json!({"score": 0.5, "issues": vec!["x".repeat(100); 1000], "last": 1});
        assert!(cut_value(&mut value, &mut 4096));
        let issues = value["issues"].as_array().map(Vec::len).unwrap();
        assert!((30..=41).contains(&issues) && value["score"] == 0.5 && value.get("last").is_none(), "{issues}");
        assert!(json_bytes(&value) <= 4096, "{}", json_bytes(&value));
        let mut long = json!("\u{1}".repeat(10_000));
        assert!(cut_value(&mut long, &mut 602));
        assert_eq!((json_bytes(&long), long.as_str().map(str::len)), (602, Some(100)));
    }

    #[test]
    fn values_are_taken_whole() {
        let ids = || ["aa", "bb", "cc"].into_iter().map(|id| json!(id));
        assert_eq!(take_fitting(ids(), 17), (ids().collect(), false));
        assert_eq!(take_fitting(ids(), 16), (ids().take(2).collect(), true));
    }
}
