//! Readers of the log that keep a place in it: what they have not taken yet
//! stays in the log, also over restarts.
//!
//! A reader is configured by its name in [`Settings::log_readers`]; the start
//! gives it a place, and takes it from one that is no longer configured. Its
//! life is always the same:
//!
//! 1. It asks for its handle, [`Engine::log_reader`], and looks at its
//!    [`Place`]. If it has not `begun`, it takes from the tables what was there
//!    before it joined, at its own pace, and calls [`LogReader::begin`]. The
//!    log from `joined` on waits for it meanwhile.
//! 2. It reads pages from `read_to` on ([`LogReader::page`] for every change,
//!    [`Engine::log`] for events alone), carries them where they belong, and
//!    says with [`LogReader::move_to`] up to where it has.
//! 3. At the end of the log it waits for [`Engine::head`] to move.
//!
//! Moving a place costs nothing: it is kept in memory, and the writer takes
//! all of them along once a second, and at a stop, in the commit of whatever
//! else there is. After a crash a reader may therefore find itself up to a
//! second back, and takes that again: what it does must bear that.
//!
//! A reader that is away for long keeps the log from being trimmed. That can
//! be seen in [`Figures::readers`](super::Figures) and the metrics, and ends where
//! the disk does: submissions are refused while little of it is free.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::api::Error;
use super::handle::Engine;
use super::machine::Machine;
use super::outgoing;
use crate::store::{self, LogEntry, Place};
use crate::task::{Moment, Now, Seq};

type Stored<T> = Result<T, store::Error>;

/// What a reader of the log has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The reader.
    pub reader: String,
    /// How many changes of the log.
    pub changes: u64,
    /// When the oldest of them happened.
    pub oldest: Option<Moment>,
}

/// A page of the log, every change in it.
#[derive(Debug, Clone)]
pub struct ChangePage {
    /// The changes, in order.
    pub entries: Vec<(Seq, LogEntry)>,
    /// The position up to which the log was read: where to go on.
    pub read_to: Seq,
    /// Set when the log was trimmed beyond the asked position: the first
    /// position that is still there. It never is beyond a reader's own place.
    pub reset: Option<Seq>,
}

/// The places as their readers move them, ahead of those on disk.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<String, Place>>);

impl Places {
    pub(super) fn new(places: BTreeMap<String, Place>) -> Self {
        Self(Mutex::new(places))
    }

    pub(super) fn all(&self) -> BTreeMap<String, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn get(&self, name: &str) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            change(place);
        }
    }
}

/// The handle of a reader: see the module for its use.
#[derive(Debug, Clone)]
pub struct LogReader {
    engine: Engine,
    name: String,
    /// Its place when the handle was made.
    found: Place,
}

impl Engine {
    /// The handle of a configured reader; `None`: it is not configured.
    #[must_use]
    pub fn log_reader(&self, name: &str) -> Option<LogReader> {
        let found = self.read.places.get(name)?;
        Some(LogReader { engine: self.clone(), name: name.to_owned(), found })
    }
}

impl LogReader {
    /// Its place.
    #[must_use]
    pub fn place(&self) -> Place {
        self.engine.read.places.get(&self.name).unwrap_or(self.found)
    }

    /// The changes after a position, in order: at most `limit`, and none
    /// beyond about a mebibyte of events.
    pub async fn page(&self, after: Seq, limit: usize) -> Result<ChangePage, Error> {
        self.engine.read(move |side| outgoing::change_page(side, after, limit)).await
    }

    /// It has taken what was there before it joined.
    pub fn begin(&self) {
        self.engine.read.places.change(&self.name, |place| place.begun = true);
    }

    /// It has taken everything up to here. A place never goes back, and never
    /// beyond what there is.
    pub fn move_to(&self, position: Seq) {
        let position = position.min(*self.engine.head().borrow());
        self.engine.read.places.change(&self.name, |place| place.read_to = place.read_to.max(position));
    }
}

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
