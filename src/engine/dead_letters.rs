//! Dead letters: messages that could not be taken. They are kept within a
//! bound in number and in bytes, beyond which the oldest go; they can be taken
//! again, or discarded.

use std::collections::{BTreeMap, VecDeque};

use super::api::LetterCounts;
use super::machine::Machine;
use crate::store::{self, DeadLetter, LetterEnd, LetterRemoval};
use crate::task::{Moment, Now};

/// Most dead letters that are kept.
const MAX_DEAD_LETTERS: usize = 100_000;
/// Most bytes of their rows.
const MAX_DEAD_LETTER_BYTES: u64 = 256 * 1024 * 1024;
/// Most entries of the audit trail of dead letters.
const MAX_REMOVALS: usize = 10_000;
/// Dead letters that one commit removes.
const ROUND: usize = 256;

type Stored<T> = Result<T, store::Error>;

/// The dead letters that are kept, as this group leaves them.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Bytes of the row of each, by number.
    sizes: BTreeMap<u64, u64>,
    last: u64,
    counts: LetterCounts,
    /// The entries of the audit trail, oldest first, each with its time.
    removals: VecDeque<(u64, Moment)>,
    last_removal: u64,
}

impl Letters {
    pub(super) fn recovered(rows: Vec<(u64, u64)>, last: u64, removals: Vec<(u64, Moment)>) -> Self {
        let last_removal = removals.last().map_or(0, |(number, _)| *number);
        let mut letters = Self { last, removals: removals.into(), last_removal, ..Self::default() };
        for (number, bytes) in rows {
            letters.add(number, bytes);
        }
        letters
    }

    /// The number of the next entry of the audit trail.
    fn next_removal(&mut self, at: Moment) -> u64 {
        self.last_removal += 1;
        self.removals.push_back((self.last_removal, at));
        self.last_removal
    }

    /// The entries of the audit trail that are too old or too many, at most `limit`:
    /// the number before which they stand, and whether there are more. The newest
    /// stays: it tells the next start where the numbers go on.
    fn outdated_removals(&mut self, before: Moment, limit: usize) -> Option<(u64, bool)> {
        let mut until = None;
        for _ in 0..limit {
            let Some((number, at)) = self.removals.front().copied() else { break };
            let is_outdated = at < before || self.removals.len() > MAX_REMOVALS;
            if !is_outdated || self.removals.len() == 1 {
                return until.map(|until| (until, false));
            }
            until = Some(number + 1);
            self.removals.pop_front();
        }
        until.map(|until| (until, true))
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.sizes.contains_key(&number)
    }

    pub(super) const fn counts(&self) -> LetterCounts {
        self.counts
    }

    fn add(&mut self, number: u64, bytes: u64) {
        self.last = self.last.max(number);
        self.counts.kept += 1;
        self.counts.bytes += bytes;
        self.sizes.insert(number, bytes);
    }

    /// Whether it was there.
    fn remove(&mut self, number: u64, end: LetterEnd) -> bool {
        let Some(bytes) = self.sizes.remove(&number) else { return false };
        self.counts.kept = self.counts.kept.saturating_sub(1);
        self.counts.bytes = self.counts.bytes.saturating_sub(bytes);
        for (each, count) in LetterEnd::ALL.iter().zip(&mut self.counts.ended) {
            *count += u64::from(*each == end);
        }
        true
    }

    /// The oldest, where there are more than there may be. The newest stays,
    /// however large it is.
    fn excess(&self) -> Option<u64> {
        let is_full = self.sizes.len() > MAX_DEAD_LETTERS || self.counts.bytes > MAX_DEAD_LETTER_BYTES;
        if is_full && self.sizes.len() > 1 { self.sizes.first_key_value().map(|(number, _)| *number) } else { None }
    }
}

impl Machine {
    /// Keeps messages that can't be taken.
    pub(super) fn bury(&mut self, letters: Vec<DeadLetter>, now: Now) -> Stored<()> {
        for letter in letters {
            // Not given again: the last number is kept with the letters.
            let number = self.head.0.max(self.dead_letters.last + 1);
            let bytes = self.group.batch.put_dead_letter(number, &letter)?;
            self.dead_letters.add(number, bytes);
        }
        self.drop_old_letters(now)?;
        Ok(())
    }

