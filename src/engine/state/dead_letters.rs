//! Dead letters: messages that could not be taken. They are kept within a bound in number
//! and in bytes, beyond which the oldest are dropped. They can be requeued or discarded.

use std::collections::{BTreeMap, VecDeque};

use super::failure::Stored;
use crate::engine::api::DeadLetterCounts;
use crate::store::{Batch, DeadLetter, DeadLetterEnd, DeadLetterRemoval};
use crate::task::{Moment, Now, Seq};

/// Most dead letters that are kept.
const MAX_DEAD_LETTERS: usize = 100_000;
/// Most bytes of their rows.
const MAX_DEAD_LETTER_BYTES: u64 = 256 * 1024 * 1024;
/// Most entries of the audit trail of dead letters.
const MAX_REMOVALS: usize = 10_000;
/// Dead letters that one commit removes.
const ROUND: usize = 256;

/// The dead letters that are kept, of the group under way included.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// Bytes of each row, by number.
    sizes: BTreeMap<u64, u64>,
    /// The largest number that was ever given.
    last: u64,
    counts: DeadLetterCounts,
    /// The entries of the audit trail, oldest first.
    removals: VecDeque<Removal>,
    last_removal: u64,
}

/// An entry of the audit trail.
#[derive(Debug, Clone, Copy)]
struct Removal {
    number: u64,
    at: Moment,
}

/// Entries of the audit trail that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OutdatedRemovals {
    /// They stand before this number.
    until: u64,
    has_more: bool,
}

impl DeadLetters {
    /// `rows` are numbers and bytes of the letters; `removals` numbers and times of the
    /// entries of the audit trail, oldest first.
    pub(super) fn recovered(rows: Vec<(u64, u64)>, last: u64, removals: Vec<(u64, Moment)>) -> Self {
        let removals: VecDeque<_> = removals.into_iter().map(|(number, at)| Removal { number, at }).collect();
        let last_removal = removals.back().map_or(0, |removal| removal.number);
        let mut letters = Self { last, removals, last_removal, ..Self::default() };
        for (number, bytes) in rows {
            letters.add(number, bytes);
        }
        letters
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.sizes.contains_key(&number)
    }

    pub(super) const fn counts(&self) -> DeadLetterCounts {
        self.counts
    }

    /// Keeps messages that can't be taken. `head` is the newest position of the log.
    pub(super) fn put(&mut self, batch: &mut Batch, letters: Vec<DeadLetter>, head: Seq, now: Now) -> Stored<()> {
        for letter in letters {
            // No number is given twice: the last one is kept with the letters.
            let number = head.0.max(self.last + 1);
            let bytes = batch.put_dead_letter(number, &letter)?;
            self.add(number, bytes);
        }
        self.drop_excess(batch, now)?;
        Ok(())
    }

