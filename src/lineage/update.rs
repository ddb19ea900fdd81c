//! Changes of the graph. Each is one step at a position of its own.

use super::cancellation::NeverCancelled;
use super::choice;
use super::flags::{self, Action};
use super::graph::Graph;
use super::link;
use super::record::{Error, Fact, Record, Relationship, Step};
use super::restore::{self, RestoredRecord};
use super::revise;
use crate::task::{ArtifactId, RecordId, RecordStatus, Seq};

impl Graph {
    /// Adds a record. Binds its inputs, and binds to it the inputs that waited for it or would have
    /// been bound to it.
    pub fn insert(&mut self, record: &Record, seq: Seq) -> Result<Step, Error> {
        self.check(seq, record.inputs.len() + record.outputs.len())?;
        self.check_new(record.id)?;
        self.newest = seq;
        let node = link::append_record(self, record, seq);
        let affected = link::add_inputs_and_outputs(self, node, &record.inputs, &record.outputs);
        Ok(link::relink(self, affected, seq))
    }

    /// Adds inputs and outputs of a late output to a record.
    pub fn extend(
        &mut self,
        id: RecordId,
        inputs: &[(ArtifactId, Relationship)],
        outputs: &[ArtifactId],
        seq: Seq,
    ) -> Result<Step, Error> {
        self.check(seq, inputs.len() + outputs.len())?;
        let node = self.require(id)?;
        self.newest = seq;
        let affected = link::add_inputs_and_outputs(self, node, inputs, outputs);
        Ok(link::relink(self, affected, seq))
    }

    /// Changes the verdict of a record. A record that fails loses its dependents to other
    /// producers, and one that no longer fails wins them back.
    pub fn set_status(&mut self, id: RecordId, status: RecordStatus, seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let node = self.require(id)?;
        self.newest = seq;
        let failed = self.marks.status(node) == RecordStatus::Failed;
        if failed == (status == RecordStatus::Failed) {
            self.marks.set_status(node, status);
            return Ok(Step::default());
        }
        let outputs: Vec<u32> = self.outputs_of(node).iter().collect();
        for artifact in &outputs {
            choice::remove_producer(self, node, *artifact);
        }
        self.marks.set_status(node, status);
        let mut affected = Vec::new();
        for artifact in outputs {
            if failed {
                choice::add_producer(self, node, artifact, &mut affected);
            } else {
                choice::insert_producer(self, node, artifact);
                affected.extend(choice::waiting_for(self, artifact));
            }
        }
        if !failed {
            affected.extend(choice::bound_to(self, node, None));
        }
        Ok(link::relink(self, affected, seq))
    }

    /// Applies an action to these records in one step, and returns exactly the flags that change.
    /// Applying it twice changes no flag.
    pub fn apply(&mut self, action: Action, ids: &[RecordId], seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let nodes = self.require_all(ids)?;
        self.newest = seq;
        let Ok(step) = flags::apply_to(self, action, &nodes, seq, None, &NeverCancelled);
        Ok(step)
    }

    /// Replaces the facts of records, which is needed when a statement is undone. The facts'
    /// positions may be of any earlier step. Returns exactly the flags that change.
    pub fn set_facts(&mut self, facts: &[(RecordId, Option<Fact>)], seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let facts: Vec<_> =
            facts.iter().map(|(id, fact)| Ok((self.require(*id)?, *fact))).collect::<Result<_, Error>>()?;
        self.newest = seq;
        Ok(flags::set_facts(self, facts))
    }

    /// The step that [`Self::apply`] would make; with a limit, only changes up to that distance.
    pub fn preview(&self, action: Action, ids: &[RecordId], limit: Option<u32>) -> Result<Step, Error> {
        let Ok(step) = self.queries().preview(action, ids, limit);
        step
    }

    /// Replaces an imported record by another one with the same id. Its statements stay, and so
    /// does the age of every edge that is the same as before: an edge that existed already voids no
    /// clear.
    pub fn revise(&mut self, record: &Record, seq: Seq) -> Result<Step, Error> {
        self.check(seq, record.inputs.len() + record.outputs.len())?;
        let node = self.require(record.id)?;
        self.newest = seq;
        Ok(revise::revise(self, node, record, seq))
    }

    /// Builds a graph of rows in any order. `newest` is the position of the last step.
    ///
    /// The returned step is empty unless the rows contradict each other: edges among them that
    /// would close a cycle are reported as refused, and refused edges that no longer close one as
    /// bound.
    pub fn restore(rows: impl IntoIterator<Item = RestoredRecord>, newest: Seq) -> Result<(Self, Step), Error> {
        restore::build(rows, newest)
    }

    /// Sets the position of the last step if it is known only after all rows have been read.
    /// Positions never go back.
    pub fn continue_after(&mut self, newest: Seq) {
        self.newest = self.newest.max(newest);
    }
}
