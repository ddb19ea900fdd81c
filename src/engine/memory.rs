//! What the writer remembers beside tasks: taken events, idempotency keys,
//! projects with their counters.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::api::{IdempotencyKey, Version};
use super::shared::{ChunkedQueue, ShardedMap};
use crate::planted::{self, Fault};
use crate::store::{Counters, Project, TakenEvents};
use crate::task::{EventHash, Moment, Seq, Status};

/// What an event is known by: the first half of a SHA-256 over its source
/// and id. An accidental match is out of the question, a wanted one costs
/// more than it could win.
pub(super) fn event_hash(source: &str, id: &str) -> EventHash {
    let digest = Sha256::new().chain_update(source).chain_update([0]).chain_update(id).finalize();
    EventHash(digest.first_chunk().copied().unwrap_or_default())
}

/// Events that were taken within the window. One that became a dead letter
/// is forgotten: it may be sent again.
#[derive(Debug, Default)]
pub(super) struct Taken {
    hashes: ShardedMap<[u8; 16], ()>,
    commits: ChunkedQueue<(Seq, Moment, usize)>,
    /// The commits that forgot events, as long as their rows are kept.
    forgotten_at: BTreeMap<[u8; 16], Seq>,
    /// What the next commit takes, and what it forgets of earlier ones.
    new: Vec<EventHash>,
    gone: Vec<EventHash>,
}

impl Taken {
    pub(super) fn recovered(rows: Vec<TakenEvents>) -> Self {
        let mut taken = Self::default();
        for row in rows {
            for EventHash(hash) in row.forgotten {
                taken.hashes.remove(&hash);
                taken.forgotten_at.insert(hash, row.seq);
            }
            taken.commits.push_back((row.seq, row.at, row.hashes.len()));
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

    /// The event may be sent again.
    pub(super) fn forget(&mut self, hash: EventHash) {
        let in_this_commit = self.new.contains(&hash);
        self.withdraw(hash);
        if !in_this_commit && self.hashes.remove(&hash.0).is_some() {
            self.gone.push(hash);
        }
    }

    /// What the commit with this last position takes, and what it forgets.
    pub(super) fn committed(&mut self, seq: Seq, at: Moment) -> Option<TakenEvents> {
        if self.new.is_empty() && self.gone.is_empty() {
            return None;
        }
        let (hashes, forgotten) = (std::mem::take(&mut self.new), std::mem::take(&mut self.gone));
        self.commits.push_back((seq, at, hashes.len()));
        self.forgotten_at.extend(forgotten.iter().map(|hash| (hash.0, seq)));
        Some(TakenEvents { seq, at, hashes, forgotten })
    }

    /// The position of the first commit that is remembered.
    pub(super) fn first(&self) -> Option<Seq> {
        self.commits.front().map(|(seq, ..)| *seq)
    }

    /// The first commits that are too old or too many, at most about `limit` of
    /// them and of their events; `None`: there are none.
    pub(super) fn outdated(&mut self, before: Moment, max: usize, limit: usize) -> Option<Outdated> {
        let mut excess = self.hashes.len().saturating_sub(max);
        let (mut outdated, mut events): (Option<Outdated>, usize) = (None, 0);
        while let Some((seq, at, count)) = self.commits.front().copied() {
            if at >= before && excess == 0 {
                break;
            }
            let commits = outdated.map_or(0, |outdated| outdated.commits);
            if commits >= limit || events >= limit {
                return outdated.map(|outdated| Outdated { more: true, ..outdated });
            }
            excess = excess.saturating_sub(count);
            events += count;
            outdated = Some(Outdated { until: seq.next(), commits: commits + 1, more: false });
            self.commits.pop_front();
        }
        outdated
    }

    /// The row of a commit is removed. What was forgotten after it may have
    /// been taken again, and is then known from a later row.
    pub(super) fn removed(&mut self, row: &TakenEvents) {
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

/// Commits whose rows are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outdated {
    /// The position before which they stand.
    pub(super) until: Seq,
    /// How many they are.
    pub(super) commits: usize,
    /// Whether others are to follow.
    pub(super) more: bool,
}

/// Idempotency keys that were used within the window.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: ShardedMap<[u8; 16], UsedKey>,
    order: ChunkedQueue<(Seq, Moment, [u8; 16])>,
}

/// A used key.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsedKey {
    /// Hash over the request's body.
    pub(super) body: [u8; 16],
    /// Where its answer is kept.
    pub(super) seq: Seq,
}

impl Keys {
    pub(super) fn get(&self, key: &IdempotencyKey) -> Option<UsedKey> {
        self.by_key.get(&key.key).copied()
    }

