//! Conversion of the store's rows to the copy's rows.

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::tables::{Cell, Row};
use crate::lineage::{Action, Fact, Flag, Graph, Link, Relationship, Statement};
use crate::store::{
    self, CascadeRow, Cause, ChangeRow, Checkpoint, ImportedEvent, LineageRow, Project, Record, RollbackRow, TierPause,
};
use crate::task::{
    ArtifactId, CheckpointId, Domain, Findings, Mode, QaProfile, RecordId, Seq, State, Submission, Task, TaskId, Tier,
    WorkerId,
};

/// A dependency: the consuming record, the producing record, and the kind of use.
pub(super) type Dependency = (Uuid, Uuid, &'static str);

pub(super) fn record_uuid(id: RecordId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

pub(super) fn task_uuid(id: TaskId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

fn document(table: &'static str, value: &impl Serialize) -> Result<Cell, store::Error> {
    let text = serde_json::to_string(value);
    text.map(Cell::Json).map_err(|error| store::Error::Corrupt { table, detail: error.to_string() })
}

pub(super) fn project(project: &Project) -> Result<Row, store::Error> {
    Ok(vec![
        project.id.as_str().into(),
        project.name.as_str().into(),
        project.description.as_deref().into(),
        project.qa_profile.as_ref().map(QaProfile::as_str).into(),
        project.max_concurrent.into(),
        project.created_at.into(),
        project.updated_at.into(),
        project.archived_at.into(),
        project.paused_at.into(),
        project.version.into(),
        document("projects", project)?,
    ])
}

pub(super) fn tier_pause(tier: &Tier, pause: TierPause) -> Row {
    vec![tier.as_str().into(), pause.paused_at.into(), pause.resumed_at.into(), Cell::Flag(pause.had_consumer)]
}

/// Converts a task with its submission and the findings of routing.
pub(super) fn task(task: &Task, submission: &Submission, findings: Option<&Findings>) -> Result<Row, store::Error> {
    let error = match &task.state {
        State::Failed { error, .. } => Some(error),
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. }
        | State::Cancelled { .. } => None,
    };
    Ok(vec![
        task_uuid(task.id).into(),
        task.project.as_str().into(),
        task.status().as_str().into(),
        task.phase().as_str().into(),
        task.priority.as_str().into(),
        task.tier.as_str().into(),
        task.domain.as_str().into(),
        task.mode.as_ref().map(Mode::as_str).into(),
        submission.description.as_str().into(),
        task.attempts().into(),
        task.created_at.into(),
        task.updated_at.into(),
        task.started_at.into(),
        task.ended_at().into(),
        task.parent.map(task_uuid).into(),
        task.rerun_of.map(task_uuid).into(),
        task.newest_record().map(record_uuid).into(),
        error.map(|error| error.code.as_str()).into(),
        error.map(|error| error.message.as_str()).into(),
        task.version.into(),
        document("submissions", &without_description(submission)?)?,
        document("tasks", task)?,
        findings.map(|findings| document("findings", findings)).transpose()?.unwrap_or(Cell::Null),
    ])
}

/// Serializes a submission without its description, which has a column of its own because it can be
/// long.
fn without_description(submission: &Submission) -> Result<Value, store::Error> {
    let value = serde_json::to_value(submission);
    let mut value = value.map_err(|error| store::Error::Corrupt { table: "submissions", detail: error.to_string() })?;
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("description");
    }
    Ok(value)
}

/// Converts an imported entry of another audit trail.
pub(super) fn imported_event(number: u64, event: ImportedEvent) -> Row {
    vec![
        number.into(),
        Cell::Text(event.id),
        event.artifact.as_ref().map(ArtifactId::as_str).into(),
        event.record.map(record_uuid).into(),
        Cell::Text(event.cascade),
        Cell::Bytes(event.digest.to_vec()),
        Cell::Text(event.original),
    ]
}

/// Converts a provenance record with its state in the graph. `taint` is the cascade that tainted
/// it; `statements` are all statements about it, if its fact alone does not tell them.
pub(super) fn record(
    record: &Record,
    lineage: &LineageRow,
    flag: Flag,
    taint: Option<(Seq, &CascadeRow)>,
    statements: Option<&[Statement]>,
) -> Result<Row, store::Error> {
    let (outputs, consumed) = (outputs(record), consumed(record));
    let own = record.task.to_string();
    let task = record.imported.as_ref().map_or(own.as_str(), |imported| imported.task.as_str());
    let (tainted_at, tainted_reason) = match taint.and_then(|(step, _)| record.taint_brought_in(step)) {
        Some(brought) => (brought.at, brought.reason.as_deref()),
        None => taint.map(|(_, row)| (row.at, row.reason.as_str())).unzip(),
    };
    Ok(vec![
        record_uuid(record.id).into(),
        task.into(),
        record.project.as_str().into(),
        record.status.as_str().into(),
        record.model_used.as_deref().into(),
        record.worker.as_ref().map(WorkerId::as_str).into(),
        record.tier.as_ref().map(Tier::as_str).into(),
        record.domain.as_ref().map(Domain::as_str).into(),
        record.created_at.into(),
        record.started_at.into(),
        record.completed_at.into(),
        number(record.tokens_input),
        number(record.tokens_output),
        number(record.execution_time_ms),
        number(record.confidence),
        Cell::Flag(flag == Flag::Tainted),
        tainted_at.into(),
        tainted_reason.into(),
        Cell::Flag(flag == Flag::Suspect),
        document("records", &outputs)?,
        document("records", &consumed)?,
        record.verification.clone().map_or(Cell::Null, Cell::Json),
        document("records", record)?,
        document("lineage", lineage)?,
        statements.map(|statements| document("statements", &statements)).transpose()?.unwrap_or(Cell::Null),
    ])
}

fn number(value: Option<impl ToString>) -> Cell {
    value.map_or(Cell::Null, |value| Cell::Number(value.to_string()))
}

fn outputs(record: &Record) -> Vec<Value> {
    let output = |output: &store::RecordOutput| {
        let artifact = &output.artifact;
        json!({
            "artifact_id": artifact.id.as_str(),
            "type": artifact.kind,
            "location": artifact.path,
            "language": artifact.language,
            "checksum": artifact.checksum,
            "size_bytes": artifact.size_bytes,
        })
    };
    record.outputs.iter().map(output).collect()
}

fn consumed(record: &Record) -> Vec<&str> {
    let consumed = record.inputs.iter().filter(|input| input.relationship == Relationship::Consumed);
    consumed.map(|input| input.artifact.as_str()).collect()
}

/// Returns the dependencies of a record, each once for each kind of use.
pub(super) fn dependencies(graph: &Graph, id: RecordId) -> Vec<Dependency> {
    let Some(node) = graph.find(id) else { return Vec::new() };
    let bound = graph.inputs(node).filter_map(|(_, relationship, link)| {
        let Link::Bound(dependency) = link else { return None };
        let dependency = graph.record(dependency)?.id;
        Some((record_uuid(id), record_uuid(dependency), relationship_word(relationship)))
    });
    let mut dependencies: Vec<Dependency> = bound.collect();
    dependencies.sort_unstable();
    dependencies.dedup();
    dependencies
}

const fn relationship_word(relationship: Relationship) -> &'static str {
    match relationship {
        Relationship::Consumed => "consumed",
        Relationship::Referenced => "referenced",
    }
}

