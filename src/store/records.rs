//! By what records are found beside their id, and the events of other audit
//! trails: what a batch keeps of them, and how a view reads them.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::codec::{decode, encode};
use super::lineage::{CascadeRow, ChangeRow};
use super::page::{Page, PageBudget, read_page};
use super::rows::{ImportedEvent, Record};
use super::tables::{self, id_after_number, then_id};
use super::{Error, View};
use crate::planted::{self, Fault};
use crate::task::{RecordId, Seq, TaskId, Timestamp};

/// The rows of a batch by which records are found, and imported events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RecordRows {
    unlisted: Vec<Listed>,
    listed: Vec<Listed>,
    events: Vec<(u64, String, Bytes)>,
}

/// By what a record is found.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    id: RecordId,
    task: TaskId,
    created_at: Timestamp,
    artifacts: Vec<String>,
}

impl Listed {
    fn of(record: &Record) -> Self {
        let artifacts = record.outputs.iter().map(|output| output.artifact.id.as_str().to_owned());
        Self { id: record.id, task: record.task, created_at: record.created_at, artifacts: artifacts.collect() }
    }
}

impl RecordRows {
    pub(super) fn is_empty(&self) -> bool {
        let Self { unlisted, listed, events } = self;
        unlisted.is_empty() && listed.is_empty() && events.is_empty()
    }

    pub(super) fn put(&mut self, record: &Record) {
        self.listed.push(Listed::of(record));
    }

    pub(super) fn unlist(&mut self, before: &Record) {
        self.unlisted.push(Listed::of(before));
    }

    pub(super) fn put_event(&mut self, number: u64, event: &ImportedEvent) -> Result<(), Error> {
        self.events.push((number, event.id.clone(), encode("imported_events", event)?.into()));
        Ok(())
    }

    /// The numbers of the imported events.
    pub(super) fn event_numbers(&self) -> impl Iterator<Item = u64> {
        self.events.iter().map(|(number, ..)| *number)
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.events.is_empty() {
            let mut events = transaction.open_table(tables::IMPORTED_EVENTS)?;
            let mut ids = transaction.open_table(tables::IMPORTED_EVENT_IDS)?;
            for (number, id, bytes) in &self.events {
                events.insert(*number, &bytes[..])?;
                ids.insert(id.as_str(), *number)?;
            }
        }
        if self.unlisted.is_empty() && self.listed.is_empty() {
            return Ok(());
        }
        let mut by_artifact = transaction.open_table(tables::RECORDS_BY_ARTIFACT)?;
        let mut by_time = transaction.open_table(tables::RECORDS_BY_TIME)?;
        let mut by_task = transaction.open_table(tables::RECORDS_BY_TASK)?;
        for Listed { id, task, created_at, artifacts } in &self.unlisted {
            let id = id.to_bytes();
            for artifact in artifacts {
                by_artifact.remove((artifact.as_str(), &id))?;
            }
            by_time.remove(&time_key(*created_at, id))?;
            by_task.remove((&task.to_bytes(), &id))?;
        }
        for Listed { id, task, created_at, artifacts } in &self.listed {
            let id = id.to_bytes();
            for artifact in artifacts {
                by_artifact.insert((artifact.as_str(), &id), ())?;
            }
            by_time.insert(&time_key(*created_at, id), ())?;
            by_task.insert((&task.to_bytes(), &id), ())?;
        }
        Ok(())
    }
}

impl Batch {
    /// Keeps a provenance record, and finds it by its artifacts, its task and
    /// its time.
    pub fn put_record(&mut self, record: &Record) -> Result<(), Error> {
        self.records.push((record.id, self.rows.encode("records", record)?));
        self.record_rows.put(record);
        Ok(())
    }

    /// Forgets by what a record was found until now. Needed before a record
    /// is put again with another task or time, or without one of its artifacts.
    pub fn unlist_record(&mut self, before: &Record) {
        self.record_rows.unlist(before);
    }

    /// Keeps an event of another audit trail.
    pub fn put_imported_event(&mut self, number: u64, event: &ImportedEvent) -> Result<(), Error> {
        self.record_rows.put_event(number, event)
    }
}

/// Times are from 1970 on.
fn time_key(at: Timestamp, id: [u8; 16]) -> [u8; 24] {
    then_id(u64::try_from(at.as_micros()).unwrap_or(0), id)
}

/// The end of a page that goes on at a key: that key, unless a fault is planted.
fn planted_end(mut key: [u8; 24]) -> [u8; 24] {
    if planted::is(Fault::EqualTimesSkipped) {
        key[8..].fill(0);
    }
    key
}

/// A record's place in the list of all records by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace([u8; 24]);

impl RecordPlace {
    /// The place of a record.
    #[must_use]
    pub fn new(created_at: Timestamp, id: RecordId) -> Self {
        Self(time_key(created_at, id.to_bytes()))
    }

    /// As bytes, for a cursor.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 24] {
        self.0
    }

    /// The reverse of [`Self::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 24]) -> Self {
        Self(bytes)
    }

    /// The record.
    #[must_use]
    pub fn id(self) -> RecordId {
        RecordId::from_bytes(id_after_number(&self.0))
    }
}

