//! What cascades have said of records, beyond the one fact that the row of a
//! record has, and what rollbacks have done besides. Both are what taking a
//! cascade back needs.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::codec::encode;
use super::{Error, tables};
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

    pub(super) fn put(&mut self, id: RecordId, statements: &[Statement]) -> Result<(), Error> {
        let row = if statements.is_empty() { None } else { Some(encode("statements", &statements)?.into()) };
        self.statements.push((id, row));
        Ok(())
    }

    pub(super) fn put_rollback(&mut self, step: Seq, row: &RollbackRow) -> Result<(), Error> {
        self.rollbacks.push((step, encode("rollbacks", row)?.into()));
        Ok(())
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

#[cfg(test)]
mod tests {
    use crate::store::Batch;

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
