//! Dead letters: messages that could not be taken.

use redb::WriteTransaction;

use super::codec::encode;
use super::rows::DeadLetter;
use super::{Batch, Error, View, tables};

impl Batch {
    /// Keeps an event that could not be taken.
    pub fn put_dead_letter(&mut self, number: u64, letter: &DeadLetter) -> Result<(), Error> {
        self.dead_letters.push((number, encode("dead_letters", letter)?.into()));
        Ok(())
    }

    /// Removes a dead letter.
    pub fn remove_dead_letter(&mut self, number: u64) {
        self.removed_dead_letters.push(number);
    }

    pub(super) fn write_dead_letters(&self, transaction: &WriteTransaction) -> Result<(), Error> {
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
        Ok(())
    }
}

impl View {
    /// The numbers of the oldest dead letters.
    pub fn oldest_dead_letters(&self, limit: usize) -> Result<Vec<u64>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?.range(0..)?.take(limit);
        rows.map(|row| Ok(row?.0.value())).collect()
    }
}
