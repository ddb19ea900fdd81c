//! Counts of lines that are not in the log.

use std::sync::atomic::{AtomicU64, Ordering};

/// The target of lines about the log itself, which are never left out.
pub(super) const TARGET: &str = "dats::log";

/// Lines without space in the queue, and lines that could not be written to stderr.
pub(super) static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Lines that were left out because they repeated others.
pub(super) static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Counts of lines that are not in the log, since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogFigures {
    /// Lines that were dropped because stderr was not read, or was closed.
    pub dropped: u64,
    /// Lines that repeated others and are counted in a summary.
    pub repeated: u64,
}

/// Returns the counts of this process.
#[must_use]
pub fn log_figures() -> LogFigures {
    LogFigures { dropped: DROPPED.load(Ordering::Relaxed), repeated: LEFT_OUT.load(Ordering::Relaxed) }
}