    /// How many are remembered.
    pub(super) const fn len(&self) -> usize {
        self.by_key.len()
    }

    /// When the oldest of them was used.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.order.front().map(|(_, at, _)| *at)
    }

    pub(super) fn insert(&mut self, seq: Seq, at: Moment, key: IdempotencyKey) {
        self.by_key.insert(key.key, UsedKey { body: key.body, seq });
        self.order.push_back((seq, at, key.key));
    }

    /// Forgets keys used before `before`, at most `limit` of them.
    pub(super) fn outdated(&mut self, before: Moment, limit: usize) -> Option<Outdated> {
        let mut outdated: Option<Outdated> = None;
        while let Some((seq, _, key)) = self.order.front().copied().filter(|(_, at, _)| *at < before) {
            let commits = outdated.map_or(0, |outdated| outdated.commits);
            if commits >= limit {
                return outdated.map(|outdated| Outdated { more: true, ..outdated });
            }
            self.by_key.remove(&key);
            outdated = Some(Outdated { until: seq.next(), commits: commits + 1, more: false });
            self.order.pop_front();
        }
        outdated
    }
}

/// A project and what is counted for it.
#[derive(Debug)]
pub(super) struct ProjectState {
    /// The project as stored.
    pub(super) project: Project,
    /// Its tasks by phase.
    pub(super) counters: Counters,
    /// The group that made, removed or moved one of its tasks last.
    pub(super) changed: Version,
}

const DAY_MINUTES: u64 = 24 * 60;

/// How many tasks ended in which minute of the last day.
#[derive(Debug, Default)]
pub(super) struct Ends {
    minutes: VecDeque<(u64, u64, u64)>,
}

impl Ends {
    pub(super) fn add(&mut self, at: Moment, status: Status) {
        let minute = minute_of(at);
        match self.minutes.back() {
            Some((last, ..)) if *last >= minute => {}
            Some(_) | None => self.minutes.push_back((minute, 0, 0)),
        }
        if let Some((_, completed, failed)) = self.minutes.back_mut() {
            *completed += u64::from(status == Status::Completed);
            *failed += u64::from(status == Status::Failed);
        }
        while self.minutes.front().is_some_and(|(first, ..)| *first + DAY_MINUTES < minute) {
            self.minutes.pop_front();
        }
    }

    /// Completed and failed within `window` before `now`, to the minute.
    pub(super) fn within(&self, now: Moment, window: Duration) -> (u64, u64) {
        let first = minute_of(now).saturating_sub(window.as_secs() / 60);
        let recent = self.minutes.iter().rev().take_while(|(minute, ..)| *minute > first);
        recent.fold((0, 0), |(completed, failed), (_, more, fewer)| (completed + more, failed + fewer))
    }
}

