//! Writes a portion in one transaction that also advances the position. A row that the database
//! refuses is found by bisection and stored as rejected.

use tokio_postgres::Transaction;
use uuid::Uuid;

use super::portion::Portion;
use super::position::Position;
use super::rows::Dependency;
use super::session::Session;
use super::state::{self, signed};
use super::tables::{Row, Table};
use super::{Error, cells};
use crate::planted::{self, Fault};
use crate::store::CommitNumber;

/// Source name of rejected dependencies.
pub(super) const DEPENDENCIES: &str = "artifact_dependencies";

/// Numbers of rows written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) rejected: u64,
}

/// Shared parameters of the statements of one transaction.
struct Writing<'a> {
    statements: &'a std::collections::HashMap<Table, tokio_postgres::Statement>,
    provenance_table: &'a str,
    number: CommitNumber,
    has_rejects: bool,
}

impl Session {
    /// Writes a portion and advances the position.
    pub(super) async fn write(&mut self, store: Uuid, from: &Position, portion: &Portion) -> Result<Written, Error> {
        let limit = self.settings.client_timeout();
        match Self::within(limit, self.write_whole(store, from, portion)).await {
            Err(Error::Row { reason, .. }) => {
                tracing::debug!(reason, "the database refused a row; searching for it");
                // Bisection needs about as many statements as there are refused rows, times the
                // logarithm of the portion's size.
                Self::within(limit.saturating_mul(4), self.write_by_bisection(store, from, portion)).await
            }
            written => written,
        }
    }

    async fn write_whole(&mut self, store: Uuid, from: &Position, portion: &Portion) -> Result<Written, Error> {
        let writing = Writing {
            statements: &self.upserts,
            provenance_table: &self.settings.provenance_table,
            number: portion.number,
            has_rejects: self.has_rejects,
        };
        let transaction = self.client.transaction().await?;
        let newest = (portion.number, portion.log_position);
        state::advance(&transaction, store, from, &portion.to, newest).await?;
        let mut written = Written::default();
        for (table, rows) in &portion.rows {
            if planted::is_now(Fault::WatermarkAhead) {
                continue;
            }
            writing.upsert(&transaction, *table, rows).await?;
            written.rows += count(rows.len());
        }
        writing.delete_removed(&transaction, portion).await?;
        writing.replace_dependencies(&transaction, portion).await?;
        transaction.commit().await?;
        written.rows += count(portion.removed_tasks.len() + portion.removed_checkpoints.len());
        Ok(written)
    }

    async fn write_by_bisection(&mut self, store: Uuid, from: &Position, portion: &Portion) -> Result<Written, Error> {
        self.has_rejects = true;
        let writing = Writing {
            statements: &self.upserts,
            provenance_table: &self.settings.provenance_table,
            number: portion.number,
            has_rejects: true,
        };
        let mut transaction = self.client.transaction().await?;
        // A deferred constraint would fail at the commit without naming the row.
        transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let newest = (portion.number, portion.log_position);
        state::advance(&transaction, store, from, &portion.to, newest).await?;
        let mut written = Written::default();
        for (table, rows) in &portion.rows {
            let rejected = writing.upsert_by_bisection(&mut transaction, *table, rows).await?;
            written.rows += count(rows.len()) - rejected;
            written.rejected += rejected;
        }
        writing.delete_removed(&transaction, portion).await?;
        written.rejected += writing.replace_dependencies_by_bisection(&mut transaction, portion).await?;
        transaction.commit().await?;
        Ok(written)
    }
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

impl Writing<'_> {
    async fn upsert(&self, transaction: &Transaction<'_>, table: Table, rows: &[Row]) -> Result<(), Error> {
        let Some(statement) = self.statements.get(&table) else { return Ok(()) };
        let arrays = cells::columns(table, rows);
        let number = signed(self.number.0);
        let mut parameters = cells::references(&arrays);
        parameters.push(&number);
        transaction.execute(statement, &parameters).await?;
        if self.has_rejects {
            let source = table.name(self.provenance_table);
            let keys: Vec<String> = rows.iter().map(|row| table.key_text(row)).collect();
            let sql = "DELETE FROM replication_rejects WHERE source = $1 AND key = ANY($2)";
            transaction.execute(sql, &[&source, &keys]).await?;
        }
        Ok(())
    }

