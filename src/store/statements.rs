//! Statements of cascades about records, beyond the one fact in the row of a record, and effects of
//! rollbacks. Undoing a cascade needs both.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::codec::encode;
use super::{Error, tables};
use crate::lineage::Statement;
use crate::task::{CheckpointId, ProjectId, RecordId, Seq, Timestamp};

/// The effect of a rollback on checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRow {
    /// Its id in the audit trail.
    pub cascade_id: String,
    /// The checkpoint that was rolled back to.
    pub checkpoint: CheckpointId,
    /// The project of the checkpoint.
    pub project: ProjectId,
    /// When the rollback was made.
    pub at: Timestamp,
    /// When the project had been rolled back to that checkpoint before.
    pub rolled_back_before: Option<Timestamp>,
    /// Later checkpoints that were valid until then.
    pub invalidated: Vec<CheckpointId>,
    /// Later checkpoints that were already invalid.
    pub covered: Vec<CheckpointId>,
    /// Whether the rollback was undone.
    pub is_undone: bool,
}

/// Statements and rollbacks of a batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StatementRows {
    /// `None` if the fact of the record says everything.
    statements: Vec<(RecordId, Option<Bytes>)>,
    rollbacks: Vec<(Seq, Bytes)>,
}

impl StatementRows {
    pub(super) fn is_empty(&self) -> bool {
        let Self { statements, rollbacks } = self;
        statements.is_empty() && rollbacks.is_empty()
    }

    /// Records whose statements changed.
    pub(super) fn records(&self) -> impl Iterator<Item = RecordId> {
        self.statements.iter().map(|(id, _)| *id)
    }

    /// Steps of rollbacks.
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
