//! Dead letters: messages that could not be taken.

use redb::ReadableTable as _;

use super::codec::{decode, encode};
use super::rows::DeadLetter;
use super::{Batch, Error, View, tables};

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
}