    /// Upserts rows by bisection. Returns the number of rejected rows.
    async fn upsert_by_bisection(
        &self,
        transaction: &mut Transaction<'_>,
        table: Table,
        rows: &[Row],
    ) -> Result<u64, Error> {
        let (mut rejected, mut left) = (0, vec![rows]);
        while let Some(rows) = left.pop() {
            let attempt = transaction.transaction().await?;
            match self.upsert(&attempt, table, rows).await {
                Ok(()) => attempt.commit().await?,
                Err(Error::Row { reason, code }) => {
                    attempt.rollback().await?;
                    match rows {
                        [row] => {
                            self.reject(transaction, table, row, &reason, &code).await?;
                            rejected += 1;
                        }
                        rows => {
                            let (first, second) = rows.split_at(rows.len() / 2);
                            left.extend([second, first]);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rejected)
    }

    async fn reject(
        &self,
        transaction: &Transaction<'_>,
        table: Table,
        row: &Row,
        reason: &str,
        code: &str,
    ) -> Result<(), Error> {
        let (source, key) = (table.name(self.provenance_table), table.key_text(row));
        tracing::error!(table = source, key, reason, "the database refused a row; it waits for `dats verify --repair`");
        let cells: Vec<String> = row.iter().map(super::tables::Cell::to_text).collect();
        // The database may have refused the row for a text that it can't hold.
        let text = serde_json::Value::from(cells).to_string().replace("\\u0000", "\u{FFFD}");
        let (key, reason) = (key.replace('\0', "\u{FFFD}"), reason.replace('\0', "\u{FFFD}"));
        let sql = "INSERT INTO replication_rejects (source, key, reason, sqlstate, row_text, change) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, key) DO UPDATE SET \
                   reason = excluded.reason, sqlstate = excluded.sqlstate, row_text = excluded.row_text, \
                   rejected_at = now(), change = excluded.change";
        transaction.execute(sql, &[&source, &key, &reason, &code, &text, &signed(self.number.0)]).await?;
        Ok(())
    }

    async fn delete_removed(&self, transaction: &Transaction<'_>, portion: &Portion) -> Result<(), Error> {
        let (tasks, checkpoints) = (&portion.removed_tasks, &portion.removed_checkpoints);
        if tasks.is_empty() && checkpoints.is_empty() {
            return Ok(());
        }
        transaction.execute("DELETE FROM tasks WHERE id = ANY($1)", &[tasks]).await?;
        transaction.execute("DELETE FROM checkpoints WHERE id = ANY($1)", &[checkpoints]).await?;
        if self.has_rejects {
            let keys: Vec<String> = tasks.iter().map(Uuid::to_string).collect();
            let sql = "DELETE FROM replication_rejects WHERE source = 'tasks' AND key = ANY($1) \
                       OR source = 'checkpoints' AND key = ANY($2)";
            transaction.execute(sql, &[&keys, checkpoints]).await?;
        }
        Ok(())
    }

    async fn replace_dependencies(&self, transaction: &Transaction<'_>, portion: &Portion) -> Result<(), Error> {
        if portion.dependents.is_empty() {
            return Ok(());
        }
        self.delete_stale_dependencies(transaction, portion).await?;
        self.insert_dependencies(transaction, &portion.dependencies).await?;
        self.update_rejected_dependencies(transaction, &portion.dependencies).await
    }

    /// Replaces dependencies by bisection. Returns the number of rejected ones.
    async fn replace_dependencies_by_bisection(
        &self,
        transaction: &mut Transaction<'_>,
        portion: &Portion,
    ) -> Result<u64, Error> {
        if portion.dependents.is_empty() {
            return Ok(0);
        }
        self.delete_stale_dependencies(transaction, portion).await?;
        let (mut rejected, mut left) = (0, vec![&portion.dependencies[..]]);
        while let Some(rows) = left.pop() {
            let attempt = transaction.transaction().await?;
            match self.insert_dependencies(&attempt, rows).await {
                Ok(()) => attempt.commit().await?,
                Err(Error::Row { reason, code }) => {
                    attempt.rollback().await?;
                    match rows {
                        [one] => {
                            self.reject_dependency(transaction, *one, &reason, &code).await?;
                            rejected += 1;
                        }
                        rows => {
                            let (first, second) = rows.split_at(rows.len() / 2);
                            left.extend([second, first]);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.update_rejected_dependencies(transaction, &portion.dependencies).await?;
        Ok(rejected)
    }

    /// Deletes the dependencies that the records no longer have.
    async fn delete_stale_dependencies(&self, transaction: &Transaction<'_>, portion: &Portion) -> Result<(), Error> {
        let (of, on, kind) = split(&portion.dependencies);
        let sql = "DELETE FROM artifact_dependencies AS d WHERE d.artifact_id = ANY($1) AND NOT EXISTS \
                   (SELECT 1 FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS e(a, b, t) \
                   WHERE e.a = d.artifact_id AND e.b = d.depends_on AND e.t = d.dependency_type)";
        transaction.execute(sql, &[&portion.dependents, &of, &on, &kind]).await?;
        if self.has_rejects {
            let sql = "DELETE FROM replication_rejects WHERE source = $1 AND artifact_id = ANY($2)";
            transaction.execute(sql, &[&DEPENDENCIES, &portion.dependents]).await?;
        }
        Ok(())
    }

    /// Inserts dependencies between existing records. A dependency on a record that is not copied
    /// yet follows with the commit of that record, which lists both.
    async fn insert_dependencies(&self, transaction: &Transaction<'_>, all: &[Dependency]) -> Result<(), Error> {
        let (of, on, kind) = split(all);
        let sql = format!(
            "INSERT INTO artifact_dependencies (artifact_id, depends_on, dependency_type) \
             SELECT e.a, e.b, e.t FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS e(a, b, t) \
             WHERE EXISTS (SELECT 1 FROM {table} WHERE id = e.a) AND EXISTS (SELECT 1 FROM {table} WHERE id = e.b) \
             AND NOT EXISTS (SELECT 1 FROM artifact_dependencies d \
             WHERE d.artifact_id = e.a AND d.depends_on = e.b AND d.dependency_type = e.t) \
             ON CONFLICT DO NOTHING",
            table = self.provenance_table
        );
        transaction.execute(&sql, &[&of, &on, &kind]).await?;
        Ok(())
    }

    async fn reject_dependency(
        &self,
        transaction: &Transaction<'_>,
        (of, on, kind): Dependency,
        reason: &str,
        code: &str,
    ) -> Result<(), Error> {
        let key = format!("{of}:{on}:{kind}");
        tracing::error!(
            table = DEPENDENCIES,
            key,
            reason,
            "the database refused a row; it waits for `dats verify --repair`"
        );
        let sql = "INSERT INTO replication_rejects \
                   (source, key, artifact_id, depends_on, dependency_type, reason, sqlstate, row_text, change) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8) ON CONFLICT (source, key) DO NOTHING";
        let number = signed(self.number.0);
        transaction.execute(sql, &[&DEPENDENCIES, &key, &of, &on, &kind, &reason, &code, &number]).await?;
        Ok(())
    }

    /// Stores dependencies of rejected records as rejected, and inserts those whose records have
    /// been accepted since.
    async fn update_rejected_dependencies(
        &self,
        transaction: &Transaction<'_>,
        all: &[Dependency],
    ) -> Result<(), Error> {
        if !self.has_rejects {
            return Ok(());
        }
        let (of, on, kind) = split(all);
        let table = self.provenance_table;
        let sql = format!(
            "INSERT INTO replication_rejects \
             (source, key, artifact_id, depends_on, dependency_type, reason, sqlstate, row_text, change) \
             SELECT $4, e.a || ':' || e.b || ':' || e.t, e.a, e.b, e.t, \
             'it needs a record that was refused', '23503', '', $5 \
             FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS e(a, b, t) \
             WHERE EXISTS (SELECT 1 FROM replication_rejects r WHERE r.source = '{table}' \
             AND r.key IN (e.a::text, e.b::text)) AND NOT EXISTS (SELECT 1 FROM artifact_dependencies d \
             WHERE d.artifact_id = e.a AND d.depends_on = e.b AND d.dependency_type = e.t) \
             ON CONFLICT (source, key) DO NOTHING"
        );
        let number = signed(self.number.0);
        transaction.execute(&sql, &[&of, &on, &kind, &DEPENDENCIES, &number]).await?;
        let sql = format!(
            "WITH free AS (DELETE FROM replication_rejects r USING {table} a, {table} b \
             WHERE r.source = $1 AND r.sqlstate = '23503' AND a.id = r.artifact_id AND b.id = r.depends_on \
             RETURNING r.artifact_id, r.depends_on, r.dependency_type) \
             INSERT INTO artifact_dependencies (artifact_id, depends_on, dependency_type) \
             SELECT * FROM free ON CONFLICT DO NOTHING"
        );
        transaction.execute(&sql, &[&DEPENDENCIES]).await?;
        Ok(())
    }
}

fn split(all: &[Dependency]) -> (Vec<Uuid>, Vec<Uuid>, Vec<&'static str>) {
    let of = all.iter().map(|(of, _, _)| *of).collect();
    let on = all.iter().map(|(_, on, _)| *on).collect();
    let kind = all.iter().map(|(_, _, kind)| *kind).collect();
    (of, on, kind)
}
