//! The events that a stream of the log has delivered.

use crate::client::with_query;

/// The events that one stream of the log delivered, for the comparison with the pages of the
/// log at the end of the day.
#[derive(Debug, Clone)]
pub(super) struct FollowedLog {
    /// Parameters of the filter.
    query: Vec<(&'static str, Option<String>)>,
    /// Position after which the stream began.
    after: u64,
    /// Positions that were delivered, in order.
    delivered: Vec<u64>,
}

impl FollowedLog {
    pub(super) const fn new(query: Vec<(&'static str, Option<String>)>, after: u64) -> Self {
        Self { query, after, delivered: Vec::new() }
    }

    /// Returns the path of the stream.
    pub(super) fn path(&self) -> String {
        self.path_after(self.after, None)
    }

    /// Returns the path of the log after a position, with the same filter.
    pub(super) fn path_after(&self, after: u64, limit: Option<u64>) -> String {
        let mut query = self.query.clone();
        query.push(("after", Some(after.to_string())));
        query.push(("limit", limit.map(|limit| limit.to_string())));
        with_query("/events", &query)
    }

    /// Returns the position after which the stream began.
    pub(super) const fn after(&self) -> u64 {
        self.after
    }

    /// Returns the last position delivered, or the one after which the stream began.
    pub(super) fn last(&self) -> u64 {
        self.delivered.last().copied().unwrap_or(self.after)
    }

    /// Returns the positions delivered, in order.
    pub(super) fn delivered(&self) -> &[u64] {
        &self.delivered
    }

    /// Adds a position; `false` if it is not after the last one.
    pub(super) fn add(&mut self, position: u64) -> bool {
        let is_next = position > self.last();
        if is_next {
            self.delivered.push(position);
        }
        is_next
    }
}
