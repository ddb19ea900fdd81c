//! The statements about records, kept so that one cascade can be undone without the others. See
//! [`crate::lineage`] for what follows from several statements.

use std::collections::{BTreeSet, HashMap};

use crate::engine::shared::{statements_in, statements_of_fact};
use crate::engine::state::failure::Stored;
use crate::engine::state::storage::Storage;
use crate::lineage::{Action, Flag, Graph, Statement, StatementKind, fact_of, since_last_clear, statements_of};
use crate::store::{Batch, Cause, View};
use crate::task::{CheckpointId, RecordId, Seq};

/// Tells which records a rollback to a checkpoint has tainted already.
pub(in crate::engine::state) struct RolledBack<'a> {
    view: &'a View,
    checkpoint: &'a CheckpointId,
    /// Whether steps belong to a rollback to the checkpoint.
    known: HashMap<Seq, bool>,
}

impl<'a> RolledBack<'a> {
    pub(in crate::engine::state) fn new(view: &'a View, checkpoint: &'a CheckpointId) -> Self {
        Self { view, checkpoint, known: HashMap::new() }
    }

    /// Whether a rollback to the checkpoint has tainted a record, and that stands.
    pub(in crate::engine::state) fn has_named(&mut self, graph: &Graph, id: RecordId) -> Stored<bool> {
        let statements = statements_in(self.view, graph, id)?;
        for statement in since_last_clear(&statements).iter().filter(|statement| statement.kind == StatementKind::Taint)
        {
            let is_same = if let Some(known) = self.known.get(&statement.step) {
                *known
            } else {
                let cause = self.view.cascade(statement.step)?.map(|row| row.cause);
                let is_same =
                    matches!(cause, Some(Cause::Rollback { checkpoint, .. }) if checkpoint == *self.checkpoint);
                self.known.insert(statement.step, is_same);
                is_same
            };
            if is_same {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Looks up statements about records: for a plan in the store, and for the writer in the group
/// under way first.
pub(in crate::engine::state) struct StatementLookup<'a> {
    graph: &'a Graph,
    source: Source<'a>,
    /// Whether steps belong to the cascade that is asked about.
    is_same: HashMap<Seq, bool>,
}

enum Source<'a> {
    View(&'a View),
    Group {
        statements: &'a Statements,
        storage: &'a Storage,
        /// Opened when it is needed first.
        view: Option<View>,
    },
}

impl<'a> StatementLookup<'a> {
    /// Looks up in the store alone: for a plan.
    pub(in crate::engine::state) fn in_view(view: &'a View, graph: &'a Graph) -> Self {
        Self { graph, source: Source::View(view), is_same: HashMap::new() }
    }

    /// Looks up in the group under way, and then in the store.
    pub(super) fn in_group(statements: &'a Statements, storage: &'a Storage, graph: &'a Graph) -> Self {
        Self { graph, source: Source::Group { statements, storage, view: None }, is_same: HashMap::new() }
    }

    /// Returns the statements about a record, oldest first.
    pub(super) fn statements(&mut self, id: RecordId) -> Stored<Vec<Statement>> {
        match &mut self.source {
            Source::View(view) => statements_in(view, self.graph, id),
            Source::Group { statements, storage, view } => {
                if let Some(statements) = statements.changed.get(&id) {
                    return Ok(statements.clone());
                }
                if statements.stored.contains(&id)
                    && let Some(statements) = opened(view, storage)?.statements(id)?
                {
                    return Ok(statements);
                }
                Ok(statements_of_fact(self.graph, id))
            }
        }
    }

    /// Whether a step belongs to a cascade. One lookup is only ever asked about one cascade.
    fn is_of(&mut self, step: Seq, cascade: &str) -> Stored<bool> {
        if let Source::Group { statements, .. } = &self.source
            && let Some(known) = statements.cascades.get(&step)
        {
            return Ok(known == cascade);
        }
        if let Some(known) = self.is_same.get(&step) {
            return Ok(*known);
        }
        let view = match &mut self.source {
            Source::View(view) => view,
            Source::Group { storage, view, .. } => opened(view, storage)?,
        };
        let is_same = view.cascade(step)?.is_some_and(|row| row.cascade_id == cascade);
        self.is_same.insert(step, is_same);
        Ok(is_same)
    }
}

fn opened<'a>(view: &'a mut Option<View>, storage: &Storage) -> Stored<&'a View> {
    match view {
        Some(view) => Ok(view),
        empty => Ok(empty.insert(storage.view()?)),
    }
}

/// A statement about a record that its cascade has not made already.
#[derive(Debug)]
pub(in crate::engine::state) struct NewStatement {
    pub(in crate::engine::state) id: RecordId,
    kind: StatementKind,
    /// The statements about the record before it.
    before: Vec<Statement>,
}

/// Returns the statements of a cascade about records, without those that it has made already
/// and that stand.
pub(in crate::engine::state) fn new_statements(
    action: Action,
    ids: &[RecordId],
    cascade: &str,
    lookup: &mut StatementLookup<'_>,
) -> Stored<Vec<NewStatement>> {
    let mut new = Vec::with_capacity(ids.len());
    for &id in ids {
        let graph = lookup.graph;
        let Some(known) = graph.find(id).and_then(|node| graph.record(node)) else { continue };
        let kind = match (action, known.flag) {
            (Action::Clear, Flag::Clean) => continue,
            (Action::Clear, Flag::Tainted) => StatementKind::Withdraw,
            (Action::Clear, Flag::Suspect) => StatementKind::Clear,
            (Action::Taint, _) => StatementKind::Taint,
            (Action::Mark, _) => StatementKind::Mark,
        };
        let before = lookup.statements(id)?;
        if !is_stated(&before, kind, cascade, lookup)? {
            new.push(NewStatement { id, kind, before });
        }
    }
    Ok(new)
}

fn is_stated(
    statements: &[Statement],
    kind: StatementKind,
    cascade: &str,
    lookup: &mut StatementLookup<'_>,
) -> Stored<bool> {
    if kind.is_clear() {
        return Ok(false);
    }
    for statement in since_last_clear(statements).iter().filter(|statement| statement.kind == kind) {
        if lookup.is_of(statement.step, cascade)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The statements that this group changes.
#[derive(Debug)]
pub(super) struct Statements {
    /// Records whose statements are more than their fact tells: the store has a row of each.
    stored: BTreeSet<RecordId>,
    changed: HashMap<RecordId, Vec<Statement>>,
    /// The cascades of the steps of this group.
    cascades: HashMap<Seq, String>,
}

impl Statements {
    pub(super) fn recovered(stored: BTreeSet<RecordId>) -> Self {
        Self { stored, changed: HashMap::new(), cascades: HashMap::new() }
    }

    /// Adds the statements that a step of a cascade makes.
    pub(super) fn record(&mut self, seq: Seq, new: Vec<NewStatement>, cascade: &str) {
        for NewStatement { id, kind, before } in new {
            let mut statements = before;
            statements.push(Statement { step: seq, kind, replaced: None });
            self.changed.insert(id, statements);
        }
        self.cascades.insert(seq, cascade.to_owned());
    }

    /// Replaces the statements about a record.
    pub(super) fn replace(&mut self, id: RecordId, statements: Vec<Statement>) {
        self.changed.insert(id, statements);
    }

    /// The newest statement about a record, if this group has changed its statements.
    pub(super) fn last_mut(&mut self, id: RecordId) -> Option<&mut Statement> {
        self.changed.get_mut(&id)?.last_mut()
    }

    /// Ends the group: stages the statements about records whose fact does not tell all of
    /// them.
    pub(super) fn finish(&mut self, batch: &mut Batch) -> Stored<()> {
        self.cascades.clear();
        for (id, statements) in std::mem::take(&mut self.changed) {
            if statements == statements_of(fact_of(&statements)) {
                if self.stored.remove(&id) {
                    batch.put_statements(id, &[])?;
                }
            } else {
                self.stored.insert(id);
                batch.put_statements(id, &statements)?;
            }
        }
        Ok(())
    }
}
