//! The tables of the copy: their columns, and the statements derived from them. Each table ends
//! with a column `change`, which is not listed here.

use uuid::Uuid;

use crate::task::Timestamp;

/// A table whose rows are upserted one by one, in the order in which a portion writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    Projects,
    TierPauses,
    Tasks,
    Records,
    Facts,
    Audit,
    ImportedEvents,
    Checkpoints,
    Contents,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Uuid,
    Text,
    Int,
    Time,
    Flag,
    /// A number of any size, transferred as text.
    Number,
    /// A JSON value, transferred as text.
    Json,
    Bytes,
}

/// A value of a row. `Null` fits every nullable column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Uuid(Uuid),
    Text(String),
    Int(i64),
    Time(Timestamp),
    Flag(bool),
    Number(String),
    Json(String),
    Bytes(Vec<u8>),
}

/// The values of one row in column order.
pub(super) type Row = Vec<Cell>;

/// All tables but that of the records, whose name is a setting.
pub const OTHER_TABLES: [&str; 12] = [
    "projects",
    "tier_pauses",
    "tasks",
    "taint_facts",
    "taint_events",
    "imported_taint_events",
    "artifact_contents",
    "artifact_dependencies",
    "checkpoints",
    "replication_state",
    "replication_rejects",
    "dats_schema_history",
];

type Columns = &'static [(&'static str, Kind)];

use Kind::{Bytes, Flag, Int, Json, Number, Text, Time};

const PROJECTS: Columns = &[
    ("id", Text),
    ("name", Text),
    ("description", Text),
    ("qa_profile", Text),
    ("max_concurrent", Int),
    ("created_at", Time),
    ("updated_at", Time),
    ("archived_at", Time),
    ("paused_at", Time),
    ("version", Int),
    ("document", Json),
];
const TIER_PAUSES: Columns = &[("tier", Text), ("paused_at", Time), ("resumed_at", Time), ("had_consumer", Flag)];
const TASKS: Columns = &[
    ("id", Kind::Uuid),
    ("project_id", Text),
    ("status", Text),
    ("phase", Text),
    ("priority", Text),
    ("tier", Text),
    ("domain", Text),
    ("mode", Text),
    ("description", Text),
    ("attempts", Int),
    ("created_at", Time),
    ("updated_at", Time),
    ("started_at", Time),
    ("completed_at", Time),
    ("parent_id", Kind::Uuid),
    ("rerun_of", Kind::Uuid),
    ("provenance_id", Kind::Uuid),
    ("error_code", Text),
    ("error", Text),
    ("version", Int),
    ("submission", Json),
    ("state", Json),
    ("findings", Json),
];
const RECORDS: Columns = &[
    ("id", Kind::Uuid),
    ("task_id", Text),
    ("project_id", Text),
    ("status", Text),
    ("model_used", Text),
    ("worker_id", Text),
    ("tier", Text),
    ("domain", Text),
    ("created_at", Time),
    ("started_at", Time),
    ("completed_at", Time),
    ("tokens_input", Number),
    ("tokens_output", Number),
    ("execution_time_ms", Number),
    ("confidence", Number),
    ("is_tainted", Flag),
    ("tainted_at", Time),
    ("tainted_reason", Text),
    ("is_suspect", Flag),
    ("outputs", Json),
    ("inputs_consumed", Json),
    ("verification", Json),
    ("record", Json),
    ("lineage", Json),
    ("statements", Json),
];
const FACTS: Columns = &[
    ("position", Int),
    ("at", Time),
    ("cascade_id", Text),
    ("action", Text),
    ("record_id", Kind::Uuid),
    ("artifact_id", Text),
    ("checkpoint_id", Text),
    ("reason", Text),
    ("source", Text),
    ("document", Json),
    ("rollback", Json),
];
const AUDIT: Columns = &[
    ("position", Int),
    ("place", Int),
    ("record_id", Kind::Uuid),
    ("from_flag", Text),
    ("to_flag", Text),
    ("depth", Int),
    ("through", Kind::Uuid),
];
const IMPORTED_EVENTS: Columns = &[
    ("number", Int),
    ("event_id", Text),
    ("artifact_id", Text),
    ("record_id", Kind::Uuid),
    ("cascade_id", Text),
    ("digest", Bytes),
    ("original", Text),
];
const CHECKPOINTS: Columns = &[
    ("id", Text),
    ("project_id", Text),
    ("created_at", Time),
    ("git_ref", Text),
    ("provenance_count", Int),
    ("artifact_count", Int),
    ("last_provenance_id", Text),
    ("last_task_id", Text),
    ("rag_state_ref", Text),
    ("work_product_ref", Text),
    ("description", Text),
    ("trigger", Text),
    ("is_valid", Flag),
    ("rolled_back_at", Time),
    ("document", Json),
];
const CONTENTS: Columns = &[("sha256", Bytes), ("content", Bytes)];

