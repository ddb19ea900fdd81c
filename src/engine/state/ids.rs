//! The ids that are made here.

use std::cell::Cell;

use uuid::{ContextV7, Uuid};

use crate::task::Now;

/// Makes UUIDs of version 7, each larger than all before it, also after the wall clock was
/// set back and over restarts.
#[derive(Debug)]
pub(super) struct IdSource {
    context: ContextV7,
    /// The newest time of an id, in milliseconds since 1970.
    until_ms: Cell<u64>,
}

impl IdSource {
    /// Continues after ids whose newest time was `until_ms`. Ids of that millisecond made
    /// now would not be larger than those made before the start, so it begins one later.
    pub(super) fn after(until_ms: u64) -> Self {
        Self { context: ContextV7::new(), until_ms: Cell::new(until_ms + 1) }
    }

    /// Returns a new id, larger than all before it.
    pub(super) fn next(&self, now: Now) -> Uuid {
        let millis = now.wall.as_millis().max(self.until_ms.get());
        self.until_ms.set(millis);
        let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.context, millis / 1000, nanos))
    }

    /// The newest time of an id, in milliseconds since 1970, for the next start.
    pub(super) const fn until_ms(&self) -> u64 {
        self.until_ms.get()
    }
}
