//! The ages that backward edges cross, for the search of cycles.

use std::collections::BTreeMap;

use crate::task::{RecordId, Timestamp};

pub(super) type Age = (Timestamp, RecordId);

/// Joined spans of ages, and the number of backward edges.
#[derive(Debug, Clone, Default)]
pub(super) struct Cover {
    spans: BTreeMap<Age, Age>,
    edges: u64,
}

impl Cover {
    /// Counts a new backward edge.
    pub(super) fn add_edge(&mut self) {
        self.edges += 1;
    }

    /// Counts a removed backward edge.
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

    /// Adds a span, joined with all spans that it overlaps.
    pub(super) fn cross(&mut self, mut from: Age, mut to: Age) {
        while let Some((&start, &end)) = self.spans.range(..=to).next_back().filter(|(_, end)| **end >= from) {
            self.spans.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        self.spans.insert(from, to);
    }

    /// The joined span that contains both ages.
    pub(super) fn around(&self, one: Age, other: Age) -> Option<(Age, Age)> {
        let span = self.spans.range(..=one.min(other)).next_back();
        span.map(|(from, to)| (*from, *to)).filter(|(_, to)| one.max(other) <= *to)
    }
}
