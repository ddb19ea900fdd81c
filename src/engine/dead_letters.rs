//! Dead letters: messages that could not be taken. They are kept within a
//! bound in number and in bytes, beyond which the oldest go; they can be taken
//! again, or discarded.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use super::api::{Error, Refusal};
use super::command::Command;
use super::handle::Engine;
use super::incoming::{EventOutcome, Incoming};
use super::machine::Machine;
use crate::store::{self, DeadLetter, LetterEnd, LetterRemoval, PageBudget, View};
use crate::task::{Moment, Now, TaskId, Timestamp};

/// Most dead letters that are kept.
const MAX_DEAD_LETTERS: usize = 100_000;
/// Most bytes of their rows.
const MAX_DEAD_LETTER_BYTES: u64 = 256 * 1024 * 1024;
/// Most entries of the audit trail of dead letters.
const MAX_REMOVALS: usize = 10_000;
/// Dead letters that one commit removes.
const ROUND: usize = 256;
/// Dead letters, and bytes of them, that one page looks at. A page that stops
/// here says so.
const MAX_LOOKED_AT: usize = 20_000;
const MAX_BYTES_LOOKED_AT: usize = 32 * 1024 * 1024;

type Stored<T> = Result<T, store::Error>;

/// Which dead letters; every field narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// The reason contains this text, whatever the case of its letters.
    pub reason: Option<String>,
    /// The event has this type, with or without `dats.` in front.
    pub kind: Option<String>,
    /// The event comes from this source.
    pub source: Option<String>,
    /// It names this task.
    pub task: Option<TaskId>,
    /// It was put aside at this time or later.
    pub created_after: Option<Timestamp>,
    /// It was put aside before this time.
    pub created_before: Option<Timestamp>,
}

/// Type and source of the event that a dead letter holds, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterHead {
    /// The `CloudEvents` type.
    pub kind: Option<String>,
    /// The `CloudEvents` source.
    pub source: Option<String>,
}

impl LetterHead {
    /// Reads the head of a message; one that is no JSON object has none.
    #[must_use]
    pub fn of(raw: &str) -> Self {
        /// A value of another type than text counts as none.
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "type")]
            kind: Option<serde_json::Value>,
            source: Option<serde_json::Value>,
        }
        let text = |value: Option<serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let Ok(wire) = serde_json::from_str::<Wire>(raw) else { return Self::default() };
        Self { kind: text(wire.kind), source: text(wire.source) }
    }
}

impl LetterFilter {
    /// Whether it names anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn fits(&self, letter: &DeadLetter) -> bool {
        let of_reason = |wanted: &String| letter.reason.to_lowercase().contains(&wanted.to_lowercase());
        let is_named = self.reason.as_ref().is_none_or(of_reason)
            && self.task.is_none_or(|task| letter.task == Some(task))
            && self.created_after.is_none_or(|after| letter.at >= after)
            && self.created_before.is_none_or(|before| letter.at < before);
        if !is_named || self.kind.is_none() && self.source.is_none() {
            return is_named;
        }
        let head = LetterHead::of(&letter.raw);
        let bare = |kind: &str| kind.strip_prefix("dats.").unwrap_or(kind).to_owned();
        let is_of_kind = |wanted: &String| head.kind.as_deref().is_some_and(|kind| bare(kind) == bare(wanted));
        self.kind.as_ref().is_none_or(is_of_kind)
            && self.source.as_ref().is_none_or(|source| head.source.as_ref() == Some(source))
    }
}

/// A page of dead letters, newest first.
#[derive(Debug, Clone)]
pub struct LetterPage {
    /// The letters with their numbers.
    pub entries: Vec<(u64, DeadLetter)>,
    /// The next page has the letters before this number.
    pub next: Option<u64>,
    /// The page ends before its number of entries: it is full of bytes, or the
    /// search stopped before it had looked at all of them.
    pub truncated: bool,
}

fn page(view: &View, filter: &LetterFilter, before: Option<u64>, limit: usize) -> Stored<LetterPage> {
    let mut page = LetterPage { entries: Vec::new(), next: None, truncated: false };
    let (mut budget, mut count, mut bytes) = (PageBudget::new(limit), 0, 0);
    let mut last = None;
    for row in view.dead_letters_before(before)? {
        let (number, letter) = row?;
        let is_far = count >= MAX_LOOKED_AT || bytes >= MAX_BYTES_LOOKED_AT;
        let size = letter.raw.len() + letter.reason.len();
        if is_far || filter.fits(&letter) && !budget.admit(size) {
            page.next = last;
            page.truncated = is_far || budget.is_truncated();
            break;
        }
        count += 1;
        bytes += size;
        last = Some(number);
        if filter.fits(&letter) {
            page.entries.push((number, letter));
        }
    }
    Ok(page)
}

