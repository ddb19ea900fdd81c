//! Readers of the log and the place that each has in it.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::rows::LogEntry;
use super::tables::{self, id_then, number_after_id};
use super::{Batch, Error, View};
use crate::task::{Change, Seq, TaskId, Timestamp};

/// The place of a reader in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The newest position when it joined: what it takes from the log comes
    /// after it, and what was there before it reads from the tables.
    pub joined: Seq,
    /// When it joined.
    pub joined_at: Timestamp,
    /// Whether it has taken what was there before it joined.
    pub begun: bool,
    /// It has taken everything up to here.
    pub read_to: Seq,
}

impl Place {
    /// That of a reader which joins now.
    #[must_use]
    pub const fn joining(head: Seq, now: Timestamp) -> Self {
        Self { joined: head, joined_at: now, begun: false, read_to: head }
    }
}

impl Batch {
    /// Keeps the place of a reader; `None`: it has none any more.
    pub fn put_log_reader(&mut self, name: &str, place: Option<&Place>) -> Result<(), Error> {
        let row = place.map(|place| encode("log_readers", place)).transpose()?;
        self.log_readers.push((name.to_owned(), row.map(Into::into)));
        Ok(())
    }

    pub(super) fn write_log_readers(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.log_readers.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::LOG_READERS)?;
        for (name, row) in &self.log_readers {
            match row {
                Some(row) => drop(table.insert(name.as_str(), &row[..])?),
                None => drop(table.remove(name.as_str())?),
            }
        }
        Ok(())
    }
}

impl View {
    /// The position of a task's newest dispatch before a position.
    pub fn newest_dispatch(&self, task: TaskId, before: Seq) -> Result<Option<Seq>, Error> {
        let id = task.to_bytes();
        let (first, last) = (id_then(id, 0), id_then(id, before.0));
        for row in self.table(tables::HISTORY)?.range::<&[u8; 24]>(&first..&last)?.rev() {
            let (key, value) = row?;
            let entry: LogEntry = decode("history", value.value())?;
            if matches!(entry.change, Change::Ready { .. }) {
                return Ok(Some(Seq(number_after_id(key.value()))));
            }
        }
        Ok(None)
    }

    /// Every reader that has a place in the log.
    pub fn log_readers(&self) -> Result<Vec<(String, Place)>, Error> {
        let mut readers = Vec::new();
        for row in self.table(tables::LOG_READERS)?.iter()? {
            let (name, place) = row?;
            readers.push((name.value().to_owned(), decode("log_readers", place.value())?));
        }
        Ok(readers)
    }
}
