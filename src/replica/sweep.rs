//! The last phase of a scan: deletes the rows that the store does not have.

use uuid::Uuid;

use super::Error;
use super::position::Position;
use super::session::Session;
use super::state::{self, signed};
use super::tables::Table;
use crate::store::CommitNumber;
use crate::task::Seq;

/// Maximum number of rows of a table deleted by one statement.
const CHUNK: i64 = 10_000;

impl Session {
    /// Deletes rows that are older than the scan, a bounded number per call. Returns whether there
    /// may be more; if not, the scan has ended.
    pub(super) async fn sweep(&mut self, store: Uuid, from: &Position) -> Result<bool, Error> {
        let limit = self.settings.client_timeout().saturating_mul(2);
        Self::within(limit, self.sweep_once(store, from)).await
    }

    async fn sweep_once(&mut self, store: Uuid, from: &Position) -> Result<bool, Error> {
        let names = self.settings.provenance_table.clone();
        let before = signed(from.commit.0);
        let transaction = self.client.transaction().await?;
        let mut removed = 0;
        let records = Table::Records.name(&names);
        let old = format!("SELECT id FROM {records} WHERE change < $1");
        let sql = format!(
            "DELETE FROM artifact_dependencies WHERE id IN (SELECT id FROM artifact_dependencies \
             WHERE artifact_id IN ({old}) OR depends_on IN ({old}) LIMIT $2)"
        );
        removed += transaction.execute(&sql, &[&before, &CHUNK]).await?;
        if removed == 0 {
            for table in Table::ALL {
                let name = table.name(&names);
                let sql = format!(
                    "DELETE FROM {name} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {name} WHERE change < $1 LIMIT $2))"
                );
                removed += transaction.execute(&sql, &[&before, &CHUNK]).await?;
            }
            removed += transaction.execute("DELETE FROM replication_rejects WHERE change < $1", &[&before]).await?;
        }
        let left = removed > 0;
        if !left {
            let to = Position { scan: None, ..from.clone() };
            state::advance(&transaction, store, from, &to, (CommitNumber(0), Seq(0))).await?;
        }
        transaction.commit().await?;
        Ok(left)
    }
}