impl Engine {
    /// A page of dead letters, newest first, before one of them.
    pub async fn dead_letters(
        &self,
        filter: LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, Error> {
        self.read(move |side| page(&side.store.view()?, &filter, before, limit)).await
    }

    /// A dead letter.
    pub async fn dead_letter(&self, number: u64) -> Result<Option<DeadLetter>, Error> {
        self.read(move |side| side.store.view()?.dead_letter(number)).await
    }

    /// Entries of the audit trail of dead letters, newest first, before one of them, and
    /// whether there are more.
    pub async fn letter_removals(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<(u64, LetterRemoval)>, bool), Error> {
        self.read(move |side| {
            let mut rows = side.store.view()?.letter_removals_before(before)?;
            let entries = rows.by_ref().take(limit).collect::<Stored<Vec<_>>>()?;
            Ok((entries, rows.next().is_some()))
        })
        .await
    }

    /// Keeps messages that can't be taken, durably.
    pub async fn bury(&self, letters: Vec<DeadLetter>) -> Result<(), Error> {
        self.ask(|reply| Command::Bury { letters, reply }).await
    }

    /// Takes a dead letter again as the event that it holds; when it is
    /// taken, it is no dead letter any more.
    pub async fn requeue(&self, dead_letter: u64, event: Incoming) -> Result<EventOutcome, Error> {
        let (mut events, plan) = self.plan_events(self.prepare(vec![event]).await?).await?;
        let Some(event) = events.pop().map(Box::new) else {
            return Err(Refusal::DeadLetterNotFound(dead_letter).into());
        };
        let plan = plan.map(|(_, plan)| plan);
        self.ask(|reply| Command::Requeue { dead_letter, event, plan, reply }).await
    }

    /// Discards a dead letter for good.
    pub async fn discard(&self, number: u64) -> Result<(), Error> {
        let discarded = self.ask(|reply| Command::Discard { numbers: vec![number], reply }).await?;
        if discarded == 0 { Err(Refusal::DeadLetterNotFound(number).into()) } else { Ok(()) }
    }

    /// Discards all dead letters that a filter fits, newest first, in commits
    /// of at most a page; how many. Those that come meanwhile stay. A failure
    /// leaves those that are not discarded yet.
    pub async fn discard_matching(&self, filter: LetterFilter) -> Result<u64, Error> {
        let (mut before, mut discarded) = (None, 0);
        loop {
            let page = self.dead_letters(filter.clone(), before, ROUND).await?;
            let numbers: Vec<u64> = page.entries.iter().map(|(number, _)| *number).collect();
            if !numbers.is_empty() {
                discarded += self.ask(|reply| Command::Discard { numbers, reply }).await?;
            }
            before = page.next;
            if before.is_none() {
                return Ok(discarded);
            }
        }
    }
}

/// Dead letters in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LetterCounts {
    /// How many are kept.
    pub kept: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// How many have left since the start, in the order of [`LetterEnd::ALL`].
    pub ended: [u64; 3],
}

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

    fn letter(reason: &str, raw: &str, at: i64) -> DeadLetter {
        DeadLetter { at: Timestamp::from_micros(at), task: None, reason: reason.to_owned(), raw: raw.to_owned() }
    }

    #[test]
    fn every_field_narrows() {
        let event = letter("Not JSON at all", r#"{"type":"dats.task.validated","source":"/qa","data":{"a":[1]}}"#, 5);
        let filter = LetterFilter::default();
        assert!(filter.is_empty() && filter.fits(&event));
        let reason = |text: &str| LetterFilter { reason: Some(text.to_owned()), ..LetterFilter::default() };
        assert!(reason("json").fits(&event) && !reason("xml").fits(&event));
        let kind = |text: &str| LetterFilter { kind: Some(text.to_owned()), ..LetterFilter::default() };
        assert!(kind("task.validated").fits(&event) && kind("dats.task.validated").fits(&event));
        assert!(!kind("task.rejected").fits(&event) && !kind("task.validated").fits(&letter("x", "garbage", 5)));
        let source = |text: &str| LetterFilter { source: Some(text.to_owned()), ..LetterFilter::default() };
        assert!(source("/qa").fits(&event) && !source("qa").fits(&event));
        let at = |micros| Some(Timestamp::from_micros(micros));
        let age = |after, before| LetterFilter { created_after: after, created_before: before, ..filter.clone() };
        assert!(age(at(5), at(6)).fits(&event) && !age(at(6), None).fits(&event) && !age(None, at(5)).fits(&event));
    }

    #[test]
    fn a_head_that_is_no_text_is_none() {
        assert_eq!(LetterHead::of(r#"{"type":7,"source":null}"#), LetterHead::default());
        assert_eq!(LetterHead::of("[]"), LetterHead::default());
        assert_eq!(LetterHead::of(r#"{"type":"t"}"#).kind.as_deref(), Some("t"));
    }

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