fn minute_of(at: Moment) -> u64 {
    at.as_millis() / 60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_count_within_their_window() {
        let mut ends = Ends::default();
        let at = |minute: i64| Moment::from_micros(minute * 60_000_000);
        ends.add(at(10), Status::Completed);
        ends.add(at(69), Status::Failed);
        ends.add(at(70), Status::Completed);
        ends.add(at(70), Status::Cancelled);
        assert_eq!(ends.within(at(70), Duration::from_hours(1)), (1, 1));
        assert_eq!(ends.within(at(70), Duration::from_hours(24)), (2, 1));
        ends.add(at(70 + 1445), Status::Completed);
        assert_eq!(ends.within(at(70 + 1445), Duration::from_hours(24)), (1, 0));
    }

    fn hash(n: u8) -> EventHash {
        EventHash([n; 16])
    }

    fn second(n: i64) -> Moment {
        Moment::from_micros(n * 1_000_000)
    }

    #[test]
    fn taken_events_leave_by_age_and_number() {
        let mut taken = Taken::default();
        let mut rows = Vec::new();
        for n in 1..=4 {
            taken.insert(hash(n));
            rows.extend(taken.committed(Seq(u64::from(n) * 10), second(i64::from(n))));
        }
        assert_eq!(taken.outdated(second(0), 10, 100), None);
        assert_eq!(taken.outdated(second(2), 10, 100), Some(outdated(11, 1, false)));
        taken.removed(&rows[0]);
        assert_eq!(taken.outdated(second(0), 2, 100), Some(outdated(21, 1, false)));
        assert!(!taken.contains(hash(1)) && taken.contains(hash(3)));
    }

    const fn outdated(until: u64, commits: usize, more: bool) -> Outdated {
        Outdated { until: Seq(until), commits, more }
    }

    #[test]
    fn what_is_forgotten_at_once_has_a_limit() {
        let mut taken = Taken::default();
        let mut rows = Vec::new();
        for n in 1..=10 {
            taken.insert(hash(2 * n));
            taken.insert(hash(2 * n + 1));
            rows.extend(taken.committed(Seq(u64::from(n)), second(i64::from(n))));
        }
        // By the number of events, and by that of commits.
        assert_eq!(taken.outdated(second(20), 100, 4), Some(outdated(3, 2, true)));
        rows.drain(..2).for_each(|row| taken.removed(&row));
        assert!(!taken.contains(hash(5)) && taken.contains(hash(6)));
        assert_eq!(taken.outdated(second(0), 11, 1), Some(outdated(4, 1, true)));
        rows.drain(..1).for_each(|row| taken.removed(&row));
        assert_eq!(taken.outdated(second(0), 11, 100), Some(outdated(6, 2, false)));

        let mut keys = Keys::default();
        for n in 1..=5 {
            keys.insert(Seq(n), second(0), IdempotencyKey { key: [u8::try_from(n).unwrap(); 16], body: [0; 16] });
        }
        assert_eq!((keys.outdated(second(1), 2), keys.len()), (Some(outdated(3, 2, true)), 3));
        assert_eq!((keys.outdated(second(1), 3), keys.len()), (Some(outdated(6, 3, false)), 0));
        assert_eq!(keys.outdated(second(1), 3), None);
    }

    #[test]
    fn a_forgotten_event_is_new_again() {
        let mut taken = Taken::default();
        let mut rows = Vec::new();
        taken.insert(hash(1));
        taken.insert(hash(2));
        rows.extend(taken.committed(Seq(1), second(1)));
        taken.forget(hash(1));
        assert!(!taken.contains(hash(1)));
        rows.extend(taken.committed(Seq(2), second(2)));
        assert!(!Taken::recovered(rows.clone()).contains(hash(1)));
        // Taken again, forgotten and taken again in one commit.
        taken.insert(hash(1));
        taken.forget(hash(1));
        assert!(!taken.contains(hash(1)));
        taken.insert(hash(1));
        rows.extend(taken.committed(Seq(3), second(3)));
        assert!(Taken::recovered(rows.clone()).contains(hash(1)));
        // The first row goes, with what it alone knew.
        assert_eq!(taken.outdated(second(2), 10, 100), Some(outdated(2, 1, false)));
        taken.removed(&rows[0]);
        assert!(taken.contains(hash(1)) && !taken.contains(hash(2)));
        taken.removed(&rows[1]);
        taken.removed(&rows[2]);
        assert!(!taken.contains(hash(1)) && taken.forgotten_at.is_empty());
    }

    #[test]
    fn a_refused_event_is_not_known() {
        let mut taken = Taken::default();
        taken.insert(hash(1));
        taken.withdraw(hash(1));
        assert!(!taken.contains(hash(1)) && taken.committed(Seq(1), second(1)).is_none());
    }
}
