//! Runs: words that follow each other in the same places of many answers, as
//! one piece of text with their keys. An answer that stays in memory names
//! such a piece by its number, so that reading it copies a few long texts and
//! not each key and each word.
//!
//! What ended tasks have in common are a few dozen runs; there is room for
//! [`MAX_RUNS`]. Beyond that words stay as they are.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

/// Most runs that are kept, for the life of the process.
const MAX_RUNS: usize = 1024;

/// Some values with what stands before each.
#[derive(Debug)]
pub(crate) struct Run {
    /// How many values it has.
    pub(crate) places: usize,
    /// Their keys and texts.
    pub(crate) text: Box<[u8]>,
}

/// Numbers of runs by their words.
type Numbers = HashMap<Box<[u8]>, u16>;

/// All runs by number, and their numbers by the place of their first value.
struct Runs {
    numbers: Mutex<HashMap<usize, Numbers>>,
    runs: Box<[OnceLock<Run>]>,
}

static RUNS: LazyLock<Runs> = LazyLock::new(|| Runs {
    numbers: Mutex::default(),
    runs: std::iter::repeat_with(OnceLock::new).take(MAX_RUNS).collect(),
});

/// The number of the run of these words from a place on; `text` makes it when
/// it is new. `None`: there is no room for it.
pub(crate) fn number(place: usize, words: &[u8], text: impl FnOnce() -> Vec<u8>) -> Option<u16> {
    let mut numbers = RUNS.numbers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(number) = numbers.get(&place).and_then(|of_place| of_place.get(words)) {
        return Some(*number);
    }
    let next: usize = numbers.values().map(HashMap::len).sum();
    let number = u16::try_from(next).ok()?;
    RUNS.runs.get(next)?.set(Run { places: words.len(), text: text().into() }).ok()?;
    numbers.entry(place).or_default().insert(words.into(), number);
    Some(number)
}

/// The run with a number.
#[inline]
pub(crate) fn get(number: u16) -> Option<&'static Run> {
    RUNS.runs.get(usize::from(number))?.get()
}
