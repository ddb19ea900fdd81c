//! Manual marks and clears of the program that an import comes from. That program stores them only
//! as entries of its audit trail, not in the records.
//!
//! They are applied once all lines have been read, so that the order of lines does not matter. The
//! newest entry of a record counts, and the engine decides whether it still applies.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::engine::{Import, ManualMark};
use crate::legacy::{Action, TaintEvent};
use crate::task::{RecordId, Timestamp};

/// Maximum number of records with entries.
const MOST: usize = 100_000;
/// Maximum size of these entries in bytes.
const MOST_BYTES: usize = 8 << 20;

/// An entry about the record that was named itself, as opposed to records that were affected
/// through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManualEntry {
    record: RecordId,
    /// Time and id of the entry; at equal times the larger id counts.
    at: (Timestamp, String),
    /// `true` for a clear, `false` for a mark; `None` for a taint, which the record itself states.
    is_good: Option<bool>,
    reason: String,
}

impl ManualEntry {
    /// Returns the size of its texts in bytes.
    fn bytes(&self) -> usize {
        self.at.1.len() + self.reason.len()
    }

    pub(super) fn of(event: &TaintEvent) -> Option<Self> {
        let is_good = match event.action {
            Action::Clear => Some(true),
            Action::Suspect => Some(false),
            Action::Taint | Action::Escalate => None,
        };
        let (record, at) = event.record.zip(event.timestamp).filter(|_| event.cascade_depth == 0)?;
        Some(Self { record, at: (at, event.id.clone()), is_good, reason: event.reason.clone() })
    }
}

/// The newest entry of each record.
#[derive(Debug, Default)]
pub(super) struct ManualMarks {
    newest: BTreeMap<RecordId, ManualEntry>,
    bytes: usize,
    is_over_limit: bool,
}

impl ManualMarks {
    pub(super) fn add(&mut self, entry: ManualEntry) {
        let bytes = entry.bytes();
        let is_full = self.newest.len() >= MOST;
        match self.newest.entry(entry.record) {
            Entry::Occupied(newest) if newest.get().at >= entry.at => {}
            Entry::Vacant(_) if is_full => self.is_over_limit = true,
            Entry::Occupied(_) | Entry::Vacant(_) if self.bytes + bytes > MOST_BYTES => self.is_over_limit = true,
            Entry::Occupied(mut newest) => {
                self.bytes = self.bytes + bytes - newest.insert(entry).bytes();
            }
            Entry::Vacant(place) => {
                self.bytes += bytes;
                place.insert(entry);
            }
        }
    }

    /// Takes the marks and clears as items for the engine.
    pub(super) fn take(&mut self) -> Vec<Import> {
        if std::mem::take(&mut self.is_over_limit) {
            tracing::warn!(
                "an import has marks and clears of more than {MOST} records, or more than {MOST_BYTES} bytes of them; \
                 the others are not applied"
            );
        }
        let newest = std::mem::take(&mut self.newest).into_values();
        let import = |entry: ManualEntry| {
            let is_good = entry.is_good?;
            Some(Import::ManualMark(ManualMark { record: entry.record, is_good, at: entry.at.0, reason: entry.reason }))
        };
        newest.filter_map(import).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, second: i64, is_good: Option<bool>) -> ManualEntry {
        let at = (Timestamp::from_micros(second * 1_000_000), id.to_owned());
        ManualEntry { record: RecordId::of_text("r"), at, is_good, reason: String::new() }
    }

    fn applied(entry: &[ManualEntry]) -> Vec<bool> {
        let mut marks = ManualMarks::default();
        entry.iter().cloned().for_each(|entry| marks.add(entry));
        let word = |item| if let Import::ManualMark(word) = item { word.is_good } else { panic!("{item:?}") };
        marks.take().into_iter().map(word).collect()
    }

    #[test]
    fn words_are_bounded_by_their_bytes() {
        let mut marks = ManualMarks::default();
        for number in 0..20 {
            let reason = "r".repeat(1 << 20);
            let record = RecordId::of_text(&number.to_string());
            marks.add(ManualEntry { record, reason, ..entry("a", 1, Some(false)) });
        }
        assert!(marks.is_over_limit && marks.bytes <= MOST_BYTES);
        assert_eq!(marks.take().len(), 7);
    }

    #[test]
    fn the_newest_word_counts_in_whatever_order_they_come() {
        let (mark, clear, taint) = (entry("a", 1, Some(false)), entry("b", 2, Some(true)), entry("c", 3, None));
        assert_eq!(applied(&[mark.clone(), clear.clone()]), [true]);
        assert_eq!(applied(&[clear.clone(), mark.clone()]), [true]);
        assert_eq!(applied(&[entry("z", 2, Some(false)), clear.clone()]), [false]);
        assert_eq!(applied(&[taint, clear, mark]), [false; 0]);
    }
}
