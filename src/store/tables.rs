//! The schema: above each table its key, its value, and what reads it.
//!
//! Numbers in keys are big-endian, so that keys sort as numbers. Task and record ids are UUIDs of
//! version 7, so rows made together lie together. Values are rows in the form of
//! [`codec`](super::codec) unless the comment says otherwise.

use redb::TableDefinition;

/// The format that this version writes. It is raised with every change of a table or a row that
/// older versions cannot read; see [`super::upgrade`].
pub(super) const FORMAT: u32 = 6;

pub(super) type Id = &'static [u8; 16];
pub(super) type IdSeq = &'static [u8; 24];
pub(super) type SeqId = &'static [u8; 24];
pub(super) type Bytes = &'static [u8];

/// Name of a fact about the store → its value: `format` (u32, little-endian),
/// `store_id` (16 bytes), `last_commit_at` (i64 microseconds, little-endian),
/// `journal_generation` (u64, little-endian), `changes` and `changes_from` (u64,
/// little-endian: the last commit that changed something, and the one after
/// which `CHANGES` has them all), `log_begin` (u64, little-endian: positions
/// of the log that an earlier store has used), `clocks` (see
/// [`clocks`](super::clocks)), `cascades_indexed` (u64, little-endian: the last
/// step that `CASCADE_STEPS` covers), `last_dead_letter` (u64, little-endian: the
/// last number that a dead letter was given), `newest_step` (u64, little-endian: the
/// newest step of the provenance graph). Read at start.
pub(super) const META: TableDefinition<'_, &'static str, Bytes> = TableDefinition::new("meta");

/// Project id → `Project`. Read at start and by the project lists.
pub(super) const PROJECTS: TableDefinition<'_, &'static str, Bytes> = TableDefinition::new("projects");

/// Project id → `Counters`: its tasks by phase. Read at start.
pub(super) const COUNTERS: TableDefinition<'_, &'static str, Bytes> = TableDefinition::new("counters");

/// Tier → `TierPause`, for tiers that are or were paused. Read at start.
pub(super) const TIER_PAUSES: TableDefinition<'_, &'static str, Bytes> = TableDefinition::new("tier_pauses");

/// `Cohort` → `Statistics`, from which completions are predicted; both in the form of
/// [`codec`](super::codec). Read at start.
pub(super) const ESTIMATES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("estimates");

/// Task id → `Submission`: the client's request, never changed. Read for status answers, dispatch
/// and re-runs; its keys are the list of all tasks.
pub(super) const SUBMISSIONS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("submissions");

/// Task id → `Task`, for tasks that have not ended: small, often changed.
/// Read at start.
pub(super) const OPEN_TASKS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("open_tasks");

/// Task id → `Task`, for tasks that have ended: written once. Read for the
/// status of tasks that are not in memory.
pub(super) const FINISHED_TASKS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("finished_tasks");

/// End in milliseconds of observed time (u64) and task id → status code (one byte) and project
/// id. Read by retention from the oldest, and at start for the newest day.
pub(super) const FINISHED_BY_END: TableDefinition<'_, SeqId, Bytes> = TableDefinition::new("finished_by_end");

/// Project id, status code, task id → nothing. Read by lists.
pub(super) const TASKS_BY_PROJECT: TableDefinition<'_, (&'static str, u8, Id), ()> =
    TableDefinition::new("tasks_by_project");

/// Task id of a re-run → id of the first task of its chain, which is no re-run itself. Read to find
/// the chain of a task.
pub(super) const RERUN_CHAIN: TableDefinition<'_, Id, Id> = TableDefinition::new("rerun_chain");

/// Id of the first task of a chain and id of one of its re-runs → nothing. Read by re-runs to find
/// the current form of their dependencies.
pub(super) const CHAIN_RERUNS: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("chain_reruns");

/// Task id and log position → `LogEntry` without its event. Read for a task's
/// history; lives as long as the task.
pub(super) const HISTORY: TableDefinition<'_, IdSeq, Bytes> = TableDefinition::new("history");

/// Position of the last entry of a row → several `LogEntry`s (see [`log`](super::log)). Read by
/// event streams and by the readers of `log_readers`; trimmed by age and by the positions of these
/// readers.
pub(super) const LOG: TableDefinition<'_, u64, Bytes> = TableDefinition::new("log");

/// Name of a reader of the log → `ReaderPosition`. Read at start.
pub(super) const LOG_READERS: TableDefinition<'_, &'static str, Bytes> = TableDefinition::new("log_readers");

/// Number of a commit → `ChangedKeys`: the keys of the rows it changed. Read by the replica in
/// Postgres; kept only while there is one, and trimmed by its position.
pub(super) const CHANGES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("changes");

/// Last log position of a commit → the moment (i64 microseconds of observed time), the number of
/// events it forgot (u32), and 16-byte hashes: first of the forgotten events, then of the accepted
/// ones; numbers little-endian. Read at start.
pub(super) const TAKEN_EVENTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("taken_events");

/// First log position of a submission → `IdempotencyRow`. Read at start.
pub(super) const IDEMPOTENCY: TableDefinition<'_, u64, Bytes> = TableDefinition::new("idempotency");

/// Record id → `Record`. Read by provenance queries.
pub(super) const RECORDS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("records");

/// Record id → `LineageRow`: what the provenance graph is built from. Read
/// whole at start.
pub(super) const LINEAGE: TableDefinition<'_, Id, Bytes> = TableDefinition::new("lineage");

/// Step of the graph → `CascadeRow`: the audit trail. Read
/// by its lists, and for the reason and time of a taint.
pub(super) const CASCADES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("cascades");

