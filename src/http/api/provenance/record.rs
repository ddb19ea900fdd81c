//! `GET /provenance/{id}`: a record, by its own id or by that of an artifact.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::engine::Engine;
use crate::http::api::app::Call;
use crate::http::api::provenance::walks;
use crate::http::server::headers;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::lineage::{Fact, Flag, RecordState, Relationship};
use crate::store::{Record, RecordInput, RecordOutput};
use crate::task::{ArtifactId, Domain, ProjectId, RecordId, RecordStatus, Tier, Timestamp, WorkerId, hex};

/// A record, under the column names of its table.
#[derive(Serialize, ToSchema)]
#[schema(as = Record)]
pub(in crate::http) struct RecordWire<'a> {
    /// Its id.
    id: RecordId,
    /// The task that made it; any text where it was imported, null where that names none.
    #[schema(value_type = Option<String>)]
    task_id: Option<Cow<'a, str>>,
    /// Its project.
    project_id: &'a ProjectId,
    /// Which attempt of the task; null where it was imported.
    attempt: Option<u32>,
    /// Its verdict.
    #[schema(value_type = RecordStatus)]
    status: &'static str,
    /// The model, as the worker says.
    model_used: Option<&'a str>,
    /// Who made it.
    worker_id: Option<&'a WorkerId>,
    /// The tier of that worker.
    tier: Option<&'a Tier>,
    /// What kind of work it was.
    domain: Option<&'a Domain>,
    /// When it was made.
    created_at: Time,
    /// When the work began.
    started_at: Option<Time>,
    /// When the work ended.
    completed_at: Option<Time>,
    /// Tokens that were read.
    tokens_input: Option<u64>,
    /// Tokens that were written.
    tokens_output: Option<u64>,
    /// How long it took.
    execution_time_ms: Option<u64>,
    /// How sure the worker is.
    confidence: Option<f64>,
    /// What was made.
    outputs: Vec<OutputWire<'a>>,
    /// Artifacts that were used.
    inputs_consumed: Vec<&'a ArtifactId>,
    /// Artifacts that were used or offered.
    inputs: Vec<InputWire<'a>>,
    /// What QA says.
    #[schema(value_type = Option<Object>)]
    verification: Option<&'a RawValue>,
    /// Whether it is bad.
    is_tainted: bool,
    /// When it was tainted.
    tainted_at: Option<Time>,
    /// Why.
    tainted_reason: Option<&'a str>,
    /// Whether it may be bad.
    is_suspect: bool,
    /// Both in one word.
    flag: Flag,
    /// For an imported record its id where it came from.
    imported_as: Option<&'a str>,
}

/// What is said of a record, and what follows for it.
#[derive(Debug, Clone)]
pub(in crate::http) struct Standing {
    pub(in crate::http) flag: Flag,
    pub(in crate::http) tainted_at: Option<Timestamp>,
    pub(in crate::http) tainted_reason: Option<String>,
}

impl Standing {
    /// That of a record of the graph, whose row is known.
    pub(in crate::http) async fn of_record(
        engine: &Engine,
        known: &RecordState,
        record: &Record,
    ) -> Result<Self, Problem> {
        if let Some(Fact::Tainted(step)) = known.fact
            && let Some(taint) = record.taint_brought_in(step)
        {
            // It was tainted where it came from: what was not told there is not known.
            return Ok(Self { flag: known.flag, tainted_at: taint.at, tainted_reason: taint.reason.clone() });
        }
        Self::of(engine, known).await
    }

    /// That of a record of the graph.
    pub(in crate::http) async fn of(engine: &Engine, known: &RecordState) -> Result<Self, Problem> {
        let taint = match known.fact {
            Some(Fact::Tainted(step)) => engine.provenance().cascade_row(step).await?,
            Some(Fact::Marked(_) | Fact::Cleared(_)) | None => None,
        };
        let (tainted_at, tainted_reason) = taint.map(|row| (row.at, row.reason)).unzip();
        Ok(Self { flag: known.flag, tainted_at, tainted_reason })
    }
}

/// An artifact that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordOutput)]
pub(in crate::http) struct OutputWire<'a> {
    /// Its id.
    artifact_id: &'a ArtifactId,
    /// What it is.
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    /// Where it is, as the worker says.
    location: Option<&'a str>,
    /// Its language.
    language: Option<&'a str>,
    /// As the worker gave it.
    checksum: Option<&'a str>,
    /// Its size.
    size_bytes: Option<u64>,
    /// Of the content, where that is kept here.
    content_sha256: Option<String>,
}

impl<'a> OutputWire<'a> {
    fn new(output: &'a RecordOutput) -> Self {
        let artifact = &output.artifact;
        Self {
            artifact_id: &artifact.id,
            kind: artifact.kind.as_deref(),
            location: artifact.path.as_deref(),
            language: artifact.language.as_deref(),
            checksum: artifact.checksum.as_deref(),
            size_bytes: artifact.size_bytes,
            content_sha256: output.content.as_ref().map(hex),
        }
    }
}

/// An artifact that was used or offered.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordInput)]
pub(in crate::http) struct InputWire<'a> {
    /// Its id.
    artifact_id: &'a ArtifactId,
    /// How it was used.
    relationship: Relationship,
}

