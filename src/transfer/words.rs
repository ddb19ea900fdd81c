//! What was said by hand where an import comes from: marks and clears. They
//! are no members of a record there, only entries of the audit trail.
//!
//! They are applied when all lines have been read, so that the order of the
//! lines decides nothing: the newest of a record counts, and whether it is
//! still to be heard the engine decides.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::engine::{Import, Word};
use crate::legacy::{Action, TaintEvent};
use crate::task::{RecordId, Timestamp};

/// Most records of which words are kept.
const MOST: usize = 100_000;
/// Most bytes of these words.
const MOST_BYTES: usize = 8 << 20;

/// An entry about the record that was named itself, and not about what
/// followed from it for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    record: RecordId,
    /// When, and the entry's id: of two at the same time the larger counts.
    at: (Timestamp, String),
    /// What was said; `None`: a taint, which the record itself tells of.
    word: Option<bool>,
    reason: String,
}

impl Heard {
    /// The bytes of its texts.
    fn bytes(&self) -> usize {
        self.at.1.len() + self.reason.len()
    }

    pub(super) fn of(event: &TaintEvent) -> Option<Self> {
        let word = match event.action {
            Action::Clear => Some(true),
            Action::Suspect => Some(false),
            Action::Taint | Action::Escalate => None,
        };
        let (record, at) = event.record.zip(event.timestamp).filter(|_| event.cascade_depth == 0)?;
        Some(Self { record, at: (at, event.id.clone()), word, reason: event.reason.clone() })
    }
}

/// The newest word on each record.
#[derive(Debug, Default)]
pub(super) struct Words {
    newest: BTreeMap<RecordId, Heard>,
    bytes: usize,
    are_too_many: bool,
}

impl Words {
    pub(super) fn hear(&mut self, heard: Heard) {
        let bytes = heard.bytes();
        let is_full = self.newest.len() >= MOST;
        match self.newest.entry(heard.record) {
            Entry::Occupied(newest) if newest.get().at >= heard.at => {}
            Entry::Vacant(_) if is_full => self.are_too_many = true,
            Entry::Occupied(_) | Entry::Vacant(_) if self.bytes + bytes > MOST_BYTES => self.are_too_many = true,
            Entry::Occupied(mut newest) => {
                self.bytes = self.bytes + bytes - newest.insert(heard).bytes();
            }
            Entry::Vacant(place) => {
                self.bytes += bytes;
                place.insert(heard);
            }
        }
    }

    /// The marks and clears.
    pub(super) fn take(&mut self) -> Vec<Import> {
        if std::mem::take(&mut self.are_too_many) {
            tracing::warn!(
                "an import has marks and clears of more than {MOST} records, or more than {MOST_BYTES} bytes of them; \
                 the others are not applied"
            );
        }
        let newest = std::mem::take(&mut self.newest).into_values();
        let word = |heard: Heard| {
            let is_good = heard.word?;
            Some(Import::Word(Word { record: heard.record, is_good, at: heard.at.0, reason: heard.reason }))
        };
        newest.filter_map(word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(id: &str, second: i64, word: Option<bool>) -> Heard {
        let at = (Timestamp::from_micros(second * 1_000_000), id.to_owned());
        Heard { record: RecordId::of_text("r"), at, word, reason: String::new() }
    }

    fn told(heard: &[Heard]) -> Vec<bool> {
        let mut words = Words::default();
        heard.iter().cloned().for_each(|heard| words.hear(heard));
        let word = |item| if let Import::Word(word) = item { word.is_good } else { panic!("{item:?}") };
        words.take().into_iter().map(word).collect()
    }

    #[test]
    fn words_are_bounded_by_their_bytes() {
        let mut words = Words::default();
        for number in 0..20 {
            let reason = "r".repeat(1 << 20);
            let record = RecordId::of_text(&number.to_string());
            words.hear(Heard { record, reason, ..heard("a", 1, Some(false)) });
        }
        assert!(words.are_too_many && words.bytes <= MOST_BYTES);
        assert_eq!(words.take().len(), 7);
    }

    #[test]
    fn the_newest_word_counts_in_whatever_order_they_come() {
        let (mark, clear, taint) = (heard("a", 1, Some(false)), heard("b", 2, Some(true)), heard("c", 3, None));
        assert_eq!(told(&[mark.clone(), clear.clone()]), [true]);
        assert_eq!(told(&[clear.clone(), mark.clone()]), [true]);
        assert_eq!(told(&[heard("z", 2, Some(false)), clear.clone()]), [false]);
        assert_eq!(told(&[taint, clear, mark]), [false; 0]);
    }
}
