//! Reads that may make only one pass over a text.
//!
//! A valid text needs one pass. A text with mistakes takes one more pass for each of
//! them, which can take a hundred times as long, and is left for a thread that does
//! not serve connections.

use std::cell::Cell;

/// The number of passes that the current thread may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    Any,
    One,
    /// One pass was allowed, and a text needed a second one.
    Exceeded,
}

thread_local! {
    static PASSES: Cell<Passes> = const { Cell::new(Passes::Any) };
}

/// Ends the restriction when it is dropped, also after a panic.
struct Restriction;

impl Drop for Restriction {
    fn drop(&mut self) {
        PASSES.set(Passes::Any);
    }
}

/// Calls `read` with at most one pass over each text. Returns `None` if a text needs a
/// second pass: then nothing is decided, and `read` must be called again without the
/// restriction.
pub fn try_single_pass<T>(read: impl FnOnce() -> T) -> Option<T> {
    let _restriction = Restriction;
    PASSES.set(Passes::One);
    let value = read();
    (PASSES.get() == Passes::One).then_some(value)
}

/// Whether a second pass over a text is allowed. If not, the result of the current
/// read is discarded.
pub(super) fn allow_second_pass() -> bool {
    if PASSES.get() == Passes::Any {
        return true;
    }
    PASSES.set(Passes::Exceeded);
    false
}