    /// Removes the oldest dead letters where there are too many. Whether
    /// there are more.
    pub(super) fn drop_old_letters(&mut self, now: Now) -> Stored<bool> {
        let mut numbers = Vec::new();
        while numbers.len() < ROUND {
            let Some(number) = self.dead_letters.excess() else { break };
            numbers.push(number);
            self.remove_letter(number, LetterEnd::Dropped);
        }
        let count = numbers.len();
        if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
            tracing::warn!(
                count,
                first,
                last,
                "dead letters were dropped: there were too many, and these were the oldest"
            );
        }
        self.audit_letters(numbers, LetterEnd::Dropped, now)?;
        Ok(count == ROUND)
    }

    /// Discards dead letters; how many of them were there.
    pub(super) fn discard(&mut self, numbers: Vec<u64>, now: Now) -> Stored<u64> {
        let mut discarded = numbers;
        discarded.retain(|number| self.remove_letter(*number, LetterEnd::Discarded));
        let count = discarded.len();
        if count > 0 {
            tracing::info!(count, "dead letters were discarded");
        }
        self.audit_letters(discarded, LetterEnd::Discarded, now)?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// A dead letter was taken again.
    pub(super) fn requeued(&mut self, number: u64, now: Now) -> Stored<()> {
        if self.remove_letter(number, LetterEnd::Requeued) {
            self.audit_letters(vec![number], LetterEnd::Requeued, now)?;
        }
        Ok(())
    }

    /// Removes old entries of the audit trail. Whether there are more.
    pub(super) fn trim_letter_removals(&mut self, before: Moment) -> bool {
        let outdated = self.dead_letters.outdated_removals(before, ROUND);
        if let Some((until, _)) = outdated {
            self.group.batch.trim_letter_removals(until);
        }
        outdated.is_some_and(|(_, more)| more)
    }

    /// Whether it was there.
    fn remove_letter(&mut self, number: u64, end: LetterEnd) -> bool {
        let was_there = self.dead_letters.remove(number, end);
        if was_there {
            self.group.batch.remove_dead_letter(number);
        }
        was_there
    }

    /// Keeps for people which dead letters are gone, and why.
    fn audit_letters(&mut self, numbers: Vec<u64>, end: LetterEnd, now: Now) -> Stored<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let number = self.dead_letters.next_removal(now.observed);
        let (at, observed) = (now.wall, now.observed);
        let removal = LetterRemoval { at, observed, end, runs: LetterRemoval::runs_of(numbers) };
        self.group.batch.put_letter_removal(number, &removal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_by_number_and_by_bytes() {
        let recovered = |rows: Vec<(u64, u64)>| Letters::recovered(rows, 0, Vec::new());
        let mut letters = recovered((1..=3).map(|number| (number, MAX_DEAD_LETTER_BYTES / 2)).collect());
        assert_eq!(letters.excess(), Some(1));
        assert!(letters.remove(1, LetterEnd::Dropped) && !letters.remove(1, LetterEnd::Dropped));
        assert_eq!((letters.excess(), letters.counts().kept, letters.counts().ended), (None, 2, [0, 0, 1]));
        let most = u64::try_from(MAX_DEAD_LETTERS).unwrap();
        assert_eq!(recovered((1..=most + 1).map(|number| (number, 1)).collect()).excess(), Some(1));
        assert_eq!(recovered(vec![(7, MAX_DEAD_LETTER_BYTES + 1)]).excess(), None);
    }

    #[test]
    fn the_audit_trail_has_a_bound_in_age_and_number() {
        let at = Moment::from_micros;
        let mut letters = Letters::recovered(Vec::new(), 7, vec![(3, at(1)), (4, at(2))]);
        assert_eq!((letters.last, letters.next_removal(at(3))), (7, 5));
        assert_eq!(letters.outdated_removals(at(1), 10), None);
        assert_eq!(letters.outdated_removals(at(3), 1), Some((4, true)));
        assert_eq!(letters.outdated_removals(at(9), 10), Some((5, false)));
        assert_eq!(letters.outdated_removals(at(9), 10), None, "the newest stays");
        for _ in 0..MAX_REMOVALS {
            letters.next_removal(at(9));
        }
        assert_eq!(letters.outdated_removals(at(0), 10), Some((6, false)));
    }
}
