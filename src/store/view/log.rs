//! The log, its readers, changes, clocks and dead letters, as one commit has them.

use redb::ReadableTable;

use super::snapshot::View;
use crate::store::batch_rows::IdempotencyRow;
use crate::store::changes::{ChangedKeys, CommitNumber, number};
use crate::store::clocks::{self, Clocks};
use crate::store::codec::decode;
use crate::store::dead_letters::{DeadLetterRemoval, row_bytes};
use crate::store::error::Error;
use crate::store::log::Row;
use crate::store::log_readers::ReaderPosition;
use crate::store::page::{Page, PageBudget, read_page};
use crate::store::rows::{DeadLetter, LogEntry};
use crate::store::tables::{
    self, CHANGES_FROM_KEY, CHANGES_KEY, CLOCKS_KEY, LAST_COMMIT_KEY, id_then, number_after_id,
};
use crate::store::taken_events::TakenEvents;
use crate::task::{Change, Moment, Now, Seq, TaskId, Timestamp};

impl View {
    /// Newest position of the log.
    pub fn log_head(&self) -> Result<Seq, Error> {
        let last = self.table(tables::LOG)?.last()?.map(|(key, _)| Seq(key.value()));
        last.map_or_else(|| self.log_begin(), Ok)
    }

    /// First position that the log still has.
    pub fn log_tail(&self) -> Result<Option<Seq>, Error> {
        let table = self.table(tables::LOG)?;
        let Some((key, row)) = table.first()? else { return Ok(None) };
        let entry = Row::read(key.value(), row.value(), Seq(0))?.next().transpose()?;
        Ok(entry.map(|(seq, _)| seq))
    }

    /// Up to `limit` entries of the log after a position, in order.
    pub fn log(
        &self,
        after: Seq,
        limit: usize,
    ) -> Result<impl Iterator<Item = Result<(Seq, LogEntry), Error>> + use<>, Error> {
        let rows = self.table(tables::LOG)?.range(after.0.saturating_add(1)..)?;
        let entries = rows.flat_map(move |row| {
            let read = row.map_err(Error::from).and_then(|(key, row)| Row::read(key.value(), row.value(), after));
            read.unwrap_or_else(|error| Row::One(Some(Err(error))))
        });
        Ok(entries.take(limit))
    }

    /// The position before which all entries of the log are older than `before`, found by reading
    /// at most `limit` rows.
    pub fn log_older_than(&self, before: Moment, limit: usize) -> Result<Option<Seq>, Error> {
        let mut until = None;
        for row in self.table(tables::LOG)?.iter()?.take(limit) {
            let (key, row) = row?;
            // All entries of a row are of one commit.
            let first = Row::read(key.value(), row.value(), Seq(0))?.next().transpose()?;
            if first.is_some_and(|(_, entry)| entry.moment() >= before) {
                break;
            }
            until = Some(Seq(key.value()).next());
        }
        Ok(until)
    }

