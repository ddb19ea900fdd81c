//! Dead letters: messages that could not be taken.

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
}

impl View {
    /// The numbers of the oldest dead letters.
    pub fn oldest_dead_letters(&self, limit: usize) -> Result<Vec<u64>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?.range(0..)?.take(limit);
        rows.map(|row| Ok(row?.0.value())).collect()
    }
}
