//! Errors in the fields of a document, limited in number and size, so that an answer
//! is small whatever the document is.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;

use super::text::quoted;

/// Errors that one answer lists. Further errors are not searched for.
pub const MAX_ERRORS: usize = 32;
/// Longest pointer of an error, in bytes.
const MAX_POINTER_BYTES: usize = 256;
/// Longest message of an error, in bytes.
const MAX_MESSAGE_BYTES: usize = 512;

/// An error in one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The JSON pointer of the field in the body, or the name of a query parameter or
    /// header.
    pub pointer: String,
    /// The value and what is allowed.
    pub message: String,
}

impl FieldError {
    /// Shortens long texts, which clients can choose, in the middle.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: shorten(pointer.into(), MAX_POINTER_BYTES),
            message: shorten(message.into(), MAX_MESSAGE_BYTES),
        }
    }
}

/// Shortens a text to `max_bytes`, with an ellipsis in place of its middle.
fn shorten(text: String, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text;
    }
    let half = max_bytes / 2 - "…".len();
    let (begin, end) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    format!("{}…{}", &text[..begin], &text[end..])
}

/// Collects the errors of a document, so that one answer can list them all.
#[derive(Debug, Default)]
pub struct Findings {
    errors: Vec<FieldError>,
}

impl Findings {
    /// Continues with errors that were found before.
    #[must_use]
    pub fn from_errors(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        Self { errors }
    }

    /// Adds an error, unless there are [`MAX_ERRORS`] already.
    pub fn add(&mut self, pointer: &str, message: impl Into<String>) {
        if !self.is_full() {
            self.errors.push(FieldError::new(pointer, message));
        }
    }

    /// Whether there are [`MAX_ERRORS`] errors, so that the search can end.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// Adds an error if a required field is missing and has no error yet.
    pub fn required<T>(&mut self, pointer: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.errors.iter().any(|error| error.pointer == pointer) {
            self.add(pointer, "is required");
        }
        value
    }

    /// Parses a text, such as an id. Adds an error if that fails.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, pointer: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(pointer, format!("{error}, was {}", quoted(text)));
                None
            }
        }
    }

    /// Whether there are no errors.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Returns the errors in the order in which they were added.
    #[must_use]
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_limited_in_number() {
        let mut found = Findings::default();
        for index in 0..100 {
            found.add(&format!("/{index}"), "is wrong");
        }
        assert!(found.is_full());
        assert_eq!(found.into_errors().len(), MAX_ERRORS);
    }

    #[test]
    fn long_texts_are_shortened_in_the_middle() {
        let error = FieldError::new(format!("/{}", "ä".repeat(1000)), format!("{}, was z", "é".repeat(1000)));
        assert!(error.pointer.len() <= MAX_POINTER_BYTES && error.message.len() <= MAX_MESSAGE_BYTES);
        assert!(error.pointer.starts_with("/ä") && error.pointer.contains('…'));
        assert!(error.message.ends_with("é, was z"), "{}", error.message);
        let exact = "x".repeat(MAX_POINTER_BYTES);
        assert_eq!(FieldError::new(exact.clone(), "").pointer, exact);
    }
}
