//! The ages that backward edges cross, for the search of cycles.

use std::collections::BTreeMap;

use crate::task::{RecordId, Timestamp};

pub(super) type Age = (Timestamp, RecordId);

/// The ages that backward edges cross.
#[derive(Debug, Clone, Default)]
pub(super) struct Cover {
    spans: BTreeMap<Age, Age>,
    edges: u64,
}

impl Cover {
    /// A backward edge was made.
    pub(super) fn add_edge(&mut self) {
        self.edges += 1;
    }

    /// A backward edge has gone.
    pub(super) fn remove_edge(&mut self) {
        self.edges = self.edges.saturating_sub(1);
        if self.edges == 0 {
            self.spans.clear();
        }
    }

    /// Whether there is no backward edge.
    pub(super) fn is_empty(&self) -> bool {
        self.edges == 0
    }

    /// Joins a span with all that it meets.
    pub(super) fn cross(&mut self, mut from: Age, mut to: Age) {
        while let Some((&start, &end)) = self.spans.range(..=to).next_back().filter(|(_, end)| **end >= from) {
            self.spans.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        self.spans.insert(from, to);
    }

    /// The joined span around both ages.
    pub(super) fn around(&self, one: Age, other: Age) -> Option<(Age, Age)> {
        let span = self.spans.range(..=one.min(other)).next_back();
        span.map(|(from, to)| (*from, *to)).filter(|(_, to)| one.max(other) <= *to)
    }
}
