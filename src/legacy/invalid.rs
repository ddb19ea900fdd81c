//! What is wrong with a text of the old program, and where.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json;

/// Why a file, a line or an element was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The kind of fault.
    pub reason: Reason,
    /// Where it is, in bytes from the beginning of the file or line.
    pub offset: u64,
    /// The field, as a JSON pointer into the object; empty for the whole.
    pub pointer: String,
    /// What was found, and what is allowed.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset)?;
        if !self.pointer.is_empty() {
            write!(f, "{} ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

impl Invalid {
    /// A fault of a text as a whole.
    pub(super) fn new(reason: Reason, offset: usize, message: impl Into<String>) -> Self {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        Self { reason, offset, pointer: String::new(), message: message.into() }
    }

    /// The same fault of a text that begins so many bytes into its file.
    #[must_use]
    pub fn behind(mut self, bytes: u64) -> Self {
        self.offset = self.offset.saturating_add(bytes);
        self
    }
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There is nothing in it.
    Empty,
    /// It ends in the middle.
    Truncated,
    /// It is not JSON.
    NotJson,
    /// It is JSON, but not an object.
    NotObject,
    /// It is larger than allowed.
    TooLarge,
    /// It is nested deeper than allowed.
    TooDeep,
    /// A field has a value that is not allowed.
    BadValue,
    /// It has no id.
    MissingId,
    /// A text has the character U+0000.
    Nul,
    /// Another one in the same folder has its id.
    Duplicate,
    /// It can't be read.
    Unreadable,
}

impl Reason {
    /// The word for it in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::NotJson => "not_json",
            Self::NotObject => "not_an_object",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::BadValue => "bad_value",
            Self::MissingId => "missing_id",
            Self::Nul => "nul",
            Self::Duplicate => "duplicate",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A fault of a parsed object, before its place in the text is known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) pointer: String,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn value(pointer: String, message: impl Into<String>) -> Self {
        Self { reason: Reason::BadValue, pointer, message: message.into() }
    }

    pub(super) fn in_text(self, raw: &[u8]) -> Invalid {
        let offset = locate(raw, &self.pointer);
        Invalid { pointer: self.pointer, ..Invalid::new(self.reason, offset, self.message) }
    }
}

/// A value in a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => json::quoted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Where the value that a pointer names begins; for one that is not there,
/// where its nearest parent does. The text must be JSON.
fn locate(raw: &[u8], pointer: &str) -> usize {
    let Ok(mut place) = serde_json::from_slice::<&RawValue>(raw) else { return 0 };
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match member(place.get(), &part) {
            Some(inner) => place = inner,
            None => break,
        }
    }
    place.get().as_ptr().addr().saturating_sub(raw.as_ptr().addr())
}

fn member<'a>(text: &'a str, part: &str) -> Option<&'a RawValue> {
    if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        return items.get(part.parse::<usize>().ok()?).copied();
    }
    let members: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    members.get(part).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_their_text() {
        let raw = br#" {"a": 1, "b/c": {"d": [10, {"e": "x"}]}}"#;
        let at = |text: &str| raw.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        assert_eq!(locate(raw, ""), 1);
        assert_eq!(locate(raw, "/a"), at("1,"));
        assert_eq!(locate(raw, "/b~1c/d/1/e"), at("\"x\""));
        assert_eq!(locate(raw, "/b~1c/missing"), at("{\"d\""));
        assert_eq!(locate(raw, "/a/b"), at("1,"));
    }
}