impl Table {
    pub(super) const ALL: [Self; 9] = [
        Self::Projects,
        Self::TierPauses,
        Self::Tasks,
        Self::Records,
        Self::Facts,
        Self::Audit,
        Self::ImportedEvents,
        Self::Checkpoints,
        Self::Contents,
    ];

    /// Returns the name of the table; the name of the records' table is a setting.
    pub(super) fn name(self, provenance_table: &str) -> &str {
        match self {
            Self::Projects => "projects",
            Self::TierPauses => "tier_pauses",
            Self::Tasks => "tasks",
            Self::Records => provenance_table,
            Self::Facts => "taint_facts",
            Self::Audit => "taint_events",
            Self::ImportedEvents => "imported_taint_events",
            Self::Checkpoints => "checkpoints",
            Self::Contents => "artifact_contents",
        }
    }

    pub(super) const fn columns(self) -> Columns {
        match self {
            Self::Projects => PROJECTS,
            Self::TierPauses => TIER_PAUSES,
            Self::Tasks => TASKS,
            Self::Records => RECORDS,
            Self::Facts => FACTS,
            Self::Audit => AUDIT,
            Self::ImportedEvents => IMPORTED_EVENTS,
            Self::Checkpoints => CHECKPOINTS,
            Self::Contents => CONTENTS,
        }
    }

    /// Returns how many of the first columns form the key.
    pub(super) const fn key_columns(self) -> usize {
        match self {
            Self::Audit => 2,
            Self::Projects
            | Self::TierPauses
            | Self::Tasks
            | Self::Records
            | Self::Facts
            | Self::ImportedEvents
            | Self::Checkpoints
            | Self::Contents => 1,
        }
    }

    pub(super) fn key(self, row: &Row) -> Vec<Cell> {
        row.iter().take(self.key_columns()).cloned().collect()
    }

    /// Returns the key as one text, which identifies a rejected row.
    pub(super) fn key_text(self, row: &Row) -> String {
        let parts: Vec<String> = row.iter().take(self.key_columns()).map(Cell::to_text).collect();
        parts.join(":")
    }

    /// Returns the statement that upserts many rows: one array for each column, then the commit
    /// number. It leaves rows of later commits alone.
    pub(super) fn upsert(self, provenance_table: &str) -> String {
        let (name, columns, keys) = (self.name(provenance_table), self.columns(), self.key_columns());
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let arrays: Vec<String> =
            columns.iter().enumerate().map(|(at, (_, kind))| format!("${}::{}[]", at + 1, kind.sent_as())).collect();
        let values: Vec<String> = columns.iter().map(|(name, kind)| format!("r.{name}{}", kind.cast())).collect();
        let updates: Vec<String> = names.iter().skip(keys).map(|name| format!("{name} = excluded.{name}, ")).collect();
        format!(
            "INSERT INTO {name} AS t ({all}, change) SELECT {values}, ${number}::bigint \
             FROM unnest({arrays}) AS r({all}) \
             ON CONFLICT ({key}) DO UPDATE SET {updates}change = excluded.change WHERE t.change <= excluded.change",
            all = names.join(", "),
            values = values.join(", "),
            number = columns.len() + 1,
            arrays = arrays.join(", "),
            key = names[..keys].join(", "),
            updates = updates.concat(),
        )
    }

    /// Returns the query of a page of rows in key order, after the key in the first parameters if
    /// `after` is set. Text is ordered by its bytes, as keys are in the store.
    pub(super) fn page(self, provenance_table: &str, after: bool, limit: usize) -> String {
        self.page_of(provenance_table, after, limit, |_| true)
    }