    fn meta_number(&self, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.table(tables::META)?.get(key)?.and_then(|value| number(&value)))
    }

    /// Number of the last commit that changed something.
    pub fn commit_number(&self) -> Result<CommitNumber, Error> {
        Ok(CommitNumber(self.meta_number(CHANGES_KEY)?.unwrap_or(0)))
    }

    /// The commit after which the list has all commits; `None` if there is no list.
    pub fn changes_from(&self) -> Result<Option<CommitNumber>, Error> {
        Ok(self.meta_number(CHANGES_FROM_KEY)?.map(CommitNumber))
    }

    /// Positions of the log up to this one belong to an earlier store.
    pub(in crate::store) fn log_begin(&self) -> Result<Seq, Error> {
        Ok(Seq(self.meta_number(tables::LOG_BEGIN_KEY)?.unwrap_or(0)))
    }

    /// Keys changed after a commit, in order.
    pub fn changes(
        &self,
        after: CommitNumber,
    ) -> Result<impl Iterator<Item = Result<(CommitNumber, ChangedKeys), Error>> + use<>, Error> {
        let rows = self.table(tables::CHANGES)?.range(after.next().0..)?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            Ok((CommitNumber(key.value()), decode("changes", value.value())?))
        }))
    }

    /// Position of the newest dispatch of a task before a position.
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

    /// All readers with a position in the log.
    pub fn log_readers(&self) -> Result<Vec<(String, ReaderPosition)>, Error> {
        let mut readers = Vec::new();
        for row in self.table(tables::LOG_READERS)?.iter()? {
            let (name, place) = row?;
            readers.push((name.value().to_owned(), decode("log_readers", place.value())?));
        }
        Ok(readers)
    }

    /// Wall-clock time of the last commit; zero in a new store.
    pub fn last_commit_at(&self) -> Result<Timestamp, Error> {
        let meta = self.table(tables::META)?;
        let micros = meta.get(LAST_COMMIT_KEY)?.and_then(|value| value.value().try_into().ok().map(i64::from_le_bytes));
        Ok(Timestamp::from_micros(micros.unwrap_or(0)))
    }

    /// The clocks at the last commit.
    pub fn clocks(&self) -> Result<Clocks, Error> {
        if let Some(row) = self.table(tables::META)?.get(CLOCKS_KEY)? {
            return clocks::of_row(row.value());
        }
        // A new store, or one of the first versions of this format.
        let last = self.last_commit_at()?;
        Ok(Clocks { last: Now::aligned(last), ids_until_ms: last.as_millis() })
    }

    /// Events accepted by the commits in a range of positions, oldest first.
    pub fn taken_events(&self, from: Seq, before: Seq) -> Result<Vec<TakenEvents>, Error> {
        let mut commits = Vec::new();
        for row in self.table(tables::TAKEN_EVENTS)?.range(from.0..before.0)? {
            let (key, value) = row?;
            commits.push(TakenEvents::of_row(Seq(key.value()), value.value())?);
        }
        Ok(commits)
    }

    /// The result of an idempotency key.
    pub fn idempotency(&self, seq: Seq) -> Result<Option<IdempotencyRow>, Error> {
        let row = self.table(tables::IDEMPOTENCY)?.get(seq.0)?;
        row.map(|row| decode("idempotency", row.value())).transpose()
    }

    /// Reads a dead letter.
    pub fn dead_letter(&self, number: u64) -> Result<Option<DeadLetter>, Error> {
        let row = self.table(tables::DEAD_LETTERS)?.get(number)?;
        row.map(|row| decode("dead_letters", row.value())).transpose()
    }

    /// A page of dead letters, newest first, before one of them.
    pub fn dead_letters(&self, before: Option<u64>, budget: PageBudget) -> Result<Page<(u64, DeadLetter)>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?.range(..before.unwrap_or(u64::MAX))?.rev();
        read_page(rows, budget, |number, row| Ok((number, decode("dead_letters", row)?)))
    }

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

    /// Numbers of all dead letters, oldest first, each with the size of its row in bytes.
    pub(in crate::store) fn dead_letter_sizes(&self) -> Result<Vec<(u64, u64)>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?;
        rows.iter()?
            .map(|row| {
                let (number, row) = row?;
                Ok((number.value(), row_bytes(row.value())))
            })
            .collect()
    }

    /// The last number assigned to a dead letter; zero in a store of an earlier version, which did
    /// not store it.
    pub(in crate::store) fn last_dead_letter(&self) -> Result<u64, Error> {
        let row = self.table(tables::META)?.get(tables::LAST_DEAD_LETTER_KEY)?;
        let Some(row) = row else { return Ok(0) };
        let number = row.value().try_into().map(u64::from_le_bytes);
        let corrupt = |_| Error::Corrupt { table: "meta", detail: "`last_dead_letter` is no number".to_owned() };
        number.map_err(corrupt)
    }

    /// Entries of the audit trail of dead letters with their numbers, newest first, before one of
    /// them.
    pub fn dead_letter_removals_before(
        &self,
        before: Option<u64>,
    ) -> Result<impl Iterator<Item = Result<(u64, DeadLetterRemoval), Error>> + use<>, Error> {
        let table = self.table_if_made(tables::DEAD_LETTER_REMOVALS)?;
        let rows = table.map(|table| table.range(..before.unwrap_or(u64::MAX))).transpose()?;
        Ok(rows.into_iter().flat_map(Iterator::rev).map(|row| {
            let (number, row) = row?;
            Ok((number.value(), decode("dead_letter_removals", row.value())?))
        }))
    }

    /// Numbers of these entries, oldest first, each with its time.
    pub(in crate::store) fn dead_letter_removal_times(&self) -> Result<Vec<(u64, Moment)>, Error> {
        let mut times = Vec::new();
        for entry in self.dead_letter_removals_before(None)? {
            let (number, removal) = entry?;
            times.push((number, removal.observed));
        }
        times.reverse();
        Ok(times)
    }
}