    /// Drops the oldest dead letters where there are too many. Returns whether there are
    /// still too many.
    pub(super) fn drop_excess(&mut self, batch: &mut Batch, now: Now) -> Stored<bool> {
        let mut numbers = Vec::new();
        while numbers.len() < ROUND {
            let Some(number) = self.excess() else { break };
            numbers.push(number);
            self.remove_row(batch, number, DeadLetterEnd::Dropped);
        }
        let count = numbers.len();
        if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
            tracing::warn!(count, first, last, "dropped the oldest dead letters, because there were too many");
        }
        self.record_removal(batch, numbers, DeadLetterEnd::Dropped, now)?;
        Ok(count == ROUND)
    }

    /// Discards dead letters. Returns how many of them there were.
    pub(super) fn discard(&mut self, batch: &mut Batch, numbers: Vec<u64>, now: Now) -> Stored<u64> {
        let mut discarded = numbers;
        discarded.retain(|number| self.remove_row(batch, *number, DeadLetterEnd::Discarded));
        let count = discarded.len();
        if count > 0 {
            tracing::info!(count, "discarded dead letters");
        }
        self.record_removal(batch, discarded, DeadLetterEnd::Discarded, now)?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Removes a dead letter that was requeued.
    pub(super) fn remove_requeued(&mut self, batch: &mut Batch, number: u64, now: Now) -> Stored<()> {
        if self.remove_row(batch, number, DeadLetterEnd::Requeued) {
            self.record_removal(batch, vec![number], DeadLetterEnd::Requeued, now)?;
        }
        Ok(())
    }

    /// Trims entries of the audit trail from before `before`. Returns whether there are
    /// more to trim.
    pub(super) fn trim_removals(&mut self, batch: &mut Batch, before: Moment) -> bool {
        let outdated = self.drop_outdated_removals(before, ROUND);
        if let Some(outdated) = outdated {
            batch.trim_dead_letter_removals(outdated.until);
        }
        outdated.is_some_and(|outdated| outdated.has_more)
    }

    fn add(&mut self, number: u64, bytes: u64) {
        self.last = self.last.max(number);
        self.counts.kept += 1;
        self.counts.bytes += bytes;
        self.sizes.insert(number, bytes);
    }

    /// Removes a letter and its row. Returns whether it was there.
    fn remove_row(&mut self, batch: &mut Batch, number: u64, end: DeadLetterEnd) -> bool {
        let was_there = self.remove(number, end);
        if was_there {
            batch.remove_dead_letter(number);
        }
        was_there
    }

    /// Removes a letter. Returns whether it was there.
    fn remove(&mut self, number: u64, end: DeadLetterEnd) -> bool {
        let Some(bytes) = self.sizes.remove(&number) else { return false };
        self.counts.kept = self.counts.kept.saturating_sub(1);
        self.counts.bytes = self.counts.bytes.saturating_sub(bytes);
        for (each, count) in DeadLetterEnd::ALL.iter().zip(&mut self.counts.ended) {
            *count += u64::from(*each == end);
        }
        true
    }

    /// The oldest letter, if there are more than the bounds allow. The newest stays, however
    /// large it is.
    fn excess(&self) -> Option<u64> {
        let is_full = self.sizes.len() > MAX_DEAD_LETTERS || self.counts.bytes > MAX_DEAD_LETTER_BYTES;
        if is_full && self.sizes.len() > 1 { self.sizes.first_key_value().map(|(number, _)| *number) } else { None }
    }

    /// Writes into the audit trail which dead letters were removed, and how.
    fn record_removal(&mut self, batch: &mut Batch, numbers: Vec<u64>, end: DeadLetterEnd, now: Now) -> Stored<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let number = self.next_removal(now.observed);
        let (at, observed) = (now.wall, now.observed);
        let removal = DeadLetterRemoval { at, observed, end, runs: DeadLetterRemoval::runs_of(numbers) };
        batch.put_dead_letter_removal(number, &removal)
    }

    /// Returns the number of the next entry of the audit trail.
    fn next_removal(&mut self, at: Moment) -> u64 {
        self.last_removal += 1;
        self.removals.push_back(Removal { number: self.last_removal, at });
        self.last_removal
    }

    /// Drops entries of the audit trail that are older than `before` or too many, at most
    /// `limit`. The newest stays: it tells the next start where the numbers continue.
    fn drop_outdated_removals(&mut self, before: Moment, limit: usize) -> Option<OutdatedRemovals> {
        let mut until = None;
        for _ in 0..limit {
            let Some(Removal { number, at }) = self.removals.front().copied() else { break };
            let is_outdated = at < before || self.removals.len() > MAX_REMOVALS;
            if !is_outdated || self.removals.len() == 1 {
                return until.map(|until| OutdatedRemovals { until, has_more: false });
            }
            until = Some(number + 1);
            self.removals.pop_front();
        }
        until.map(|until| OutdatedRemovals { until, has_more: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_dropped_by_number_and_by_bytes() {
        let recovered = |rows: Vec<(u64, u64)>| DeadLetters::recovered(rows, 0, Vec::new());
        let mut letters = recovered((1..=3).map(|number| (number, MAX_DEAD_LETTER_BYTES / 2)).collect());
        assert_eq!(letters.excess(), Some(1));
        assert!(letters.remove(1, DeadLetterEnd::Dropped) && !letters.remove(1, DeadLetterEnd::Dropped));
        assert_eq!((letters.excess(), letters.counts().kept, letters.counts().ended), (None, 2, [0, 0, 1]));
        let most = u64::try_from(MAX_DEAD_LETTERS).unwrap();
        assert_eq!(recovered((1..=most + 1).map(|number| (number, 1)).collect()).excess(), Some(1));
        assert_eq!(recovered(vec![(7, MAX_DEAD_LETTER_BYTES + 1)]).excess(), None);
    }

    #[test]
    fn the_audit_trail_has_a_bound_in_age_and_number() {
        let at = Moment::from_micros;
        let outdated = |until, has_more| Some(OutdatedRemovals { until, has_more });
        let mut letters = DeadLetters::recovered(Vec::new(), 7, vec![(3, at(1)), (4, at(2))]);
        assert_eq!((letters.last, letters.next_removal(at(3))), (7, 5));
        assert_eq!(letters.drop_outdated_removals(at(1), 10), None);
        assert_eq!(letters.drop_outdated_removals(at(3), 1), outdated(4, true));
        assert_eq!(letters.drop_outdated_removals(at(9), 10), outdated(5, false));
        assert_eq!(letters.drop_outdated_removals(at(9), 10), None, "the newest stays");
        for _ in 0..MAX_REMOVALS {
            letters.next_removal(at(9));
        }
        assert_eq!(letters.drop_outdated_removals(at(0), 10), outdated(6, false));
    }
}
