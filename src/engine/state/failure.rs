//! The two ways in which a command can fail.

use crate::engine::api::Refusal;
use crate::{store, task};

/// The result of something that can fail only because of the store.
pub(crate) type Stored<T> = Result<T, store::Error>;

/// Why a command had no effect.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller's fault. Nothing has changed, and the writer continues.
    Refused(Refusal),
    /// The store failed. The writer stops.
    Store(store::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<task::Refusal> for Failure {
    fn from(refusal: task::Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Separates a refusal, which is an answer to the caller, from an error of the store,
/// which ends the writer.
pub(crate) fn answer<T>(result: Result<T, Failure>) -> Stored<Result<T, Refusal>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Refused(refusal)) => Ok(Err(refusal)),
        Err(Failure::Store(error)) => Err(error),
    }
}

/// Returns the value, or `None` if the command was refused: for steps that follow from
/// others, where a refusal means that there is nothing left to do.
pub(crate) fn unless_refused<T>(result: Result<T, Failure>) -> Stored<Option<T>> {
    answer(result).map(Result::ok)
}