const NO_ID: [u8; 16] = [0; 16];
const LAST_ID: [u8; 16] = [0xff; 16];

impl View {
    /// Places of records made at `from` or later and before `until`, before
    /// one of them, the newest first.
    pub fn records_by_time(
        &self,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
        before: Option<RecordPlace>,
    ) -> Result<impl Iterator<Item = Result<RecordPlace, Error>> + use<>, Error> {
        let first = from.map_or([0; 24], |from| time_key(from, NO_ID));
        let until = until.map(|until| time_key(until, NO_ID));
        let end = before.map(|before| before.0).map(planted_end).into_iter().chain(until).min();
        // An empty range, where the bounds would cross.
        let end = end.map(|end| end.max(first));
        let bounds = (Bound::Included(&first), end.as_ref().map_or(Bound::Unbounded, Bound::Excluded));
        let rows = self.table(tables::RECORDS_BY_TIME)?.range::<&[u8; 24]>(bounds)?;
        Ok(rows.rev().map(|row| Ok(RecordPlace(*row?.0.value()))))
    }

    /// The records of a task, the largest id first.
    pub fn records_of_task(
        &self,
        task: TaskId,
    ) -> Result<impl Iterator<Item = Result<RecordId, Error>> + use<>, Error> {
        let task = task.to_bytes();
        let rows = self.table(tables::RECORDS_BY_TASK)?.range((&task, &NO_ID)..=(&task, &LAST_ID))?;
        Ok(rows.rev().map(|row| Ok(RecordId::from_bytes(*row?.0.value().1))))
    }

    /// A page of records after one of them, by id.
    pub fn records_after(&self, after: Option<RecordId>, budget: PageBudget) -> Result<Page<Record>, Error> {
        let after = after.map(RecordId::to_bytes);
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.table(tables::RECORDS)?.range::<&[u8; 16]>((start, Bound::Unbounded))?;
        read_page(rows, budget, |_, row| decode("records", row))
    }

    /// Taints, marks and clears after one of them, in their order, with what
    /// each has changed, at most `limit`.
    pub fn cascades_after(&self, after: Seq, limit: usize) -> Result<Vec<(Seq, CascadeRow, Vec<ChangeRow>)>, Error> {
        let heads = self.cascade_heads_after(after)?.take(limit);
        heads
            .map(|head| {
                let (step, row) = head?;
                Ok((step, row, self.cascade_changes(step)?))
            })
            .collect()
    }

    /// An imported event by its id.
    pub fn imported_event(&self, id: &str) -> Result<Option<ImportedEvent>, Error> {
        let Some(number) = self.table(tables::IMPORTED_EVENT_IDS)?.get(id)?.map(|row| row.value()) else {
            return Ok(None);
        };
        self.imported_event_at(number)
    }

    /// An imported event by its number.
    pub fn imported_event_at(&self, number: u64) -> Result<Option<ImportedEvent>, Error> {
        let row = self.table(tables::IMPORTED_EVENTS)?.get(number)?;
        row.map(|row| decode("imported_events", row.value())).transpose()
    }

    /// The number of the newest imported event; zero: there is none.
    pub fn last_imported_event(&self) -> Result<u64, Error> {
        Ok(self.table(tables::IMPORTED_EVENTS)?.last()?.map_or(0, |(key, _)| key.value()))
    }

    /// A page of imported events after one of them, in the order in which they
    /// came.
    pub fn imported_events_after(&self, after: u64, budget: PageBudget) -> Result<Page<(u64, ImportedEvent)>, Error> {
        let rows = self.table(tables::IMPORTED_EVENTS)?.range(after.saturating_add(1)..)?;
        read_page(rows, budget, |number, row| Ok((number, decode("imported_events", row)?)))
    }

    /// The numbers of imported events after one of them, in their order, at most
    /// `limit`.
    pub fn imported_event_numbers_after(&self, after: u64, limit: usize) -> Result<Vec<u64>, Error> {
        let rows = self.table(tables::IMPORTED_EVENTS)?.range(after.saturating_add(1)..)?;
        rows.take(limit).map(|row| Ok(row?.0.value())).collect()
    }

    /// Imported events from one of them back, the newest first.
    pub fn imported_events_from(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, ImportedEvent), Error>> + use<>, Error> {
        let rows = self.table(tables::IMPORTED_EVENTS)?.range(..=from)?;
        Ok(rows.rev().map(|row| {
            let (key, value) = row?;
            Ok((key.value(), decode("imported_events", value.value())?))
        }))
    }

    /// How many rows the lists of records have, by time and by task, and how
    /// many imported events there are, by number and by id.
    pub fn list_sizes(&self) -> Result<[u64; 4], Error> {
        Ok([
            self.table(tables::RECORDS_BY_TIME)?.len()?,
            self.table(tables::RECORDS_BY_TASK)?.len()?,
            self.table(tables::IMPORTED_EVENTS)?.len()?,
            self.table(tables::IMPORTED_EVENT_IDS)?.len()?,
        ])
    }
}
