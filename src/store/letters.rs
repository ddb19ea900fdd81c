//! Dead letters: messages that could not be taken, and the audit trail of what has
//! become of them.

use bytes::Bytes;
use redb::{ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::rows::DeadLetter;
use super::{Batch, Error, View, tables};
use crate::task::{Moment, Timestamp};

/// Why a dead letter is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterEnd {
    /// It was taken again.
    Requeued,
    /// A client has discarded it.
    Discarded,
    /// It was the oldest when there were too many.
    Dropped,
}

impl LetterEnd {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requeued, Self::Discarded, Self::Dropped];

    /// The word for metrics and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Discarded => "discarded",
            Self::Dropped => "dropped",
        }
    }
}

/// Dead letters that are no longer kept: an entry of their audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterRemoval {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// When, in observed time: the entry is removed by its age.
    pub observed: Moment,
    /// Why.
    pub end: LetterEnd,
    /// Their numbers, as runs without gaps: the first and the last of each, the
    /// lowest run first.
    pub runs: Vec<(u64, u64)>,
}

impl LetterRemoval {
    /// The runs of these numbers.
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

    /// How many dead letters it is about.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1)).sum()
    }
}

/// What a batch does to the audit trail of dead letters.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RemovalRows {
    rows: Vec<(u64, Bytes)>,
    /// Entries before this number are too old or too many.
    trim: Option<u64>,
}

impl RemovalRows {
    pub(super) fn is_empty(&self) -> bool {
        let Self { rows, trim } = self;
        rows.is_empty() && trim.is_none()
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

impl Batch {
    /// Keeps an event that could not be taken. Returns the bytes of its row.
    pub fn put_dead_letter(&mut self, number: u64, letter: &DeadLetter) -> Result<u64, Error> {
        let row = encode("dead_letters", letter)?;
        let bytes = row_bytes(&row);
        self.dead_letters.push((number, row.into()));
        Ok(bytes)
    }

    /// Removes a dead letter.
    pub fn remove_dead_letter(&mut self, number: u64) {
        self.removed_dead_letters.push(number);
    }

    /// Appends to the audit trail of dead letters.
    pub fn put_letter_removal(&mut self, number: u64, removal: &LetterRemoval) -> Result<(), Error> {
        self.letter_removals.rows.push((number, encode("dead_letter_removals", removal)?.into()));
        Ok(())
    }

    /// Removes the entries of that trail before a number.
    pub const fn trim_letter_removals(&mut self, until: u64) {
        self.letter_removals.trim = Some(until);
    }

    /// Writes what it does to dead letters. The last number that was given is kept
    /// beside them, since all of them may be gone.
    pub(super) fn write_dead_letters(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.letter_removals.write(transaction)?;
        if self.dead_letters.is_empty() && self.removed_dead_letters.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::DEAD_LETTERS)?;
        for (number, bytes) in &self.dead_letters {
            table.insert(*number, &bytes[..])?;
        }
        for number in &self.removed_dead_letters {
            table.remove(*number)?;
        }
        if let Some(last) = self.dead_letters.iter().map(|(number, _)| *number).max() {
            let mut meta = transaction.open_table(tables::META)?;
            meta.insert(tables::LAST_DEAD_LETTER_KEY, &last.to_le_bytes()[..])?;
        }
        Ok(())
    }
}

fn row_bytes(row: &[u8]) -> u64 {
    u64::try_from(row.len()).unwrap_or(u64::MAX)
}

impl View {
    /// Dead letters with their numbers, newest first, before one of them.
    pub fn dead_letters_before(
        &self,
        before: Option<u64>,
    ) -> Result<impl Iterator<Item = Result<(u64, DeadLetter), Error>> + use<>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?.range(..before.unwrap_or(u64::MAX))?;
        Ok(rows.rev().map(|row| {
            let (number, row) = row?;
            Ok((number.value(), decode("dead_letters", row.value())?))
        }))
    }

    /// The numbers of all dead letters, oldest first, each with the bytes of its row.
    pub(super) fn dead_letter_sizes(&self) -> Result<Vec<(u64, u64)>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?;
        rows.iter()?
            .map(|row| {
                let (number, row) = row?;
                Ok((number.value(), row_bytes(row.value())))
            })
            .collect()
    }

    /// The last number that a dead letter was given; zero in a store of an earlier
    /// version, which has not kept it.
    pub(super) fn last_dead_letter(&self) -> Result<u64, Error> {
        let row = self.table(tables::META)?.get(tables::LAST_DEAD_LETTER_KEY)?;
        let Some(row) = row else { return Ok(0) };
        let number = row.value().try_into().map(u64::from_le_bytes);
        let corrupt = |_| Error::Corrupt { table: "meta", detail: "`last_dead_letter` is no number".to_owned() };
        number.map_err(corrupt)
    }

    /// The entries of the audit trail of dead letters with their numbers, newest
    /// first, before one of them.
    pub fn letter_removals_before(
        &self,
        before: Option<u64>,
    ) -> Result<impl Iterator<Item = Result<(u64, LetterRemoval), Error>> + use<>, Error> {
        let table = self.table_if_made(tables::DEAD_LETTER_REMOVALS)?;
        let rows = table.map(|table| table.range(..before.unwrap_or(u64::MAX))).transpose()?;
        Ok(rows.into_iter().flat_map(Iterator::rev).map(|row| {
            let (number, row) = row?;
            Ok((number.value(), decode("dead_letter_removals", row.value())?))
        }))
    }

    /// The numbers of these entries, oldest first, each with its time.
    pub(super) fn letter_removal_times(&self) -> Result<Vec<(u64, Moment)>, Error> {
        let mut times = Vec::new();
        for entry in self.letter_removals_before(None)? {
            let (number, removal) = entry?;
            times.push((number, removal.observed));
        }
        times.reverse();
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_gaps_are_one_run() {
        let runs = LetterRemoval::runs_of(vec![9, 3, 4, 5, 11, 10]);
        assert_eq!(runs, [(3, 5), (9, 11)]);
        let at = Timestamp::default();
        let removal = LetterRemoval { at, observed: Moment::default(), end: LetterEnd::Dropped, runs };
        assert_eq!(removal.count(), 6);
        assert!(LetterRemoval::runs_of(Vec::new()).is_empty());
    }
}
