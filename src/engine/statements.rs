//! What is said of records, kept so that one cascade can be taken back without
//! the others: see [`crate::lineage`] for what follows from several statements.

use std::borrow::Cow;
use std::collections::HashMap;

use fixedbitset::FixedBitSet;
use petgraph::visit::{NodeCount as _, NodeIndexable as _};

use super::machine::Machine;
use crate::lineage::{Action, Flag, FlagChange, Graph, Saying, Statement, Step, fact_of, live, statements_of};
use crate::store::{self, Cause, View};
use crate::task::{CheckpointId, RecordId, Seq};

type Stored<T> = Result<T, store::Error>;

/// What a step has said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) seq: Seq,
    /// What has changed in the graph.
    pub(super) step: Step,
    /// The records of which it said something new.
    pub(super) named: Vec<RecordId>,
}

impl Said {
    /// What the audit trail tells: an entry for each record that was named,
    /// whether or not its flag has changed, and one for each that follows.
    pub(super) fn told(&self, graph: &Graph) -> Cow<'_, [FlagChange]> {
        told(graph, &self.named, &self.step.flags)
    }
}

/// Changes of flags, with an entry for each of the named records.
pub(super) fn told<'a>(graph: &Graph, named: &[RecordId], flags: &'a [FlagChange]) -> Cow<'a, [FlagChange]> {
    let mut changed = FixedBitSet::with_capacity(graph.node_count());
    changed.extend(flags.iter().map(|change| graph.to_index(change.record)));
    let unchanged = |id: &RecordId| {
        let node = graph.find(*id).filter(|node| !changed.contains(graph.to_index(*node)))?;
        let flag = graph.record(node)?.flag;
        Some(FlagChange { record: node, from: flag, to: flag, depth: 0, through: None })
    };
    let mut told: Vec<FlagChange> = named.iter().filter_map(unchanged).collect();
    if told.is_empty() {
        return Cow::Borrowed(flags);
    }
    told.extend_from_slice(flags);
    Cow::Owned(told)
}

/// What was said of a record, as of a view and the graph of the same commit.
pub(super) fn statements_in(view: &View, graph: &Graph, id: RecordId) -> Stored<Vec<Statement>> {
    if let Some(statements) = view.statements(id)? {
        return Ok(statements);
    }
    let fact = graph.find(id).and_then(|node| graph.record(node)).and_then(|known| known.fact);
    Ok(statements_of(fact))
}

/// Whether a record is tainted by a rollback to this checkpoint already.
pub(super) struct RolledBack<'a> {
    pub(super) view: &'a View,
    pub(super) checkpoint: &'a CheckpointId,
    known: HashMap<Seq, bool>,
}

impl<'a> RolledBack<'a> {
    pub(super) fn new(view: &'a View, checkpoint: &'a CheckpointId) -> Self {
        Self { view, checkpoint, known: HashMap::new() }
    }

    pub(super) fn has_named(&mut self, graph: &Graph, id: RecordId) -> Stored<bool> {
        let statements = statements_in(self.view, graph, id)?;
        for statement in live(&statements).iter().filter(|statement| statement.kind == Saying::Taint) {
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

/// Where what was said of records is looked up.
pub(super) trait Sayings {
    /// What was said of a record, oldest first.
    fn statements(&mut self, id: RecordId) -> Stored<Vec<Statement>>;

    /// Whether a step belongs to a cascade.
    fn is_of(&mut self, step: Seq, cascade: &str) -> Stored<bool>;
}

/// What the store has: for a plan.
pub(super) struct InView<'a> {
    view: &'a View,
    graph: &'a Graph,
    /// Whether steps belong to the cascade that is asked about.
    is_same: HashMap<Seq, bool>,
}

impl<'a> InView<'a> {
    pub(super) fn new(view: &'a View, graph: &'a Graph) -> Self {
        Self { view, graph, is_same: HashMap::new() }
    }
}

impl Sayings for InView<'_> {
    fn statements(&mut self, id: RecordId) -> Stored<Vec<Statement>> {
        statements_in(self.view, self.graph, id)
    }

    fn is_of(&mut self, step: Seq, cascade: &str) -> Stored<bool> {
        if let Some(known) = self.is_same.get(&step) {
            return Ok(*known);
        }
        let is_same = self.view.cascade(step)?.is_some_and(|row| row.cascade_id == cascade);
        self.is_same.insert(step, is_same);
        Ok(is_same)
    }
}

/// What the writer has, with what its group has said.
struct InGroup<'a> {
    machine: &'a Machine,
    view: Option<View>,
    is_same: HashMap<Seq, bool>,
}

impl<'a> InGroup<'a> {
    fn new(machine: &'a Machine) -> Self {
        Self { machine, view: None, is_same: HashMap::new() }
    }

    fn view(&mut self) -> Stored<&View> {
        match &mut self.view {
            Some(view) => Ok(view),
            empty => Ok(empty.insert(self.machine.store.view()?)),
        }
    }
}

