//! What cascades have said of records, beyond the one fact that the row of a
//! record has, and what rollbacks have done besides. Both are what taking a
//! cascade back needs.

use std::collections::HashSet;

use bytes::Bytes;
use redb::{ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::{Batch, Error, View, tables};
use crate::lineage::Statement;
use crate::task::{CheckpointId, ProjectId, RecordId, Seq, Timestamp};

/// What a rollback did to checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRow {
    /// The id under which the audit trail has it.
    pub cascade_id: String,
    /// The checkpoint that was gone back to.
    pub checkpoint: CheckpointId,
    /// Its project.
    pub project: ProjectId,
    /// When.
    pub at: Timestamp,
    /// When the project had been rolled back to that checkpoint before.
    pub rolled_back_before: Option<Timestamp>,
    /// Later checkpoints that were valid until then.
    pub invalidated: Vec<CheckpointId>,
    /// Later checkpoints that were not valid any more.
    pub covered: Vec<CheckpointId>,
    /// Whether it was taken back.
    pub is_undone: bool,
}

/// The rows of a batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StatementRows {
    /// `None`: the fact of the record says it all.
    statements: Vec<(RecordId, Option<Bytes>)>,
    rollbacks: Vec<(Seq, Bytes)>,
}

impl StatementRows {
    pub(super) fn is_empty(&self) -> bool {
        let Self { statements, rollbacks } = self;
        statements.is_empty() && rollbacks.is_empty()
    }

    /// Records that more, or less, was said of.
    pub(super) fn records(&self) -> impl Iterator<Item = RecordId> {
        self.statements.iter().map(|(id, _)| *id)
    }

    /// The steps of rollbacks.
    pub(super) fn steps(&self) -> impl Iterator<Item = Seq> {
        self.rollbacks.iter().map(|(step, _)| *step)
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.statements.is_empty() {
            let mut table = transaction.open_table(tables::STATEMENTS)?;
            for (id, row) in &self.statements {
                match row {
                    Some(row) => drop(table.insert(&id.to_bytes(), &row[..])?),
                    None => drop(table.remove(&id.to_bytes())?),
                }
            }
        }
        if !self.rollbacks.is_empty() {
            let mut table = transaction.open_table(tables::ROLLBACKS)?;
            for (step, row) in &self.rollbacks {
                table.insert(step.0, &row[..])?;
            }
        }
        Ok(())
    }
}

impl Batch {
    /// Keeps what was said of a record, oldest first; none: its fact says it all.
    pub fn put_statements(&mut self, id: RecordId, statements: &[Statement]) -> Result<(), Error> {
        let row = if statements.is_empty() { None } else { Some(encode("statements", &statements)?.into()) };
        self.statements.statements.push((id, row));
        Ok(())
    }

    /// Keeps what a rollback did to checkpoints.
    pub fn put_rollback(&mut self, step: Seq, row: &RollbackRow) -> Result<(), Error> {
        self.statements.rollbacks.push((step, encode("rollbacks", row)?.into()));
        Ok(())
    }
}

impl View {
    /// What was said of a record, oldest first; `None`: its fact says it all.
    pub fn statements(&self, id: RecordId) -> Result<Option<Vec<Statement>>, Error> {
        let Some(table) = self.table_if_made(tables::STATEMENTS)? else { return Ok(None) };
        table.get(&id.to_bytes())?.map(|row| decode("statements", row.value())).transpose()
    }

    /// The records whose fact does not say all that was said of them.
    pub fn stated_records(&self) -> Result<HashSet<RecordId>, Error> {
        let Some(table) = self.table_if_made(tables::STATEMENTS)? else { return Ok(HashSet::new()) };
        table.iter()?.map(|row| Ok(RecordId::from_bytes(*row?.0.value()))).collect()
    }

    /// What a rollback did to checkpoints; `None`: it was made by a version that did not keep it.
    pub fn rollback(&self, step: Seq) -> Result<Option<RollbackRow>, Error> {
        let Some(table) = self.table_if_made(tables::ROLLBACKS)? else { return Ok(None) };
        table.get(step.0)?.map(|row| decode("rollbacks", row.value())).transpose()
    }

    /// All rollbacks, in the order of their steps.
    pub fn rollbacks(&self) -> Result<Vec<(Seq, RollbackRow)>, Error> {
        let Some(table) = self.table_if_made(tables::ROLLBACKS)? else { return Ok(Vec::new()) };
        table
            .iter()?
            .map(|row| {
                let (step, row) = row?;
                Ok((Seq(step.value()), decode("rollbacks", row.value())?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_from_before_there_were_statements_is_read() {
        let mut batch = Batch::default();
        batch.put_content([1; 32], vec![1]);
        let record = batch.to_journal().unwrap();
        // Two empty lists, which that version did not write.
        let Some((before, [0, 0])) = record.split_last_chunk() else { panic!("{record:?}") };
        assert_eq!(Batch::of_journal(before).unwrap().to_journal().unwrap(), record);
    }
}
