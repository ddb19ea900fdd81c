//! Settings of the copy.

use std::time::Duration;

use super::address::Address;

/// Settings of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of the database.
    pub address: Address,
    /// Name of the table of provenance records.
    pub provenance_table: String,
    /// Maximum number of rows in one transaction.
    pub batch_rows: usize,
    /// Whether contents of artifacts are copied.
    pub contents: bool,
    /// Time limit of one statement.
    pub statement_timeout: Duration,
    /// Maximum pause between two attempts to reach the database.
    pub retry_max: Duration,
    /// Whether to replace the copy of another store that the database holds.
    pub adopt: bool,
}
