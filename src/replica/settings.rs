//! What the copy is told at start.

use std::time::Duration;

use super::address::Address;

/// What the copy is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the database is.
    pub address: Address,
    /// Name of the table of provenance records.
    pub provenance_table: String,
    /// Most rows in one transaction.
    pub batch_rows: usize,
    /// Whether contents are copied too.
    pub contents: bool,
    /// Longest time of one statement.
    pub statement_timeout: Duration,
    /// Longest pause between two tries to reach the database.
    pub retry_max: Duration,
    /// Whether to write although the database holds the copy of another
    /// store, which is then replaced.
    pub adopt: bool,
}
