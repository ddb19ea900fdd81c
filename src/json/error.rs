//! The error of reading a text.

use super::findings::FieldError;

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The text is longer than allowed.
    #[error("the JSON text must be at most {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The nesting is deeper than the limit.
    #[error("the JSON text must not be nested deeper than {limit} levels")]
    TooDeep {
        /// The limit, in levels.
        limit: usize,
    },
    /// The text is not UTF-8.
    #[error("the JSON text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The offset of the first invalid byte, from 0.
        at: usize,
    },
    /// The text is not JSON.
    #[error("the text is not JSON: {message}")]
    Malformed {
        /// The parser's message, with line and column.
        message: String,
    },
    /// The text is JSON, but some fields are not valid.
    #[error("{} fields are not valid", .0.len())]
    Fields(Vec<FieldError>),
}