impl Sayings for InGroup<'_> {
    fn statements(&mut self, id: RecordId) -> Stored<Vec<Statement>> {
        if let Some(statements) = self.machine.group.statements.get(&id) {
            return Ok(statements.clone());
        }
        if self.machine.stated.contains(&id)
            && let Some(statements) = self.view()?.statements(id)?
        {
            return Ok(statements);
        }
        let graph = self.machine.provenance.graph();
        Ok(statements_of(graph.find(id).and_then(|node| graph.record(node)).and_then(|known| known.fact)))
    }

    fn is_of(&mut self, step: Seq, cascade: &str) -> Stored<bool> {
        if let Some(known) = self.machine.group.cascades.get(&step) {
            return Ok(known == cascade);
        }
        if let Some(known) = self.is_same.get(&step) {
            return Ok(*known);
        }
        let is_same = self.view()?.cascade(step)?.is_some_and(|row| row.cascade_id == cascade);
        self.is_same.insert(step, is_same);
        Ok(is_same)
    }
}

/// Something that is said of a record for the first time.
#[derive(Debug)]
pub(super) struct NewStatement {
    pub(super) id: RecordId,
    pub(super) kind: Saying,
    /// What was said of it before.
    pub(super) before: Vec<Statement>,
}

/// What a cascade says of records that it has not said of them already, as long as
/// that stands.
pub(super) fn unsaid(
    action: Action,
    ids: &[RecordId],
    cascade: &str,
    graph: &Graph,
    sayings: &mut impl Sayings,
) -> Stored<Vec<NewStatement>> {
    let mut new = Vec::with_capacity(ids.len());
    for &id in ids {
        let Some(known) = graph.find(id).and_then(|node| graph.record(node)) else { continue };
        let kind = match (action, known.flag) {
            (Action::Clear, Flag::Clean) => continue,
            (Action::Clear, Flag::Tainted) => Saying::Withdraw,
            (Action::Clear, Flag::Suspect) => Saying::Clear,
            (Action::Taint, _) => Saying::Taint,
            (Action::Mark, _) => Saying::Mark,
        };
        let before = sayings.statements(id)?;
        if !is_said(&before, kind, cascade, sayings)? {
            new.push(NewStatement { id, kind, before });
        }
    }
    Ok(new)
}

fn is_said(statements: &[Statement], kind: Saying, cascade: &str, sayings: &mut impl Sayings) -> Stored<bool> {
    if kind.is_clear() {
        return Ok(false);
    }
    for statement in live(statements).iter().filter(|statement| statement.kind == kind) {
        if sayings.is_of(statement.step, cascade)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Machine {
    /// What was said of a record, oldest first, as this group leaves it.
    pub(super) fn statements(&self, id: RecordId) -> Stored<Vec<Statement>> {
        InGroup::new(self).statements(id)
    }

    /// Says something of records, for a cascade: of each that it has not said
    /// it of already, as long as that stands.
    pub(super) fn say(&mut self, action: Action, ids: &[RecordId], cascade: &str) -> Stored<Said> {
        let new = unsaid(action, ids, cascade, self.provenance.graph(), &mut InGroup::new(self))?;
        if new.is_empty() {
            return Ok(Said::default());
        }
        let named: Vec<RecordId> = new.iter().map(|new| new.id).collect();
        let (seq, step) = self.provenance.apply(action, &named)?;
        self.keep_said(seq, new, cascade);
        Ok(Said { seq, step, named })
    }

    /// Keeps what a step of a cascade has said.
    pub(super) fn keep_said(&mut self, seq: Seq, new: Vec<NewStatement>, cascade: &str) {
        for NewStatement { id, kind, before } in new {
            let mut statements = before;
            statements.push(Statement { step: seq, kind, replaced: None });
            self.group.statements.insert(id, statements);
        }
        self.group.cascades.insert(seq, cascade.to_owned());
    }

    /// Takes a statement of a record away.
    pub(super) fn retract(&mut self, id: RecordId, step: Seq) -> Stored<(Seq, Step)> {
        let (left, _) = crate::lineage::without(&self.statements(id)?, |gone| gone == step);
        let stated = self.provenance.restate(&[(id, fact_of(&left))])?;
        self.group.statements.insert(id, left);
        Ok(stated)
    }

    /// Writes what was said in this group, where the facts of the records do
    /// not say it all.
    pub(super) fn keep_statements(
        &mut self,
        batch: &mut store::Batch,
        said: HashMap<RecordId, Vec<Statement>>,
    ) -> Stored<()> {
        for (id, statements) in said {
            if statements == statements_of(fact_of(&statements)) {
                if self.stated.remove(&id) {
                    batch.put_statements(id, &[])?;
                }
            } else {
                self.stated.insert(id);
                batch.put_statements(id, &statements)?;
            }
        }
        Ok(())
    }
}
