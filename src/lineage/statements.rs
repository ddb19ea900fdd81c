//! Statements about a record, and the fact that follows from them.
//!
//! Several cascades can name the same record. Each leaves a statement, so that one of them can be
//! undone without the others: the fact of a record is a function of the statements that stand.

use serde::{Deserialize, Serialize};

use super::record::Fact;
use crate::task::{RecordStatus, Seq};

/// A statement that one step made about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Position of the step.
    pub step: Seq,
    /// Taint, mark, clear or withdrawal.
    pub kind: StatementKind,
    /// The verdict that the step replaced by `passed`, if any.
    pub replaced: Option<ReplacedVerdict>,
}

/// The kinds of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatementKind {
    /// The record is bad.
    Taint,
    /// The record may be bad.
    Mark,
    /// The record is good, whatever is above it until then: the clear of a suspect record.
    Clear,
    /// Earlier statements no longer hold: the clear of a tainted record, below which taints above
    /// still count.
    Withdraw,
}

impl StatementKind {
    /// Whether earlier statements no longer count.
    #[must_use]
    pub const fn is_clear(self) -> bool {
        matches!(self, Self::Clear | Self::Withdraw)
    }
}

/// A verdict that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedVerdict {
    /// The replaced verdict.
    pub status: RecordStatus,
    /// Distinguishes the details of the replaced verdict from others.
    pub details: u64,
}

/// The statements that still count, oldest first: those from the newest clear on.
#[must_use]
pub fn since_last_clear(statements: &[Statement]) -> &[Statement] {
    let from = statements.iter().rposition(|statement| statement.kind.is_clear()).unwrap_or(0);
    statements.get(from..).unwrap_or(&[])
}

/// The fact that follows from statements in the order of their steps: of several taints the newest,
/// because each voids the clears below it; of several marks the oldest.
#[must_use]
pub fn fact_of(statements: &[Statement]) -> Option<Fact> {
    let since_last_clear = since_last_clear(statements);
    let newest =
        |kind| since_last_clear.iter().rev().find(|statement| statement.kind == kind).map(|statement| statement.step);
    let oldest =
        |kind| since_last_clear.iter().find(|statement| statement.kind == kind).map(|statement| statement.step);
    let tainted = newest(StatementKind::Taint).map(Fact::Tainted);
    tainted
        .or_else(|| oldest(StatementKind::Mark).map(Fact::Marked))
        .or_else(|| newest(StatementKind::Clear).map(Fact::Cleared))
}

/// The statements that a fact stands for if nothing else is known of a record.
#[must_use]
pub fn statements_of(fact: Option<Fact>) -> Vec<Statement> {
    let (step, kind) = match fact {
        None => return Vec::new(),
        Some(Fact::Tainted(step)) => (step, StatementKind::Taint),
        Some(Fact::Marked(step)) => (step, StatementKind::Mark),
        Some(Fact::Cleared(step)) => (step, StatementKind::Clear),
    };
    vec![Statement { step, kind, replaced: None }]
}

/// Removes the statements of some steps. Returns the others, and the verdict that counts again, if
/// any. A verdict replaced by a removed clear is handed on to a later clear.
#[must_use]
pub fn remove_steps(
    statements: &[Statement],
    is_gone: impl Fn(Seq) -> bool,
) -> (Vec<Statement>, Option<ReplacedVerdict>) {
    let (mut left, mut carried) = (Vec::with_capacity(statements.len()), None::<ReplacedVerdict>);
    for statement in statements {
        let mut statement = *statement;
        if is_gone(statement.step) {
            carried = carried.or(statement.replaced);
            continue;
        }
        if statement.kind.is_clear() {
            // A clear that replaced a verdict itself found another verdict than the removed one.
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

    fn said(step: u64, kind: StatementKind) -> Statement {
        Statement { step: Seq(step), kind, replaced: None }
    }

    #[test]
    fn a_fact_follows_from_the_remaining_statements() {
        use StatementKind::{Clear, Mark, Taint, Withdraw};
        let fact = |all: &[(u64, StatementKind)]| {
            fact_of(&all.iter().map(|(step, kind)| said(*step, *kind)).collect::<Vec<_>>())
        };
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
        for kind in [StatementKind::Taint, StatementKind::Mark, StatementKind::Clear] {
            assert_eq!(statements_of(fact_of(&[said(3, kind)])), [said(3, kind)]);
        }
        assert_eq!(statements_of(None), []);
    }

    #[test]
    fn a_verdict_is_handed_on_to_the_clear_that_stands() {
        let replaced = |status| Some(ReplacedVerdict { status, details: 7 });
        let clear = |step, replaced| Statement { replaced, ..said(step, StatementKind::Clear) };
        let (failed, pending) = (replaced(RecordStatus::Failed), replaced(RecordStatus::Pending));
        let all = [clear(1, failed), clear(2, None), said(3, StatementKind::Taint)];
        assert_eq!(remove_steps(&all, |step| step == Seq(1)), (vec![clear(2, failed), all[2]], None));
        assert_eq!(remove_steps(&all, |step| step.0 < 3), (vec![all[2]], failed));
        assert_eq!(remove_steps(&all, |step| step == Seq(3)), (all[..2].to_vec(), None));
        // Its verdict had changed in between.
        let all = [clear(1, failed), clear(2, pending)];
        assert_eq!(remove_steps(&all, |step| step == Seq(1)), (vec![clear(2, pending)], None));
        assert_eq!(remove_steps(&all, |step| step == Seq(2)), (vec![clear(1, failed)], pending));
    }
}
