//! Records of the journal in format 5, and their conversion to a batch. The rows in them are of
//! format 5 and are converted with the tables that they belong to.
//!
//! The structs here are frozen. A part of [`Batch`] that has only gained fields at its end since
//! then is read by [`grown`]; other changes are converted here.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::codec::decode_grown;
use super::super::{Batch, Error, Trim, codec};
use crate::task::{CheckpointId, ProjectId, RecordId, Seq, Status, TaskId, Tier, Timestamp};

/// Size of a journal of format 5, in bytes.
pub(super) const BYTES: u64 = 32 * 1024 * 1024;

#[derive(Debug, Deserialize)]
struct BatchV5 {
    submissions: Vec<(TaskId, Bytes)>,
    tasks: Vec<TaskRowV5>,
    log: Vec<LogRowV5>,
    records: Vec<(RecordId, Bytes)>,
    lineage: Vec<(RecordId, Seq, Bytes)>,
    cascades: Vec<(Seq, Bytes, Bytes)>,
    checkpoints: CheckpointRowsV5,
    record_rows: RecordRowsV5,
    findings: Vec<(TaskId, Bytes)>,
    contents: NewContentsV5,
    projects: Vec<(ProjectId, Bytes)>,
    counters: Vec<(ProjectId, Bytes)>,
    tier_pauses: Vec<(Tier, Bytes)>,
    estimates: Vec<(Bytes, Option<Bytes>)>,
    log_readers: Vec<(String, Option<Bytes>)>,
    taken_events: Option<(Seq, Bytes)>,
    idempotency: Vec<(Seq, Bytes)>,
    dead_letters: Vec<(u64, Bytes)>,
    removed_dead_letters: Vec<u64>,
    removed_tasks: Vec<RemovedTaskV5>,
    trim: TrimV5,
    listing: ListingV5,
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct TaskRowV5 {
    id: TaskId,
    project: ProjectId,
    before: Option<Status>,
    after: Status,
    ended_at: Option<Timestamp>,
    bytes: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
struct LogRowV5 {
    seq: Seq,
    task: Option<TaskId>,
    bytes: Bytes,
    without_event: Option<Bytes>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RemovedTaskV5 {
    id: TaskId,
    project: ProjectId,
    status: Status,
    ended_at_ms: u64,
}

type CheckpointKeyV5 = (ProjectId, i64, CheckpointId);

#[derive(Debug, Serialize, Deserialize)]
struct CheckpointRowsV5 {
    kept: Vec<(CheckpointKeyV5, Bytes)>,
    removed: Vec<CheckpointKeyV5>,
    progress: Vec<(ProjectId, Option<Bytes>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordRowsV5 {
    unlisted: Vec<ListedV5>,
    listed: Vec<ListedV5>,
    events: Vec<(u64, String, Bytes)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ListedV5 {
    id: RecordId,
    task: TaskId,
    created_at: Timestamp,
    artifacts: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NewContentsV5 {
    rows: Vec<([u8; 32], Bytes)>,
    files: Vec<([u8; 32], u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TrimV5 {
    log: Option<Seq>,
    taken_events: Option<Seq>,
    idempotency: Option<Seq>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ListingV5 {
    list: Option<bool>,
    trim: Option<u64>,
    begin_after: Option<(u64, Seq)>,
}

/// The batch of a record in format 5.
pub(super) fn batch(record: &[u8]) -> Result<Batch, Error> {
    let old: BatchV5 = codec::decode("journal", record)?;
    Ok(Batch {
        submissions: old.submissions,
        tasks: all_grown(&old.tasks)?,
        log: all_grown(&old.log)?,
        records: old.records,
        lineage: old.lineage,
        cascades: grown(&old.cascades)?,
        checkpoints: grown(&old.checkpoints)?,
        record_rows: grown(&old.record_rows)?,
        findings: old.findings,
        contents: grown(&old.contents)?,
        projects: old.projects,
        counters: old.counters,
        tier_pauses: old.tier_pauses,
        estimates: old.estimates,
        log_readers: old.log_readers,
        taken_events: old.taken_events,
        idempotency: old.idempotency,
        dead_letters: old.dead_letters,
        removed_dead_letters: old.removed_dead_letters,
        removed_tasks: all_grown(&old.removed_tasks)?,
        trim: grown::<_, Trim>(&old.trim)?,
        listing: grown(&old.listing)?,
        at: old.at,
        ..Batch::default()
    })
}

/// Converts a part that may have gained fields at its end.
fn grown<Old: Serialize, New: DeserializeOwned>(old: &Old) -> Result<New, Error> {
    decode_grown("journal", &codec::encode("journal", old)?)
}

fn all_grown<Old: Serialize, New: DeserializeOwned>(old: &[Old]) -> Result<Vec<New>, Error> {
    old.iter().map(grown).collect()
}
