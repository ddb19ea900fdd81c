//! The entries of the audit trail that a batch adds.

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::cascade_changes::FlagChanges;
use super::cascade_steps;
use super::cascades::CascadeRow;
use super::codec::{decode, encode};
use super::{Error, tables};
use crate::task::Seq;

/// Cascades of a batch, each with its encoded changes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CascadeRows(Vec<(Seq, Bytes, Bytes)>);

impl CascadeRows {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Total size of the changes, in bytes.
    pub(super) fn change_bytes(&self) -> usize {
        self.0.iter().map(|(_, _, changes)| changes.len()).sum()
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Seq> {
        self.0.iter().map(|(step, _, _)| *step)
    }

    pub(super) fn put(&mut self, step: Seq, row: &CascadeRow, changes: FlagChanges) -> Result<(), Error> {
        self.0.push((step, encode("cascades", row)?.into(), changes.into_bytes().into()));
        Ok(())
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut cascades = transaction.open_table(tables::CASCADES)?;
        let mut of_cascades = transaction.open_table(tables::CASCADE_CHANGES)?;
        for (step, head, changes) in &self.0 {
            cascades.insert(step.0, &head[..])?;
            of_cascades.insert(step.0, &changes[..])?;
        }
        let rows = self.0.iter().map(|(step, head, _)| Ok((*step, decode("cascades", head)?)));
        cascade_steps::index(transaction, rows)
    }
}
