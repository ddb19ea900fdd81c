//! Why a service gave no answer that could be used.

use std::fmt;
use std::time::Duration;

use crate::json::{FieldError, Invalid};
use crate::task::Moment;

/// Most fields that one message names.
const MAX_NAMED: usize = 5;

/// Why a service gave no answer that could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There was no connection, or it broke before the answer was whole.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// The answer was not whole in time.
    #[error("no whole answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The service says that it can't answer now: a status of 5xx, or 429.
    #[error("answered with status {status}{detail}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// What the answer said, ready to be appended; may be empty.
        detail: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The service does not take this question: any other status but 2xx.
    #[error("answered with status {status}{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the answer said, ready to be appended; may be empty.
        detail: String,
    },
    /// The answer does not end where it should.
    #[error("answered with more than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
    /// The answer is not what was agreed on.
    #[error("answered with something else than agreed: {0}")]
    Invalid(InvalidAnswer),
    /// It was not asked: it has not answered others lately.
    #[error("it is left alone until it answers again")]
    Away {
        /// When it may be asked again, where that is known.
        until: Option<Moment>,
    },
}

impl Error {
    /// Whether the service as a whole is at fault, so that another try may
    /// help. The rest belongs to one question.
    #[must_use]
    pub const fn is_of_service(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Timeout(_) | Self::Unavailable { .. } => true,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Invalid(_) | Self::Away { .. } => false,
        }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(match invalid {
            Invalid::Fields(fields) => InvalidAnswer::Fields(fields),
            other => InvalidAnswer::Json(other),
        })
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidAnswer {
    /// It is not JSON, or not within the limits.
    Json(Invalid),
    /// It is JSON, but these fields are wrong.
    Fields(Vec<FieldError>),
}

impl fmt::Display for InvalidAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = match self {
            Self::Json(invalid) => return invalid.fmt(f),
            Self::Fields(fields) => fields,
        };
        for (index, FieldError { pointer, message }) in fields.iter().take(MAX_NAMED).enumerate() {
            let before = if index == 0 { "" } else { "; " };
            let pointer = if pointer.is_empty() { "the whole answer" } else { pointer };
            write!(f, "{before}{pointer}: {message}")?;
        }
        match fields.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_fields_and_stay_short() {
        let field = |n: usize| FieldError::new(format!("/subtasks/{n}/id"), "is required");
        let two = Error::Invalid(InvalidAnswer::Fields(vec![FieldError::new("", "no object"), field(1)]));
        assert_eq!(
            two.to_string(),
            "answered with something else than agreed: the whole answer: no object; /subtasks/1/id: is required"
        );
        let many = InvalidAnswer::Fields((0..20).map(field).collect());
        assert!(many.to_string().ends_with("/subtasks/4/id: is required; and 15 more"), "{many}");
    }

    #[test]
    fn only_the_service_as_a_whole_is_worth_another_try() {
        let unavailable = Error::Unavailable { status: 503, detail: String::new(), retry_after: None };
        assert!(unavailable.is_of_service());
        assert!(Error::Timeout(Duration::from_secs(1)).is_of_service());
        for error in [
            Error::Refused { status: 400, detail: String::new() },
            Error::TooLarge { limit: 1 },
            Error::from(Invalid::TooDeep { limit: 64 }),
            Error::Away { until: None },
        ] {
            assert!(!error.is_of_service(), "{error}");
        }
    }
}
