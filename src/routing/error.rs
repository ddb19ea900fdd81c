//! The errors of calls to other services.

use std::fmt;
use std::time::Duration;

use crate::json::{FieldError, Invalid};
use crate::task::Moment;

/// Fields that one message lists.
const MAX_NAMED: usize = 5;

/// Why a call brought no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There was no connection, or it broke before the end of the answer.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// The answer was not complete in time.
    #[error("no complete answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The service cannot answer now: status 5xx or 429.
    #[error("answered with status {status}{detail}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer's body, ready to be appended; may be empty.
        detail: String,
        /// The wait that the service asks for.
        retry_after: Option<Duration>,
    },
    /// The service refuses the request: any other status but 2xx.
    #[error("answered with status {status}{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer's body, ready to be appended; may be empty.
        detail: String,
    },
    /// The answer is too large.
    #[error("answered with more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The answer does not have the agreed form.
    #[error("answered in an unexpected form: {0}")]
    Invalid(InvalidAnswer),
    /// The service was not called, because earlier calls failed.
    #[error("not called, because earlier calls failed (circuit breaker open)")]
    BreakerOpen {
        /// The time of the next probe, if it is known.
        until: Option<Moment>,
    },
}

impl Error {
    /// Whether the service as a whole failed, so that another attempt may help. The other
    /// errors belong to one request.
    #[must_use]
    pub const fn is_service_failure(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Timeout(_) | Self::Unavailable { .. } => true,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Invalid(_) | Self::BreakerOpen { .. } => false,
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

/// Why an answer does not have the agreed form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidAnswer {
    /// The answer is not JSON, or exceeds a limit.
    Json(Invalid),
    /// The answer is JSON, but these fields are not valid.
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
    fn messages_list_fields_and_stay_short() {
        let field = |n: usize| FieldError::new(format!("/subtasks/{n}/id"), "is required");
        let two = Error::Invalid(InvalidAnswer::Fields(vec![FieldError::new("", "no object"), field(1)]));
        assert_eq!(
            two.to_string(),
            "answered in an unexpected form: the whole answer: no object; /subtasks/1/id: is required"
        );
        let many = InvalidAnswer::Fields((0..20).map(field).collect());
        assert!(many.to_string().ends_with("/subtasks/4/id: is required; and 15 more"), "{many}");
    }

    #[test]
    fn only_failures_of_the_service_are_retried() {
        let unavailable = Error::Unavailable { status: 503, detail: String::new(), retry_after: None };
        assert!(unavailable.is_service_failure());
        assert!(Error::Timeout(Duration::from_secs(1)).is_service_failure());
        for error in [
            Error::Refused { status: 400, detail: String::new() },
            Error::TooLarge { limit: 1 },
            Error::from(Invalid::TooDeep { limit: 64 }),
            Error::BreakerOpen { until: None },
        ] {
            assert!(!error.is_service_failure(), "{error}");
        }
    }
}
