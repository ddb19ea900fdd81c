//! Runs of tokens that many answers have in the same places, each stored once
//! as text with the keys. A compact answer names a run by its number, so that
//! rendering it copies a few long pieces instead of every key and token.
//!
//! The ended tasks of a store share a few dozen runs. The table has room for
//! [`MAX_RUNS`]; when it is full, tokens are kept one by one.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

/// The most runs that are kept. A run is never removed while the process lives.
const MAX_RUNS: usize = 1024;

/// Consecutive values of an answer with their keys.
#[derive(Debug)]
pub(super) struct Run {
    /// The number of values.
    pub(super) len: usize,
    /// The keys and values as they stand in the answer.
    pub(super) text: Box<[u8]>,
}

/// The numbers of the runs that begin at one place, by their tokens.
type NumbersByTokens = HashMap<Box<[u8]>, u16>;

struct RunTable {
    /// By the place of the first value in the answer.
    numbers: Mutex<HashMap<usize, NumbersByTokens>>,
    /// By number.
    runs: Box<[OnceLock<Run>]>,
}

static RUNS: LazyLock<RunTable> = LazyLock::new(|| RunTable {
    numbers: Mutex::default(),
    runs: std::iter::repeat_with(OnceLock::new).take(MAX_RUNS).collect(),
});

/// Returns the number of the run of these tokens from a place on, and adds the run if it is new;
/// `text` renders it then. Returns `None` if the table is full.
pub(super) fn find_or_add(place: usize, tokens: &[u8], text: impl FnOnce() -> Vec<u8>) -> Option<u16> {
    let mut numbers = RUNS.numbers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(number) = numbers.get(&place).and_then(|at_place| at_place.get(tokens)) {
        return Some(*number);
    }
    let next: usize = numbers.values().map(HashMap::len).sum();
    let number = u16::try_from(next).ok()?;
    RUNS.runs.get(next)?.set(Run { len: tokens.len(), text: text().into() }).ok()?;
    numbers.entry(place).or_default().insert(tokens.into(), number);
    Some(number)
}

/// Returns the run with a number.
#[inline]
pub(super) fn get(number: u16) -> Option<&'static Run> {
    RUNS.runs.get(usize::from(number))?.get()
}
