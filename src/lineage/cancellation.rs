//! How a query is cancelled before its end.

use std::convert::Infallible;

/// Steps between two checks: about a tenth of a millisecond.
pub(super) const STRIDE: usize = 4096;

/// A query was cancelled before its end and has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before the end")]
pub struct Cancelled;

/// Decides whether a query is cancelled.
pub trait Cancellation {
    /// The error of a cancelled query; [`Infallible`] if queries are never cancelled.
    type Cancelled;

    /// Returns an error once the query is cancelled. Queries call it regularly.
    fn check(&self) -> Result<(), Self::Cancelled>;
}

/// Runs queries to their end.
#[derive(Debug, Clone, Copy)]
pub struct NeverCancelled;

impl Cancellation for NeverCancelled {
    type Cancelled = Infallible;

    fn check(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Cancels queries once the function returns true.
#[derive(Debug, Clone, Copy)]
pub struct CancelWhen<F>(pub F);

impl<F: Fn() -> bool> Cancellation for CancelWhen<F> {
    type Cancelled = Cancelled;

    fn check(&self) -> Result<(), Cancelled> {
        if (self.0)() { Err(Cancelled) } else { Ok(()) }
    }
}
