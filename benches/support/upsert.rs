//! Bare batch upserts: the rows of a table of the copy, written again into an equal table by
//! one statement.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// The values of a column, as text.
type Column = Vec<Option<String>>;

/// Rows of a table, and the statement that upserts them into an equal table.
pub(crate) struct Upserts {
    columns: Vec<String>,
    batches: Vec<Vec<Column>>,
    sql: String,
}

impl Upserts {
    /// Reads the rows of `table`, which has a column `id`, in batches, and creates an empty table
    /// with the same columns.
    pub(crate) async fn of(client: &Client, table: &str, batch: usize) -> Self {
        let sql = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                   WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let columns: Vec<(String, String)> =
            client.query(sql, &[&table]).await.expect("columns").iter().map(|row| (row.get(0), row.get(1))).collect();
        let texts: Vec<String> = columns.iter().map(|(name, _)| format!("{name}::text")).collect();
        let all = client.query(&format!("SELECT {} FROM {table}", texts.join(", ")), &[]).await.expect("rows");
        let column = |rows: &[tokio_postgres::Row], at: usize| rows.iter().map(|row| row.get(at)).collect();
        let batches = all.chunks(batch).map(|rows| (0..columns.len()).map(|at| column(rows, at)).collect());
        let batches = batches.collect();
        let create = format!("CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)");
        client.batch_execute(&create).await.expect("a table");
        let sql = statement(table, &columns);
        Self { columns: columns.into_iter().map(|(name, _)| name).collect(), batches, sql }
    }

    /// Upserts every batch and returns the number of rows.
    pub(crate) async fn run(&self, client: &Client) -> f64 {
        let statement = client.prepare(&self.sql).await.expect("a statement");
        let mut rows = 0.0;
        for batch in &self.batches {
            rows += execute(client, &statement, batch).await;
        }
        rows
    }

    /// Upserts `count` rows with new ids and the values of the first batch.
    pub(crate) async fn run_with_new_ids(&self, client: &Client, statement: &tokio_postgres::Statement, count: usize) {
        let values = self.batches.first().expect("rows");
        let column = |(name, values): (&String, &Column)| match name.as_str() {
            "id" => (0..count).map(|_| Some(uuid::Uuid::now_v7().to_string())).collect(),
            _ => values.iter().cycle().take(count).cloned().collect(),
        };
        let batch: Vec<Column> = self.columns.iter().zip(values).map(column).collect();
        execute(client, statement, &batch).await;
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }
}

async fn execute(client: &Client, statement: &tokio_postgres::Statement, batch: &[Column]) -> f64 {
    let parameters: Vec<&(dyn ToSql + Sync)> = batch.iter().map(|column| -> &(dyn ToSql + Sync) { column }).collect();
    let count = client.execute(statement, &parameters).await.expect("an upsert");
    f64::from(u32::try_from(count).expect("a count"))
}

fn statement(table: &str, columns: &[(String, String)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let arrays: Vec<String> = (1..=columns.len()).map(|at| format!("${at}::text[]")).collect();
    let values: Vec<String> = columns.iter().map(|(name, kind)| format!("r.{name}::{kind}")).collect();
    let updates: Vec<String> = names.iter().skip(1).map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO bare_{table} ({all}) SELECT {values} FROM unnest({arrays}) AS r({all}) \
         ON CONFLICT (id) DO UPDATE SET {updates}",
        all = names.join(", "),
        values = values.join(", "),
        arrays = arrays.join(", "),
        updates = updates.join(", "),
    )
}
