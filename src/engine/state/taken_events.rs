//! The events that were taken within the window in which duplicates are recognized.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::engine::shared::{ChunkedQueue, ShardedMap};
use crate::planted::{self, Fault};
use crate::store::TakenEvents as Row;
use crate::task::{EventHash, Moment, Seq};

/// Returns what an event is recognized by: the first half of a SHA-256 over its source and
/// id. An accidental match is out of the question, and an intended one costs more than it
/// could win.
pub(super) fn event_hash(source: &str, id: &str) -> EventHash {
    let digest = Sha256::new().chain_update(source).chain_update([0]).chain_update(id).finalize();
    EventHash(digest.first_chunk().copied().unwrap_or_default())
}

/// The events that were taken within the window. An event that became a dead letter is
/// forgotten, so that its producer may send it again.
#[derive(Debug, Default)]
pub(super) struct TakenEvents {
    hashes: ShardedMap<[u8; 16], ()>,
    commits: ChunkedQueue<Commit>,
    /// The commits that forgot events, as long as their rows are kept.
    forgotten_at: BTreeMap<[u8; 16], Seq>,
    /// Events that the next commit takes.
    new: Vec<EventHash>,
    /// Events of earlier commits that the next commit forgets.
    gone: Vec<EventHash>,
}

/// A commit that took or forgot events.
#[derive(Debug, Clone, Copy)]
struct Commit {
    /// The newest position of the log at the commit: the key of its row.
    seq: Seq,
    at: Moment,
    /// How many events it took.
    count: usize,
}

/// Rows that have left the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outdated {
    /// They stand before this position.
    pub(super) until: Seq,
    pub(super) rows: usize,
    /// Whether more rows have left the window than one round removes.
    pub(super) has_more: bool,
}

impl TakenEvents {
    pub(super) fn recovered(rows: Vec<Row>) -> Self {
        let mut taken = Self::default();
        for row in rows {
            for EventHash(hash) in row.forgotten {
                taken.hashes.remove(&hash);
                taken.forgotten_at.insert(hash, row.seq);
            }
            taken.commits.push_back(Commit { seq: row.seq, at: row.at, count: row.hashes.len() });
            for EventHash(hash) in row.hashes {
                taken.hashes.insert(hash, ());
            }
        }
        taken
    }

    pub(super) fn contains(&self, hash: EventHash) -> bool {
        self.hashes.contains(&hash.0) && !planted::is(Fault::DuplicatesTaken)
    }

    pub(super) fn insert(&mut self, hash: EventHash) {
        if self.hashes.insert(hash.0, ()).is_none() {
            self.new.push(hash);
        }
    }

    /// Takes back what was inserted since the last commit.
    pub(super) fn withdraw(&mut self, hash: EventHash) {
        if let Some(place) = self.new.iter().rposition(|new| *new == hash) {
            self.new.remove(place);
            self.hashes.remove(&hash.0);
        }
    }

    /// Forgets an event, so that it may be sent again.
    pub(super) fn forget(&mut self, hash: EventHash) {
        let is_new = self.new.contains(&hash);
        self.withdraw(hash);
        if !is_new && self.hashes.remove(&hash.0).is_some() {
            self.gone.push(hash);
        }
    }

    /// Ends the group: returns the row of the commit, if it takes or forgets an event.
    /// `seq` is the newest position of the log.
    pub(super) fn finish(&mut self, seq: Seq, at: Moment) -> Option<Row> {
        if self.new.is_empty() && self.gone.is_empty() {
            return None;
        }
        let (hashes, forgotten) = (std::mem::take(&mut self.new), std::mem::take(&mut self.gone));
        self.commits.push_back(Commit { seq, at, count: hashes.len() });
        self.forgotten_at.extend(forgotten.iter().map(|hash| (hash.0, seq)));
        Some(Row { seq, at, hashes, forgotten })
    }

    /// The position of the first commit that is remembered.
    pub(super) fn first(&self) -> Option<Seq> {
        self.commits.front().map(|commit| commit.seq)
    }

    /// Drops the first commits that are older than `before` or beyond `max` events, at most
    /// about `limit` commits and events. The events themselves go with [`Self::remove_row`].
    pub(super) fn drop_outdated(&mut self, before: Moment, max: usize, limit: usize) -> Option<Outdated> {
        let mut excess = self.hashes.len().saturating_sub(max);
        let (mut outdated, mut events): (Option<Outdated>, usize) = (None, 0);
        while let Some(Commit { seq, at, count }) = self.commits.front().copied() {
            if at >= before && excess == 0 {
                break;
            }
            let rows = outdated.map_or(0, |outdated| outdated.rows);
            if rows >= limit || events >= limit {
                return outdated.map(|outdated| Outdated { has_more: true, ..outdated });
            }
            excess = excess.saturating_sub(count);
            events += count;
            outdated = Some(Outdated { until: seq.next(), rows: rows + 1, has_more: false });
            self.commits.pop_front();
        }
        outdated
    }

