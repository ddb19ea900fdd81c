//! Indexes by which records are found besides their id, and events of other audit trails.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::encode;
use super::rows::{ImportedEvent, Record};
use super::tables::{self, id_after_number, then_id};
use crate::task::{RecordId, TaskId, Timestamp};

/// Index entries and imported events of a batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RecordRows {
    unlisted: Vec<Listed>,
    listed: Vec<Listed>,
    events: Vec<(u64, String, Bytes)>,
}

/// The keys by which a record is found.
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

    /// Numbers of the imported events.
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

/// Key of a record in the list by time, which starts in 1970.
pub(super) fn time_key(at: Timestamp, id: [u8; 16]) -> [u8; 24] {
    then_id(u64::try_from(at.as_micros()).unwrap_or(0), id)
}

/// Place of a record in the list of all records by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace([u8; 24]);

impl RecordPlace {
    /// The place of a record.
    #[must_use]
    pub fn new(created_at: Timestamp, id: RecordId) -> Self {
        Self(time_key(created_at, id.to_bytes()))
    }

    /// The place as bytes, for a cursor.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 24] {
        self.0
    }

    /// Reverses [`Self::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 24]) -> Self {
        Self(bytes)
    }

    /// Id of the record.
    #[must_use]
    pub fn id(self) -> RecordId {
        RecordId::from_bytes(id_after_number(&self.0))
    }
}
