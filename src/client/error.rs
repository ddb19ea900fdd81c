//! Why a call to the server failed.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

/// Why a call returned no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No complete answer arrived: no connection, no answer in time, or a broken connection.
    #[error("can't reach {url}: {reason}")]
    Unreachable {
        /// Address of the server, without the base path.
        url: String,
        /// The underlying error, in lowercase.
        reason: String,
    },
    /// The server refused the request.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The answer does not follow the contract of this service.
    #[error("the server's answer can't be read: {0}")]
    Protocol(String),
}

impl Error {
    /// Returns whether the same call may succeed later: the server was unreachable,
    /// overloaded or restarting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 429 | 502..=504),
            Self::Protocol(_) => false,
        }
    }

    /// Reads the problem in an answer whose status is not a success.
    pub(super) fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        let mut problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        problem.status = status.as_u16();
        if problem.title.is_none() && problem.detail.is_none() {
            problem.title = status.canonical_reason().map(str::to_lowercase);
        }
        Self::Problem(Box::new(problem))
    }
}

/// A refusal in the form of RFC 9457, with the fields that the contract adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable name of the reason, such as `validation_failed`.
    pub code: Option<String>,
    /// Short text for this kind of problem.
    pub title: Option<String>,
    /// Description of this occurrence.
    pub detail: Option<String>,
    /// Invalid fields of the request body.
    pub errors: Vec<FieldError>,
}

/// An invalid field of a request body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FieldError {
    /// JSON pointer to the field; empty for the whole body.
    pub pointer: String,
    /// What is wrong with the value.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.detail.as_deref().or(self.title.as_deref()).unwrap_or("the server gave no reason");
        write!(f, "{text} (")?;
        if let Some(code) = &self.code {
            write!(f, "{code}, ")?;
        }
        write!(f, "status {})", self.status)?;
        for error in &self.errors {
            let pointer = if error.pointer.is_empty() { "the whole body" } else { &error.pointer };
            write!(f, "\n  {pointer}: {}", error.message)?;
        }
        Ok(())
    }
}

/// Returns the text of the innermost error, which names no layers of the HTTP library.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map_or_else(String::new, |cause| cause.to_string().to_lowercase())
}
