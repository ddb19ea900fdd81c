//! Dead letters: messages that could not be taken. They are kept within a
//! bound in number and in bytes, beyond which the oldest go; they can be taken
//! again, or discarded.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::api::{Error, Refusal};
use super::command::Command;
use super::handle::Engine;
use super::incoming::{EventOutcome, Incoming};
use super::machine::Machine;
use crate::store::{self, DeadLetter, PageBudget, View};
use crate::task::{TaskId, Timestamp};

/// Most dead letters that are kept.
const MAX_DEAD_LETTERS: usize = 100_000;
/// Most bytes of their rows.
const MAX_DEAD_LETTER_BYTES: u64 = 256 * 1024 * 1024;
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

/// Why a dead letter is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterEnd {
    /// It was taken again.
    Requeued,
    /// Somebody has discarded it.
    Discarded,
    /// It was the oldest when there were too many.
    Dropped,
}

impl LetterEnd {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requeued, Self::Discarded, Self::Dropped];

    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Discarded => "discarded",
            Self::Dropped => "dropped",
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
}

impl Letters {
    pub(super) fn recovered(rows: Vec<(u64, u64)>) -> Self {
        let mut letters = Self::default();
        for (number, bytes) in rows {
            letters.add(number, bytes);
        }
        letters
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
    pub(super) fn bury(&mut self, letters: Vec<DeadLetter>) -> Stored<()> {
        for letter in letters {
            // Not given again: the log moves on with every task that is about
            // one, and with every one that is taken again.
            let number = self.head.0.max(self.dead_letters.last + 1);
            let bytes = self.group.batch.put_dead_letter(number, &letter)?;
            self.dead_letters.add(number, bytes);
        }
        self.drop_old_letters();
        Ok(())
    }

    /// Removes the oldest dead letters where there are too many. Whether
    /// there are more.
    pub(super) fn drop_old_letters(&mut self) -> bool {
        let mut range: Option<(u64, u64)> = None;
        let mut count = 0;
        while count < ROUND {
            let Some(number) = self.dead_letters.excess() else { break };
            self.remove_letter(number, LetterEnd::Dropped);
            range = Some((range.map_or(number, |(first, _)| first), number));
            count += 1;
        }
        if let Some((first, last)) = range {
            tracing::warn!(
                count,
                first,
                last,
                "dead letters were dropped: there were too many, and these were the oldest"
            );
        }
        count == ROUND
    }

    /// Discards dead letters; how many of them were there.
    pub(super) fn discard(&mut self, numbers: &[u64]) -> u64 {
        let mut discarded = 0;
        for number in numbers {
            if self.remove_letter(*number, LetterEnd::Discarded) {
                tracing::info!(dead_letter = number, "a dead letter was discarded");
                discarded += 1;
            }
        }
        discarded
    }

    /// Whether it was there.
    pub(super) fn remove_letter(&mut self, number: u64, end: LetterEnd) -> bool {
        let was_there = self.dead_letters.remove(number, end);
        if was_there {
            self.group.batch.remove_dead_letter(number);
        }
        was_there
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
        let mut letters = Letters::recovered((1..=3).map(|number| (number, MAX_DEAD_LETTER_BYTES / 2)).collect());
        assert_eq!(letters.excess(), Some(1));
        assert!(letters.remove(1, LetterEnd::Dropped) && !letters.remove(1, LetterEnd::Dropped));
        assert_eq!((letters.excess(), letters.counts().kept, letters.counts().ended), (None, 2, [0, 0, 1]));
        let most = u64::try_from(MAX_DEAD_LETTERS).unwrap();
        assert_eq!(Letters::recovered((1..=most + 1).map(|number| (number, 1)).collect()).excess(), Some(1));
        assert_eq!(Letters::recovered(vec![(7, MAX_DEAD_LETTER_BYTES + 1)]).excess(), None);
    }
}
