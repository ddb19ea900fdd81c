//! What was said of a record, and the fact that follows from all of it.
//!
//! Several cascades can name the same record. Each leaves a statement, so that
//! one of them can be taken back without the others: the fact of a record is a
//! function of the statements that stand.

use serde::{Deserialize, Serialize};

use super::record::Fact;
use crate::task::{RecordStatus, Seq};

/// What one step said of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The step.
    pub step: Seq,
    /// What it said.
    pub kind: Saying,
    /// The verdict that it has replaced by `passed`, where it did.
    pub replaced: Option<Replaced>,
}

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Saying {
    /// It is bad.
    Taint,
    /// It may be bad.
    Mark,
    /// It is good, whatever stands above it until then: a clear of a suspect.
    Clear,
    /// What was said of it before does not hold: a clear of a tainted record,
    /// which leaves what stands above it.
    Withdraw,
}

impl Saying {
    /// Whether what was said before counts no longer.
    #[must_use]
    pub const fn is_clear(self) -> bool {
        matches!(self, Self::Clear | Self::Withdraw)
    }
}

/// A verdict that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The verdict.
    pub status: RecordStatus,
    /// Tells the details that the record's verdict had then from others.
    pub details: u64,
}

/// The statements that still count, oldest first: those since the newest clear.
#[must_use]
pub fn live(statements: &[Statement]) -> &[Statement] {
    let from = statements.iter().rposition(|statement| statement.kind.is_clear()).unwrap_or(0);
    statements.get(from..).unwrap_or(&[])
}

/// The fact that follows from statements, which are in the order of their steps:
/// of several taints the newest, since each voids the clears below it; of
/// several marks the oldest.
#[must_use]
pub fn fact_of(statements: &[Statement]) -> Option<Fact> {
    let live = live(statements);
    let newest = |kind| live.iter().rev().find(|statement| statement.kind == kind).map(|statement| statement.step);
    let oldest = |kind| live.iter().find(|statement| statement.kind == kind).map(|statement| statement.step);
    let tainted = newest(Saying::Taint).map(Fact::Tainted);
    tainted.or_else(|| oldest(Saying::Mark).map(Fact::Marked)).or_else(|| newest(Saying::Clear).map(Fact::Cleared))
}

/// The statements that a fact stands for, where nothing else is known of a record.
#[must_use]
pub fn statements_of(fact: Option<Fact>) -> Vec<Statement> {
    let (step, kind) = match fact {
        None => return Vec::new(),
        Some(Fact::Tainted(step)) => (step, Saying::Taint),
        Some(Fact::Marked(step)) => (step, Saying::Mark),
        Some(Fact::Cleared(step)) => (step, Saying::Clear),
    };
    vec![Statement { step, kind, replaced: None }]
}

/// Takes the statements of some steps away: what is left, and the verdict that
/// counts again, if one does. A verdict that a clear has replaced is handed on
/// to a later clear that stands.
#[must_use]
pub fn without(statements: &[Statement], is_gone: impl Fn(Seq) -> bool) -> (Vec<Statement>, Option<Replaced>) {
    let (mut left, mut carried) = (Vec::with_capacity(statements.len()), None::<Replaced>);
    for statement in statements {
        let mut statement = *statement;
        if is_gone(statement.step) {
            carried = carried.or(statement.replaced);
            continue;
        }
        if statement.kind.is_clear() {
            // One that has replaced a verdict itself found another one than the one before.
            let handed_on = carried.take();
            statement.replaced = statement.replaced.or(handed_on);
        }
        left.push(statement);
    }
    (left, carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(step: u64, kind: Saying) -> Statement {
        Statement { step: Seq(step), kind, replaced: None }
    }

    #[test]
    fn a_fact_follows_from_what_stands() {
        use Saying::{Clear, Mark, Taint, Withdraw};
        let fact =
            |all: &[(u64, Saying)]| fact_of(&all.iter().map(|(step, kind)| said(*step, *kind)).collect::<Vec<_>>());
        assert_eq!(fact(&[]), None);
        assert_eq!(fact(&[(1, Taint), (2, Taint)]), Some(Fact::Tainted(Seq(2))));
        assert_eq!(fact(&[(1, Taint), (2, Mark)]), Some(Fact::Tainted(Seq(1))));
        assert_eq!(fact(&[(1, Mark), (2, Mark)]), Some(Fact::Marked(Seq(1))));
        assert_eq!(fact(&[(1, Taint), (2, Withdraw)]), None);
        assert_eq!(fact(&[(1, Clear), (2, Taint)]), Some(Fact::Tainted(Seq(2))));
        assert_eq!(fact(&[(1, Clear), (2, Mark)]), Some(Fact::Marked(Seq(2))));
        assert_eq!(fact(&[(1, Clear), (2, Taint), (3, Withdraw)]), None);
        assert_eq!(fact(&[(1, Mark), (2, Clear)]), Some(Fact::Cleared(Seq(2))));
    }

    #[test]
    fn a_single_statement_is_what_its_fact_stands_for() {
        for kind in [Saying::Taint, Saying::Mark, Saying::Clear] {
            assert_eq!(statements_of(fact_of(&[said(3, kind)])), [said(3, kind)]);
        }
        assert_eq!(statements_of(None), []);
    }

    #[test]
    fn a_verdict_is_handed_on_to_the_clear_that_stands() {
        let replaced = |status| Some(Replaced { status, details: 7 });
        let clear = |step, replaced| Statement { replaced, ..said(step, Saying::Clear) };
        let (failed, pending) = (replaced(RecordStatus::Failed), replaced(RecordStatus::Pending));
        let all = [clear(1, failed), clear(2, None), said(3, Saying::Taint)];
        assert_eq!(without(&all, |step| step == Seq(1)), (vec![clear(2, failed), all[2]], None));
        assert_eq!(without(&all, |step| step.0 < 3), (vec![all[2]], failed));
        assert_eq!(without(&all, |step| step == Seq(3)), (all[..2].to_vec(), None));
        // Its verdict had changed in between.
        let all = [clear(1, failed), clear(2, pending)];
        assert_eq!(without(&all, |step| step == Seq(1)), (vec![clear(2, pending)], None));
        assert_eq!(without(&all, |step| step == Seq(2)), (vec![clear(1, failed)], pending));
    }
}
