//! Changes of the graph: each is one step at a position of its own.

use super::cancellation::Endless;
use super::choice;
use super::flags::{self, Action};
use super::graph::Graph;
use super::link;
use super::record::{Error, Fact, Record, Relationship, Step};
use super::restore::{self, Restored};
use super::revise;
use crate::task::{ArtifactId, RecordId, RecordStatus, Seq};

impl Graph {
    /// Puts a record into the graph: binds its inputs, and to it the inputs
    /// that waited for it or should have had it.
    pub fn insert(&mut self, record: &Record, seq: Seq) -> Result<Step, Error> {
        self.check(seq, record.inputs.len() + record.outputs.len())?;
        self.check_new(record.id)?;
        self.newest = seq;
        let node = link::append_record(self, record, seq);
        let asked = link::name(self, node, &record.inputs, &record.outputs);
        Ok(link::relink(self, asked, seq))
    }

    /// Adds what a late output brought to a record.
    pub fn extend(
        &mut self,
        id: RecordId,
        inputs: &[(ArtifactId, Relationship)],
        outputs: &[ArtifactId],
        seq: Seq,
    ) -> Result<Step, Error> {
        self.check(seq, inputs.len() + outputs.len())?;
        let node = self.known(id)?;
        self.newest = seq;
        let asked = link::name(self, node, inputs, outputs);
        Ok(link::relink(self, asked, seq))
    }

    /// Gives a record another verdict. One that fails gives way to others as
    /// an input, one that no longer fails goes before them again.
    pub fn judge(&mut self, id: RecordId, status: RecordStatus, seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let node = self.known(id)?;
        self.newest = seq;
        let failed = self.marks.status(node) == RecordStatus::Failed;
        if failed == (status == RecordStatus::Failed) {
            self.marks.set_status(node, status);
            return Ok(Step::default());
        }
        let outputs: Vec<u32> = self.outputs_of(node).iter().collect();
        for artifact in &outputs {
            choice::withdraw(self, node, *artifact);
        }
        self.marks.set_status(node, status);
        let mut asked = Vec::new();
        for artifact in outputs {
            if failed {
                choice::offer(self, node, artifact, &mut asked);
            } else {
                choice::list(self, node, artifact);
                asked.extend(choice::waiting_for(self, artifact));
            }
        }
        if !failed {
            asked.extend(choice::bound_to(self, node, None));
        }
        Ok(link::relink(self, asked, seq))
    }

    /// Says the same of all these records in one step, and gives exactly the
    /// flags that change. Saying it twice changes no flag.
    pub fn apply(&mut self, action: Action, ids: &[RecordId], seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let nodes = self.each_once(ids)?;
        self.newest = seq;
        let Ok(step) = flags::apply_to(self, action, &nodes, seq, None, &Endless);
        Ok(step)
    }

    /// Gives records other facts, which follow when something that was said is
    /// taken back: their positions may be of any earlier step. Gives exactly the
    /// flags that change.
    pub fn restate(&mut self, facts: &[(RecordId, Option<Fact>)], seq: Seq) -> Result<Step, Error> {
        self.check(seq, 0)?;
        let facts: Vec<_> =
            facts.iter().map(|(id, fact)| Ok((self.known(*id)?, *fact))).collect::<Result<_, Error>>()?;
        self.newest = seq;
        Ok(flags::restate(self, facts))
    }

    /// What [`Self::apply`] would change; with a limit only as far away as that.
    pub fn preview(&self, action: Action, ids: &[RecordId], limit: Option<u32>) -> Result<Step, Error> {
        let Ok(step) = self.ask().preview(action, ids, limit);
        step
    }

    /// Puts another record in the place of the imported one with its id. What was said
    /// about it stays, and so does the age of every edge that is the same as
    /// before: an edge that was there already voids no clear.
    pub fn revise(&mut self, record: &Record, seq: Seq) -> Result<Step, Error> {
        self.check(seq, record.inputs.len() + record.outputs.len())?;
        let node = self.known(record.id)?;
        self.newest = seq;
        Ok(revise::revise(self, node, record, seq))
    }

    /// Builds the graph from rows in any order. `newest` is the position of
    /// the last step. The step that is given back is empty unless the rows
    /// contradict themselves: edges among them that would close a cycle are
    /// reported as refused, and refused ones that no longer close one as bound.
    pub fn restore(rows: impl IntoIterator<Item = Restored>, newest: Seq) -> Result<(Self, Step), Error> {
        restore::build(rows, newest)
    }

    /// Says that the last step was at `newest`, where that is known only once
    /// all rows have been read. Positions never go back.
    pub fn continue_after(&mut self, newest: Seq) {
        self.newest = self.newest.max(newest);
    }
}
