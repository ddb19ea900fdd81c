//! Places of the readers of the log, as the writer stores them: entries that a reader
//! has not read stay in the log, also over restarts. See
//! [`LogReader`](super::LogReader) for the reader's side.

use std::collections::BTreeMap;

use super::api::Behind;
use super::machine::Machine;
use crate::store::{self, Place};
use crate::task::{Now, Seq};

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Gives every configured reader a place, and takes it from the others.
    pub(super) fn register_readers(&mut self, now: Now) -> Stored<()> {
        let configured = self.settings.log_readers.clone();
        let gone: Vec<String> = self.readers.keys().filter(|name| !configured.contains(name)).cloned().collect();
        for name in gone {
            tracing::info!(reader = name, "a reader of the log is no longer configured; it gives up its place");
            self.readers.remove(&name);
            self.group.batch.put_log_reader(&name, None)?;
        }
        for name in configured {
            if !self.readers.contains_key(&name) {
                let place = Place::joining(self.head, now.wall);
                self.group.batch.put_log_reader(&name, Some(&place))?;
                self.readers.insert(name, place);
            }
        }
        Ok(())
    }

    /// Takes the places of the readers along.
    pub(super) fn keep_places(&mut self, moved: BTreeMap<String, Place>) -> Stored<()> {
        for (name, place) in moved {
            if let Some(kept) = self.readers.get_mut(&name).filter(|kept| **kept != place) {
                *kept = place;
                self.group.batch.put_log_reader(&name, Some(&place))?;
            }
        }
        Ok(())
    }

    /// The first position that some reader has not taken yet.
    pub(super) fn first_untaken(&self) -> Option<Seq> {
        self.readers.values().map(|place| place.read_to.next()).min()
    }

    /// What each reader has not taken yet.
    pub(super) fn behind(&self) -> Stored<Vec<Behind>> {
        let behind = self.readers.iter().map(|(name, place)| {
            let changes = self.head.0.saturating_sub(place.read_to.0);
            let oldest = self
                .store
                .view_of_tables()?
                .log(place.read_to, 1)?
                .next()
                .transpose()?
                .map(|(_, entry)| entry.moment());
            Ok(Behind { reader: name.clone(), changes, oldest })
        });
        behind.collect()
    }
}
