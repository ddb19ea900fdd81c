//! Findings of a day, with the requests that show them, and the latencies of all answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Findings of one kind that a report lists; further ones are only counted.
const MAX_LISTED: usize = 5;
/// Longest part of an answer in a finding, in bytes.
const MAX_ANSWER_BYTES: usize = 400;

/// A violation of a rule by the service.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Kind of rule that is violated, such as `ledger` or `no answer`.
    pub kind: &'static str,
    /// Description of the violation.
    pub what: String,
    /// Seconds since the start of the day.
    pub at_seconds: f64,
    /// The request that shows it; empty if there is none.
    pub request: String,
    /// Beginning of the answer to that request.
    pub answer: String,
}

/// Counts of the requests of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RequestCounts {
    /// Answers, refusals included.
    pub answered: u64,
    /// Answers 429 and 503.
    pub refused: u64,
    /// Requests whose answer was lost in a kill of the service.
    pub lost: u64,
    /// Slowest answer, in milliseconds, without the time that the request asked to wait.
    pub worst_ms: u64,
}

/// All findings and counts so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) listed: Vec<Finding>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) requests: BTreeMap<&'static str, RequestCounts>,
}

impl Findings {
    /// Adds a finding and returns whether it is listed.
    pub(super) fn add(&mut self, mut finding: Finding) -> bool {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        let is_listed = usize::try_from(*count).is_ok_and(|count| count <= MAX_LISTED);
        if is_listed {
            shorten(&mut finding.answer);
            self.listed.push(finding);
        }
        is_listed
    }

    /// Counts an answer.
    pub(super) fn record_answer(&mut self, kind: &'static str, took: Duration, is_refused: bool) {
        let counts = self.requests.entry(kind).or_default();
        counts.answered += 1;
        counts.refused += u64::from(is_refused);
        counts.worst_ms = counts.worst_ms.max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Counts a request whose answer was lost in a kill of the service.
    pub(super) fn record_loss(&mut self, kind: &'static str) {
        self.requests.entry(kind).or_default().lost += 1;
    }
}

fn shorten(text: &mut String) {
    if text.len() > MAX_ANSWER_BYTES {
        let end = (0..=MAX_ANSWER_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
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
