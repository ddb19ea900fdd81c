//! Errors of the copy, classified by how it reacts to them.

use std::error::Error as _;
use std::fmt::Write as _;

use crate::{engine, store};

/// Why the copy could not make progress.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is unreachable or can't write at the moment. The copy retries.
    #[error("{0}")]
    Away(String),
    /// A statement or connection exceeded its time limit. The copy retries with smaller
    /// transactions.
    #[error("{0}")]
    Slow(String),
    /// The transaction conflicted with another one. The copy retries at once.
    #[error("{0}")]
    Conflict(String),
    /// The database refused the contents of a row.
    #[error("{reason}")]
    Row {
        /// The database's message.
        reason: String,
        /// The SQLSTATE code.
        code: String,
    },
    /// The configuration of the database or of this service is wrong. An operator must correct it.
    #[error("{0}")]
    Setup(String),
    /// The database holds the copy of another store, or this store is not the newest. Nothing is
    /// written until an operator decides.
    #[error("{0}")]
    Foreign(String),
    /// This data directory owned the copy, and another one owns it now. This one must stop.
    #[error("{0}")]
    Lost(String),
    /// The engine has stopped.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&tokio_postgres::Error> for Error {
    fn from(error: &tokio_postgres::Error) -> Self {
        let text = chain(error);
        let Some(code) = error.code().map(tokio_postgres::error::SqlState::code) else {
            return if is_certificate_error(error) { Self::Setup(text) } else { Self::Away(text) };
        };
        from_sqlstate(code, &text)
    }
}

/// Returns whether certificate verification failed. Retrying can't change that.
fn is_certificate_error(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        // The error inside an `io::Error` is not part of its source chain.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls.or_else(|| cause.downcast_ref()), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Classifies an error by its SQLSTATE code.
fn from_sqlstate(code: &str, text: &str) -> Error {
    let text = format!("{text} (SQLSTATE {code})");
    match (code, code.get(..2).unwrap_or_default()) {
        ("40001" | "40P01" | "55P03", _) => Error::Conflict(text),
        ("57014" | "25P03", _) => Error::Slow(text),
        // Data exceptions, constraints, exceptions of triggers, check options of views, and rows
        // that are too large.
        ("54000", _) | (_, "22" | "23" | "P0" | "44") => Error::Row { reason: text, code: code.to_owned() },
        // Unknown names, missing privileges, wrong password or database.
        (_, "42" | "28" | "3D" | "3F" | "0A" | "2F" | "26") => Error::Setup(text),
        // Lost connections, exhausted resources, a shutdown, a read-only standby, or a code unknown
        // here.
        (_, _) => Error::Away(text),
    }
}

/// Formats an error with its causes. None of them contains the password.
pub(super) fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a `String` is infallible.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let of = |code| from_sqlstate(code, "x");
        assert!(matches!(of("40P01"), Error::Conflict(_)));
        assert!(matches!(of("57014"), Error::Slow(_)));
        assert!(matches!(of("22021"), Error::Row { .. }));
        assert!(matches!(of("23514"), Error::Row { .. }));
        assert!(matches!(of("P0001"), Error::Row { .. }));
        assert!(matches!(of("42P01"), Error::Setup(_)));
        assert!(matches!(of("28P01"), Error::Setup(_)));
        for code in ["25006", "53100", "53300", "57P01", "57P03", "08006", "XX000"] {
            assert!(matches!(of(code), Error::Away(_)), "{code}");
        }
    }
}
