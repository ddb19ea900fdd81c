//! What is wrong, with what is needed to see it again; and how long answers took.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Findings of one kind that a report lists; the others are counted.
const LISTED: usize = 5;
/// Longest text of an answer in a finding, in bytes.
const SHOWN: usize = 400;

/// Something that must not happen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// Which rule it breaks.
    pub(super) kind: &'static str,
    /// What is wrong.
    pub(super) what: String,
    /// Seconds since the day began.
    pub(super) at_seconds: f64,
    /// The request, where one is to blame.
    pub(super) request: String,
    /// Its answer, cut short.
    pub(super) answer: String,
}

/// Requests of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Asked {
    /// Answers, refusals among them.
    pub(super) answered: u64,
    /// Answers 429 and 503, as the contract has them.
    pub(super) refused: u64,
    /// Requests whose answer was lost because the service was killed.
    pub(super) lost: u64,
    /// The slowest answer, in milliseconds, beyond the time that it was asked to wait.
    pub(super) worst_ms: u64,
}

/// All that was found and measured so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) listed: Vec<Finding>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) asked: BTreeMap<&'static str, Asked>,
}

impl Findings {
    /// Adds one; `true` where it is listed.
    pub(super) fn add(&mut self, mut finding: Finding) -> bool {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        let is_listed = usize::try_from(*count).is_ok_and(|count| count <= LISTED);
        if is_listed {
            shorten(&mut finding.answer);
            self.listed.push(finding);
        }
        is_listed
    }

    /// An answer came after that time.
    pub(super) fn answered(&mut self, kind: &'static str, took: Duration, is_refused: bool) {
        let asked = self.asked.entry(kind).or_default();
        asked.answered += 1;
        asked.refused += u64::from(is_refused);
        asked.worst_ms = asked.worst_ms.max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// An answer was lost with the service.
    pub(super) fn lost(&mut self, kind: &'static str) {
        self.asked.entry(kind).or_default().lost += 1;
    }
}

fn shorten(text: &mut String) {
    if text.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_one_kind_are_counted_and_a_few_are_listed() {
        let mut findings = Findings::default();
        for number in 0..9 {
            let finding = Finding {
                kind: "no answer",
                what: number.to_string(),
                at_seconds: 1.0,
                request: String::new(),
                answer: "ä".repeat(400),
            };
            assert_eq!(findings.add(finding), number < 5);
        }
        assert_eq!((findings.listed.len(), findings.counts["no answer"]), (5, 9));
        assert!(findings.listed[0].answer.len() < 410);
    }
}