    /// Like `page`, for a schema that may be older: columns that it lacks are read as null.
    pub(super) fn page_of(
        self,
        provenance_table: &str,
        after: bool,
        limit: usize,
        has: impl Fn(&str) -> bool,
    ) -> String {
        let columns = self.columns();
        let value = |(name, kind): &(&str, Kind)| {
            if has(name) { format!("{name}{}", kind.read_as()) } else { format!("NULL::{} AS {name}", kind.sent_as()) }
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let ordered: Vec<String> =
            columns[..self.key_columns()].iter().map(|(name, kind)| format!("{name}{}", kind.collation())).collect();
        let places: Vec<String> = (1..=self.key_columns()).map(|at| format!("${at}")).collect();
        let filter =
            if after { format!("WHERE ({}) > ({})", ordered.join(", "), places.join(", ")) } else { String::new() };
        format!(
            "SELECT {} FROM {} {filter} ORDER BY {} LIMIT {limit}",
            values.join(", "),
            self.name(provenance_table),
            ordered.join(", "),
        )
    }
}

impl Kind {
    /// Returns the element type of the array that transfers the column.
    const fn sent_as(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text | Self::Number | Self::Json => "text",
            Self::Int => "bigint",
            Self::Time => "timestamptz",
            Self::Flag => "boolean",
            Self::Bytes => "bytea",
        }
    }

    const fn cast(self) -> &'static str {
        match self {
            Self::Number => "::numeric",
            Self::Json => "::jsonb",
            Self::Uuid | Self::Text | Self::Int | Self::Time | Self::Flag | Self::Bytes => "",
        }
    }

    const fn read_as(self) -> &'static str {
        match self {
            Self::Number | Self::Json => "::text",
            Self::Uuid | Self::Text | Self::Int | Self::Time | Self::Flag | Self::Bytes => "",
        }
    }

    const fn collation(self) -> &'static str {
        match self {
            Self::Text => " COLLATE \"C\"",
            Self::Uuid | Self::Number | Self::Json | Self::Int | Self::Time | Self::Flag | Self::Bytes => "",
        }
    }
}

impl Cell {
    /// Formats the value for people and for key texts; bytes in hexadecimal.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Uuid(id) => id.to_string(),
            Self::Text(text) | Self::Number(text) | Self::Json(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Time(time) => time.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Bytes(bytes) => hex::encode(bytes),
        }
    }

    /// Returns the approximate size on the wire in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Flag(_) => 4,
            Self::Int(_) | Self::Time(_) => 12,
            Self::Uuid(_) => 20,
            Self::Text(text) | Self::Number(text) | Self::Json(text) => 4 + text.len(),
            Self::Bytes(bytes) => 4 + bytes.len(),
        }
    }

    /// Compares two values; JSON regardless of the order of keys and the notation of numbers.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Json(one), Self::Json(other)) => one == other || super::json::same_text(one, other),
            _ => self == other,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<Uuid> for Cell {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u64> for Cell {
    /// Converts a counter of this service, which never reaches the limit.
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_every_column_once() {
        assert_eq!(
            Table::Audit.upsert("p"),
            "INSERT INTO taint_events AS t (position, place, record_id, from_flag, to_flag, depth, through, change) \
             SELECT r.position, r.place, r.record_id, r.from_flag, r.to_flag, r.depth, r.through, $8::bigint \
             FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::uuid[]) \
             AS r(position, place, record_id, from_flag, to_flag, depth, through) \
             ON CONFLICT (position, place) DO UPDATE SET record_id = excluded.record_id, \
             from_flag = excluded.from_flag, to_flag = excluded.to_flag, depth = excluded.depth, \
             through = excluded.through, change = excluded.change WHERE t.change <= excluded.change"
        );
        assert_eq!(
            Table::TierPauses.page("p", true, 5),
            "SELECT tier, paused_at, resumed_at, had_consumer FROM tier_pauses WHERE (tier COLLATE \"C\") > ($1) \
             ORDER BY tier COLLATE \"C\" LIMIT 5"
        );
    }

    #[test]
    fn json_is_compared_by_value() {
        let json = |text: &str| Cell::Json(text.to_owned());
        assert!(json(r#"{"a": 1, "b": [1.50, 1e16]}"#).is_same(&json(r#"{"b":[1.5,10000000000000000],"a":1}"#)));
        assert!(!json(r#"{"a": 1}"#).is_same(&json(r#"{"a": 2}"#)));
        assert!(!json("1").is_same(&Cell::Null));
    }
}