    /// Forgets the events of a row that is removed. An event that was forgotten after that
    /// row may have been taken again, and is then known from a later row.
    pub(super) fn remove_row(&mut self, row: &Row) {
        for EventHash(hash) in &row.hashes {
            if self.forgotten_at.get(hash).is_none_or(|at| *at < row.seq) {
                self.hashes.remove(hash);
            }
        }
        for EventHash(hash) in &row.forgotten {
            if self.forgotten_at.get(hash) == Some(&row.seq) {
                self.forgotten_at.remove(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> EventHash {
        EventHash([n; 16])
    }

    fn second(n: i64) -> Moment {
        Moment::from_micros(n * 1_000_000)
    }

    const fn outdated(until: u64, rows: usize, has_more: bool) -> Outdated {
        Outdated { until: Seq(until), rows, has_more }
    }

    #[test]
    fn taken_events_leave_by_age_and_number() {
        let mut taken = TakenEvents::default();
        let mut rows = Vec::new();
        for n in 1..=4 {
            taken.insert(hash(n));
            rows.extend(taken.finish(Seq(u64::from(n) * 10), second(i64::from(n))));
        }
        assert_eq!(taken.drop_outdated(second(0), 10, 100), None);
        assert_eq!(taken.drop_outdated(second(2), 10, 100), Some(outdated(11, 1, false)));
        taken.remove_row(&rows[0]);
        assert_eq!(taken.drop_outdated(second(0), 2, 100), Some(outdated(21, 1, false)));
        assert!(!taken.contains(hash(1)) && taken.contains(hash(3)));
    }

    #[test]
    fn one_round_forgets_a_limited_number() {
        let mut taken = TakenEvents::default();
        let mut rows = Vec::new();
        for n in 1..=10 {
            taken.insert(hash(2 * n));
            taken.insert(hash(2 * n + 1));
            rows.extend(taken.finish(Seq(u64::from(n)), second(i64::from(n))));
        }
        // By the number of events, and by that of commits.
        assert_eq!(taken.drop_outdated(second(20), 100, 4), Some(outdated(3, 2, true)));
        rows.drain(..2).for_each(|row| taken.remove_row(&row));
        assert!(!taken.contains(hash(5)) && taken.contains(hash(6)));
        assert_eq!(taken.drop_outdated(second(0), 11, 1), Some(outdated(4, 1, true)));
        rows.drain(..1).for_each(|row| taken.remove_row(&row));
        assert_eq!(taken.drop_outdated(second(0), 11, 100), Some(outdated(6, 2, false)));
    }

    #[test]
    fn a_forgotten_event_is_new_again() {
        let mut taken = TakenEvents::default();
        let mut rows = Vec::new();
        taken.insert(hash(1));
        taken.insert(hash(2));
        rows.extend(taken.finish(Seq(1), second(1)));
        taken.forget(hash(1));
        assert!(!taken.contains(hash(1)));
        rows.extend(taken.finish(Seq(2), second(2)));
        assert!(!TakenEvents::recovered(rows.clone()).contains(hash(1)));
        // Taken again, forgotten and taken again in one commit.
        taken.insert(hash(1));
        taken.forget(hash(1));
        assert!(!taken.contains(hash(1)));
        taken.insert(hash(1));
        rows.extend(taken.finish(Seq(3), second(3)));
        assert!(TakenEvents::recovered(rows.clone()).contains(hash(1)));
        // The first row goes, with the events that no other row names.
        assert_eq!(taken.drop_outdated(second(2), 10, 100), Some(outdated(2, 1, false)));
        taken.remove_row(&rows[0]);
        assert!(taken.contains(hash(1)) && !taken.contains(hash(2)));
        taken.remove_row(&rows[1]);
        taken.remove_row(&rows[2]);
        assert!(!taken.contains(hash(1)) && taken.forgotten_at.is_empty());
    }

    #[test]
    fn a_refused_event_is_not_known() {
        let mut taken = TakenEvents::default();
        taken.insert(hash(1));
        taken.withdraw(hash(1));
        assert!(!taken.contains(hash(1)) && taken.finish(Seq(1), second(1)).is_none());
    }
}
