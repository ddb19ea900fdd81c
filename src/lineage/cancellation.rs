//! How long questions go on: to their end, or until somebody stops them.

use std::convert::Infallible;

/// Steps between two looks at whether to go on: about a tenth of a millisecond.
pub(super) const STRIDE: usize = 4096;

/// A question was stopped before its end, and has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before the end")]
pub struct Stopped;

/// Asked now and then whether to go on.
pub trait Pace {
    /// Why not.
    type Stopped;

    /// Whether to go on.
    fn go_on(&self) -> Result<(), Self::Stopped>;
}

/// To the end.
#[derive(Debug, Clone, Copy)]
pub struct Endless;

impl Pace for Endless {
    type Stopped = Infallible;

    fn go_on(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Until what it holds says so.
#[derive(Debug, Clone, Copy)]
pub struct Until<F>(pub F);

impl<F: Fn() -> bool> Pace for Until<F> {
    type Stopped = Stopped;

    fn go_on(&self) -> Result<(), Stopped> {
        if (self.0)() { Err(Stopped) } else { Ok(()) }
    }
}
