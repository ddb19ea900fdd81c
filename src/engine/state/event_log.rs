//! The event log: its positions, and the places of its readers.

use std::collections::BTreeMap;

use super::failure::Stored;
use super::storage::Storage;
use crate::engine::api::ReaderLag;
use crate::store::{Batch, LogEntry, ReaderPosition};
use crate::task::{Now, Seq};

/// The positions of the log, and the places of its readers as they are on disk.
#[derive(Debug)]
pub(super) struct EventLog {
    head: Seq,
    tail: Seq,
    readers: BTreeMap<String, ReaderPosition>,
}

impl EventLog {
    pub(super) fn recovered(head: Seq, tail: Seq, readers: BTreeMap<String, ReaderPosition>) -> Self {
        Self { head, tail, readers }
    }

    /// The newest position, of the group under way included.
    pub(super) const fn head(&self) -> Seq {
        self.head
    }

    /// The oldest position that the log still has.
    pub(super) const fn tail(&self) -> Seq {
        self.tail
    }

    /// Appends an entry behind the newest position.
    pub(super) fn append(&mut self, batch: &mut Batch, entry: LogEntry) -> Stored<()> {
        self.head = self.head.next();
        batch.append(self.head, entry)
    }

    /// Trims the log up to a position, as far as no reader still needs it. The newest entry
    /// stays, however old it is: it tells the next start where the sequence continues.
    ///
    /// Returns the new tail, if it has moved, and how many positions were trimmed.
    pub(super) fn trim(&mut self, until: Seq) -> Option<Trimmed> {
        let needed = self.readers.values().map(|place| place.read_to.next()).min();
        let most = needed.map_or(self.head, |first| first.min(self.head));
        let tail = until.min(most);
        if tail <= self.tail {
            return None;
        }
        let count = tail.0.saturating_sub(self.tail.0);
        self.tail = tail;
        Some(Trimmed { tail, count })
    }

    /// The places of the readers as they are on disk.
    pub(super) const fn places(&self) -> &BTreeMap<String, ReaderPosition> {
        &self.readers
    }

    /// Gives every configured reader a place, and removes the places of the others.
    pub(super) fn register_readers(&mut self, batch: &mut Batch, configured: &[String], now: Now) -> Stored<()> {
        let gone: Vec<String> = self.readers.keys().filter(|name| !configured.contains(name)).cloned().collect();
        for name in gone {
            tracing::info!(reader = name, "removed the place of a log reader that is no longer configured");
            self.readers.remove(&name);
            batch.put_log_reader(&name, None)?;
        }
        for name in configured {
            if !self.readers.contains_key(name) {
                let place = ReaderPosition::joining(self.head, now.wall);
                batch.put_log_reader(name, Some(&place))?;
                self.readers.insert(name.clone(), place);
            }
        }
        Ok(())
    }

    /// Stores the places of readers that have moved.
    pub(super) fn keep_places(&mut self, batch: &mut Batch, moved: BTreeMap<String, ReaderPosition>) -> Stored<()> {
        for (name, place) in moved {
            if let Some(kept) = self.readers.get_mut(&name).filter(|kept| **kept != place) {
                *kept = place;
                batch.put_log_reader(&name, Some(&place))?;
            }
        }
        Ok(())
    }

    /// Returns how far each reader lags the log.
    pub(super) fn lags(&self, storage: &Storage) -> Stored<Vec<ReaderLag>> {
        let lags = self.readers.iter().map(|(name, place)| {
            let changes = self.head.0.saturating_sub(place.read_to.0);
            let oldest = storage.view_of_tables()?.log(place.read_to, 1)?.next().transpose()?;
            Ok(ReaderLag { reader: name.clone(), changes, oldest: oldest.map(|(_, entry)| entry.moment()) })
        });
        lags.collect()
    }
}

/// A part of the log that was trimmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trimmed {
    /// The oldest position that is left.
    pub(super) tail: Seq,
    /// How many positions were trimmed.
    pub(super) count: u64,
}