/// Cascade id and step of the graph → nothing: the steps of each cascade, without those of imports,
/// which all have one id. Read to show or undo a cascade. A start adds the steps that an earlier
/// version left out (see [`cascade_steps`](super::cascade_steps)).
pub(super) const CASCADE_STEPS: TableDefinition<'_, (&'static str, u64), ()> = TableDefinition::new("cascade_steps");

/// Record id → list of `Statement`, for records about which the fact in `LineageRow` does not say
/// everything; without a row the fact says everything. Its keys are read at start; a row is read
/// when a statement is made or undone.
pub(super) const STATEMENTS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("statements");

/// Step of the graph → `RollbackRow`: the effect of the rollback of that step on checkpoints. Read
/// when a cascade is undone.
pub(super) const ROLLBACKS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("rollbacks");

/// Step of the graph → the flags that it changed, which can be many, in the form of
/// [`cascade_changes`](super::cascade_changes). Read by the lists of the audit trail.
pub(super) const CASCADE_CHANGES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("cascade_changes");

/// Step of the graph → id of the record that it brought. Read where steps stand for records, which
/// is in the audit trail.
pub(super) const RECORDS_BY_STEP: TableDefinition<'_, u64, Id> = TableDefinition::new("records_by_step");

/// Artifact id and the id of a record that names it as an output → nothing.
/// Read by provenance queries that name an artifact.
pub(super) const RECORDS_BY_ARTIFACT: TableDefinition<'_, (&'static str, Id), ()> =
    TableDefinition::new("records_by_artifact");

/// Time in microseconds (u64) and id of a record → nothing. Read by the lists
/// of records, newest first.
pub(super) const RECORDS_BY_TIME: TableDefinition<'_, SeqId, ()> = TableDefinition::new("records_by_time");

/// Task id and the id of one of its records → nothing. Read by lists of a
/// task's records, and for tasks that were never here.
pub(super) const RECORDS_BY_TASK: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("records_by_task");

/// Number, in the order of arrival → `ImportedEvent`. Read by the lists of
/// the audit trail, and by exports.
pub(super) const IMPORTED_EVENTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("imported_events");

/// Id of an imported event → its number. Read by imports, which may come again.
pub(super) const IMPORTED_EVENT_IDS: TableDefinition<'_, &'static str, u64> =
    TableDefinition::new("imported_event_ids");

/// Checkpoint id → `Checkpoint`. Read by its id, and whole by exports.
pub(super) const CHECKPOINTS: TableDefinition<'_, &'static str, Bytes> = TableDefinition::new("checkpoints");

/// Project id, time of a checkpoint (microseconds), its id → nothing. Read by
/// the list of a project's checkpoints and by rollbacks.
pub(super) const CHECKPOINTS_BY_PROJECT: TableDefinition<'_, (&'static str, i64, &'static str), ()> =
    TableDefinition::new("checkpoints_by_project");

/// Project id → `CheckpointProgress`: tasks completed since its newest checkpoint; no row means
/// none. Read at start.
pub(super) const CHECKPOINT_PROGRESS: TableDefinition<'_, &'static str, Bytes> =
    TableDefinition::new("checkpoint_progress");

/// Task id → `Findings` of the Agent and the RAG service for its workers. Read for dispatch and
/// when an output arrives; lives as long as the task.
pub(super) const FINDINGS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("findings");

/// SHA-256 of a content → the content itself. Read when a client fetches an artifact's content.
pub(super) const CONTENTS: TableDefinition<'_, &'static [u8; 32], Bytes> = TableDefinition::new("contents");

/// SHA-256 of a content that is too large for a row → its length in bytes. The content is in a file
/// (see [`contents`](super::contents)). Read like `contents`, and to determine which files are
/// needed.
pub(super) const CONTENT_FILES: TableDefinition<'_, &'static [u8; 32], u64> = TableDefinition::new("content_files");

/// Task id → list of `Parked`, for open tasks with parked reports. Read at start.
pub(super) const PARKED: TableDefinition<'_, Id, Bytes> = TableDefinition::new("parked");

/// Number → `DeadLetter`. Read by the list of dead letters.
pub(super) const DEAD_LETTERS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("dead_letters");

/// Number in order of the removals → `DeadLetterRemoval`: dead letters that were requeued,
/// discarded or dropped. Read by the list of removals; trimmed by age and number. Stores of earlier
/// versions lack the table.
pub(super) const DEAD_LETTER_REMOVALS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("dead_letter_removals");

pub(super) const FORMAT_KEY: &str = "format";
pub(super) const STORE_ID_KEY: &str = "store_id";
pub(super) const LAST_COMMIT_KEY: &str = "last_commit_at";
pub(super) const GENERATION_KEY: &str = "journal_generation";
pub(super) const CHANGES_KEY: &str = "changes";
pub(super) const CHANGES_FROM_KEY: &str = "changes_from";
pub(super) const LOG_BEGIN_KEY: &str = "log_begin";
pub(super) const CLOCKS_KEY: &str = "clocks";
pub(super) const CASCADES_INDEXED_KEY: &str = "cascades_indexed";
pub(super) const LAST_DEAD_LETTER_KEY: &str = "last_dead_letter";
pub(super) const NEWEST_STEP_KEY: &str = "newest_step";

/// Key of a task id followed by a number.
pub(super) fn id_then(id: [u8; 16], number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&id);
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key of a number followed by a task id.
pub(super) fn then_id(number: u64, id: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&id);
    key
}

/// The number in front of an id.
pub(super) fn number_of(key: &[u8; 24]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The number after an id.
pub(super) fn number_after_id(key: &[u8; 24]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The id after a number.
pub(super) fn id_after_number(key: &[u8; 24]) -> [u8; 16] {
    key.last_chunk().copied().unwrap_or_default()
}
