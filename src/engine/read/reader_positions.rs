//! Positions of the readers of the log, as the readers move them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::store::ReaderPosition;

/// Positions of the readers by name, ahead of the stored ones.
#[derive(Debug, Default)]
pub(in crate::engine) struct ReaderPositions(Mutex<BTreeMap<String, ReaderPosition>>);

impl ReaderPositions {
    pub(in crate::engine) fn new(positions: BTreeMap<String, ReaderPosition>) -> Self {
        Self(Mutex::new(positions))
    }

    pub(in crate::engine) fn all(&self) -> BTreeMap<String, ReaderPosition> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::engine) fn get(&self, name: &str) -> Option<ReaderPosition> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Changes the position of a reader, if it is configured.
    pub(in crate::engine) fn change(&self, name: &str, change: impl FnOnce(&mut ReaderPosition)) {
        if let Some(position) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            change(position);
        }
    }
}
