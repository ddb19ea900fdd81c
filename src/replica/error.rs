//! What can go wrong with the database, by what is to be done about it.

use std::error::Error as _;
use std::fmt::Write as _;

use crate::{engine, store};

/// Why the copy did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database can't be reached, or can't write now: it is tried again.
    #[error("{0}")]
    Away(String),
    /// It took too long: it is tried again, with less at once.
    #[error("{0}")]
    Slow(String),
    /// Another transaction was in the way: it is tried again at once.
    #[error("{0}")]
    Conflict(String),
    /// It refused what a row holds.
    #[error("{reason}")]
    Row {
        /// Why, in the database's words.
        reason: String,
        /// Its code for it.
        code: String,
    },
    /// Something is set up wrongly there or here: a person has to look at it.
    #[error("{0}")]
    Setup(String),
    /// The database holds the copy of another store, or this one is not the
    /// newest: nothing is written before a person has decided.
    #[error("{0}")]
    Foreign(String),
    /// This data directory was the owner of the copy, and another one is now:
    /// it must not go on.
    #[error("{0}")]
    Lost(String),
    /// The store or the engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The store can't be read.
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
            return if is_unproven(error) { Self::Setup(text) } else { Self::Away(text) };
        };
        by_code(code, &text)
    }
}

/// Whether the database could not prove who it is: by no known authority, or
/// for another host. Only a person can change that.
fn is_unproven(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        // What an I/O error carries is not among its sources.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls.or_else(|| cause.downcast_ref()), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// By the code that the database gives (SQLSTATE).
fn by_code(code: &str, text: &str) -> Error {
    let text = format!("{text} (SQLSTATE {code})");
    match (code, code.get(..2).unwrap_or_default()) {
        ("40001" | "40P01" | "55P03", _) => Error::Conflict(text),
        ("57014" | "25P03", _) => Error::Slow(text),
        // Data that does not fit, a constraint, an exception of a trigger, a
        // view's condition, a row that is too large.
        ("54000", _) | (_, "22" | "23" | "P0" | "44") => Error::Row { reason: text, code: code.to_owned() },
        // Wrong names, rights, password, database.
        (_, "42" | "28" | "3D" | "3F" | "0A" | "2F" | "26") => Error::Setup(text),
        // Connections, resources, a stop, a standby that can't write, or
        // something unheard of.
        (_, _) => Error::Away(text),
    }
}

/// An error and what caused it. Neither holds the password.
pub(super) fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String can't fail.
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
        let of = |code| by_code(code, "x");
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