impl<'a> RecordWire<'a> {
    pub(in crate::http) fn new(record: &'a Record, standing: &'a Standing) -> Self {
        let consumed = |input: &&RecordInput| input.relationship == Relationship::Consumed;
        let input =
            |input: &'a RecordInput| InputWire { artifact_id: &input.artifact, relationship: input.relationship };
        Self {
            id: record.id,
            task_id: task_id(record),
            project_id: &record.project,
            attempt: record.attempt,
            status: record.status.as_str(),
            model_used: record.model_used.as_deref(),
            worker_id: record.worker.as_ref(),
            tier: record.tier.as_ref(),
            domain: record.domain.as_ref(),
            created_at: Shown(record.created_at),
            started_at: record.started_at.map(Shown),
            completed_at: record.completed_at.map(Shown),
            tokens_input: record.tokens_input,
            tokens_output: record.tokens_output,
            execution_time_ms: record.execution_time_ms,
            confidence: record.confidence,
            outputs: record.outputs.iter().map(OutputWire::new).collect(),
            inputs_consumed: record.inputs.iter().filter(consumed).map(|input| &input.artifact).collect(),
            inputs: record.inputs.iter().map(input).collect(),
            verification: record.verification.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            is_tainted: standing.flag == Flag::Tainted,
            tainted_at: standing.tainted_at.map(Shown),
            tainted_reason: standing.tainted_reason.as_deref(),
            is_suspect: standing.flag == Flag::Suspect,
            flag: standing.flag,
            imported_as: record.imported.as_ref().map(|imported| imported.id.as_str()),
        }
    }
}

/// The task of a record, as it is known where the record was made; none where
/// an imported record names none.
pub(in crate::http) fn task_id(record: &Record) -> Option<Cow<'_, str>> {
    match &record.imported {
        None => Some(record.task.to_string().into()),
        Some(imported) => (!imported.task.is_empty()).then(|| imported.task.as_str().into()),
    }
}

/// `GET /provenance/{id}`
pub(in crate::http) async fn get(call: Call) -> Reply {
    call.require_no_query()?;
    let id = call.id();
    let missing = || Problem::provenance_not_found(&id);
    let engine = &call.app.engine;
    let (_, known) = walks::known(&engine.provenance().graph(), &id)?;
    let record = engine.provenance().record(known.id).await?.ok_or_else(missing)?;
    let standing = Standing::of_record(engine, &known, &record).await?;
    // A record has no version of its own: its bytes tell it apart.
    let body = serde_json::to_vec(&RecordWire::new(&record, &standing)).unwrap_or_default();
    let etag = headers::etag_of(&body);
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    Ok(reply::with_header(reply::rendered(StatusCode::OK, body), hyper::header::ETAG, etag))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::task::{OutputArtifact, RecordStatus, TaskId};

    #[test]
    fn the_wire_form_has_the_columns() {
        let at = Timestamp::from_micros(1_767_981_600_000_000);
        let artifact = |id: &str| ArtifactId::new(id).unwrap();
        let input = |id: &str, relationship| RecordInput { artifact: artifact(id), relationship };
        let output = OutputArtifact {
            id: artifact("a"),
            kind: Some("code".to_owned()),
            path: Some("f.py".to_owned()),
            language: None,
            checksum: None,
            size_bytes: Some(3),
        };
        let record = Record {
            id: RecordId::new(Uuid::from_u128(1)),
            task: TaskId::new(Uuid::from_u128(2)),
            project: ProjectId::new("p").unwrap(),
            attempt: Some(1),
            status: RecordStatus::HumanApproved,
            model_used: Some("m".to_owned()),
            worker: Some(WorkerId::new("w").unwrap()),
            tier: Some(Tier::new("small").unwrap()),
            domain: Some(Domain::new("analysis").unwrap()),
            created_at: at,
            started_at: Some(at),
            completed_at: Some(at),
            tokens_input: Some(1),
            tokens_output: None,
            execution_time_ms: Some(5),
            confidence: Some(0.5),
            outputs: vec![RecordOutput { artifact: output, content: Some([0xab; 32]) }],
            inputs: vec![input("i", Relationship::Consumed), input("j", Relationship::Referenced)],
            verification: Some("{\"score\":0.9}".to_owned()),
            imported: None,
        };
        let standing = Standing { flag: Flag::Tainted, tainted_at: Some(at), tainted_reason: Some("r".to_owned()) };
        assert_eq!(
            serde_json::to_value(RecordWire::new(&record, &standing)).unwrap(),
            json!({
                "id": "00000000-0000-0000-0000-000000000001", "task_id": "00000000-0000-0000-0000-000000000002",
                "project_id": "p", "attempt": 1, "status": "human_approved", "model_used": "m", "worker_id": "w",
                "tier": "small", "domain": "analysis", "created_at": "2026-01-09T18:00:00Z",
                "started_at": "2026-01-09T18:00:00Z", "completed_at": "2026-01-09T18:00:00Z", "tokens_input": 1,
                "tokens_output": null, "execution_time_ms": 5, "confidence": 0.5,
                "outputs": [{
                    "artifact_id": "a", "type": "code", "location": "f.py", "language": null, "checksum": null,
                    "size_bytes": 3, "content_sha256": "ab".repeat(32),
                }],
                "inputs_consumed": ["i"],
                "inputs": [
                    {"artifact_id": "i", "relationship": "consumed"}, {"artifact_id": "j", "relationship": "referenced"},
                ],
                "verification": {"score": 0.9}, "is_tainted": true, "tainted_at": "2026-01-09T18:00:00Z",
                "tainted_reason": "r", "is_suspect": false, "flag": "tainted", "imported_as": null,
            })
        );
    }
}
