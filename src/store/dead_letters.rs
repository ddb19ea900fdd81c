//! Dead letters: events that could not be applied, and the audit trail of their removal.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::codec::encode;
use super::{Error, tables};
use crate::task::{Moment, Timestamp};

/// Why a dead letter was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetterEnd {
    /// It was applied again.
    Requeued,
    /// A client discarded it.
    Discarded,
    /// It was the oldest when there were too many.
    Dropped,
}

impl DeadLetterEnd {
    /// Every variant.
    pub const ALL: [Self; 3] = [Self::Requeued, Self::Discarded, Self::Dropped];

    /// The word in metrics and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Discarded => "discarded",
            Self::Dropped => "dropped",
        }
    }
}

/// An entry of the audit trail: dead letters that were removed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRemoval {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// When, in observed time, from which the entry's age counts.
    pub observed: Moment,
    /// Why they were removed.
    pub end: DeadLetterEnd,
    /// Their numbers as runs without gaps, lowest run first: the first and the last of each run.
    pub runs: Vec<(u64, u64)>,
}

impl DeadLetterRemoval {
    /// Groups numbers into runs.
    #[must_use]
    pub fn runs_of(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
        numbers.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for number in numbers {
            match runs.last_mut() {
                Some((_, last)) if number.saturating_sub(*last) <= 1 => *last = number,
                Some(_) | None => runs.push((number, number)),
            }
        }
        runs
    }

    /// Number of dead letters in the entry.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1)).sum()
    }
}

/// Changes of the audit trail in a batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct DeadLetterRemovalRows {
    rows: Vec<(u64, Bytes)>,
    /// Entries before this number are too old or too many.
    trim: Option<u64>,
}

impl DeadLetterRemovalRows {
    pub(super) fn is_empty(&self) -> bool {
        let Self { rows, trim } = self;
        rows.is_empty() && trim.is_none()
    }

    /// Appends to the audit trail.
    pub(super) fn put(&mut self, number: u64, removal: &DeadLetterRemoval) -> Result<(), Error> {
        self.rows.push((number, encode("dead_letter_removals", removal)?.into()));
        Ok(())
    }

    /// Removes the entries before a number.
    pub(super) const fn trim(&mut self, until: u64) {
        self.trim = Some(until);
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::DEAD_LETTER_REMOVALS)?;
        for (number, row) in &self.rows {
            table.insert(*number, &row[..])?;
        }
        if let Some(until) = self.trim {
            table.retain_in(..until, |_, _| false)?;
        }
        Ok(())
    }
}

pub(super) fn row_bytes(row: &[u8]) -> u64 {
    u64::try_from(row.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_gaps_are_one_run() {
        let runs = DeadLetterRemoval::runs_of(vec![9, 3, 4, 5, 11, 10]);
        assert_eq!(runs, [(3, 5), (9, 11)]);
        let at = Timestamp::default();
        let removal = DeadLetterRemoval { at, observed: Moment::default(), end: DeadLetterEnd::Dropped, runs };
        assert_eq!(removal.count(), 6);
        assert!(DeadLetterRemoval::runs_of(Vec::new()).is_empty());
    }
}