/// Returns the step that tainted a record, if it is tainted.
pub(super) const fn tainted_at(fact: Option<Fact>) -> Option<Seq> {
    match fact {
        Some(Fact::Tainted(at)) => Some(at),
        Some(Fact::Marked(_) | Fact::Cleared(_)) | None => None,
    }
}

/// Converts a cascade step without its flag changes, which are rows of their own.
pub(super) fn fact(step: Seq, row: &CascadeRow, rollback: Option<&RollbackRow>) -> Result<Row, store::Error> {
    let (action, record, checkpoint) = match &row.cause {
        Cause::Said { action: Action::Taint, record, .. } => ("taint", Some(*record), None),
        Cause::Said { action: Action::Mark, record, .. } => ("mark", Some(*record), None),
        Cause::Said { action: Action::Clear, record, .. } => ("clear", Some(*record), None),
        Cause::Rollback { checkpoint, .. } => ("rollback", None, Some(checkpoint)),
        Cause::Arrival(record) => ("arrival", Some(*record), None),
        Cause::Verdict(record) => ("verdict", Some(*record), None),
        Cause::Import(record) => ("import", Some(*record), None),
        Cause::Upgrade => ("upgrade", None, None),
        Cause::Undo => ("undo", None, None),
    };
    Ok(vec![
        step.0.into(),
        row.at.into(),
        row.cascade_id.as_str().into(),
        action.into(),
        record.map(record_uuid).into(),
        row.cause.artifact().map(ArtifactId::as_str).into(),
        checkpoint.map(CheckpointId::as_str).into(),
        row.reason.as_str().into(),
        row.source.as_deref().into(),
        document("cascades", row)?,
        rollback.map(|rollback| document("rollbacks", rollback)).transpose()?.unwrap_or(Cell::Null),
    ])
}

pub(super) fn checkpoint(checkpoint: &Checkpoint) -> Result<Row, store::Error> {
    Ok(vec![
        checkpoint.id.as_str().into(),
        checkpoint.project.as_str().into(),
        checkpoint.created_at.into(),
        checkpoint.git_ref.as_deref().into(),
        checkpoint.provenance_count.into(),
        checkpoint.artifact_count.into(),
        checkpoint.last_provenance_id.as_deref().into(),
        checkpoint.last_task_id.as_deref().into(),
        checkpoint.rag_state_ref.as_deref().into(),
        checkpoint.work_product_ref.as_deref().into(),
        checkpoint.description.as_deref().into(),
        checkpoint.trigger.as_str().into(),
        Cell::Flag(checkpoint.is_valid),
        checkpoint.rolled_back_at.into(),
        document("checkpoints", checkpoint)?,
    ])
}

pub(super) fn audit(step: Seq, place: u64, change: &ChangeRow) -> Row {
    vec![
        step.0.into(),
        place.into(),
        record_uuid(change.record).into(),
        flag_word(change.from).into(),
        flag_word(change.to).into(),
        change.depth.into(),
        change.through.map(record_uuid).into(),
    ]
}

const fn flag_word(flag: Flag) -> &'static str {
    match flag {
        Flag::Clean => "clean",
        Flag::Suspect => "suspect",
        Flag::Tainted => "tainted",
    }
}

pub(super) fn content(hash: [u8; 32], content: Vec<u8>) -> Row {
    vec![Cell::Bytes(hash.to_vec()), Cell::Bytes(content)]
}
