//! Checkpoints: creation, lists and single checkpoints.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::NewCheckpoint;
use crate::http::api::app::Call;
use crate::http::api::projects::project;
use crate::http::server::cursor;
use crate::http::server::endpoint::BASE;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::json::{FieldError, Findings};
use crate::store::Checkpoint;
use crate::task::{CheckpointId, ProjectId, Timestamp};

pub(in crate::http) const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;
/// The longest reference to an external state, in bytes.
pub(in crate::http) const MAX_REFERENCE_BYTES: usize = 1024;

/// A point in time to which a project can be rolled back.
#[derive(Serialize, ToSchema)]
#[schema(as = Checkpoint)]
pub(in crate::http) struct CheckpointWire<'a> {
    /// The id of the checkpoint.
    id: &'a CheckpointId,
    /// The id of its project.
    project_id: &'a ProjectId,
    /// When the checkpoint was created: the point in time of a rollback.
    created_at: Time,
    /// The reference to the code that the request gave.
    git_ref: Option<&'a str>,
    /// The number of records of the project at that time.
    provenance_count: u64,
    /// The number of artifacts of the project at that time.
    artifact_count: u64,
    /// The newest record of the project at that time.
    last_provenance_id: Option<&'a str>,
    /// The newest task of the project at that time.
    last_task_id: Option<&'a str>,
    /// The reference to the state of RAG that the request gave.
    rag_state_ref: Option<&'a str>,
    /// The reference to the work products that the request gave.
    work_product_ref: Option<&'a str>,
    /// A description for people.
    description: Option<&'a str>,
    /// What created the checkpoint.
    trigger: &'a str,
    /// Whether a rollback to the checkpoint is possible. A rollback to an earlier checkpoint makes it invalid.
    is_valid: bool,
    /// When the project was last rolled back to the checkpoint.
    rolled_back_at: Option<Time>,
}

impl<'a> CheckpointWire<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            id: &checkpoint.id,
            project_id: &checkpoint.project,
            created_at: Time(checkpoint.created_at),
            git_ref: checkpoint.git_ref.as_deref(),
            provenance_count: checkpoint.provenance_count,
            artifact_count: checkpoint.artifact_count,
            last_provenance_id: checkpoint.last_provenance_id.as_deref(),
            last_task_id: checkpoint.last_task_id.as_deref(),
            rag_state_ref: checkpoint.rag_state_ref.as_deref(),
            work_product_ref: checkpoint.work_product_ref.as_deref(),
            description: checkpoint.description.as_deref(),
            trigger: &checkpoint.trigger,
            is_valid: checkpoint.is_valid,
            rolled_back_at: checkpoint.rolled_back_at.map(Time),
        }
    }
}

/// The fields of a new checkpoint.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCheckpoint)]
pub(in crate::http) struct BodyWire {
    /// A description for people.
    description: Option<String>,
    /// A reference to the code, such as a commit.
    git_ref: Option<String>,
    /// A reference to the state of RAG.
    rag_state_ref: Option<String>,
    /// A reference to the work products.
    work_product_ref: Option<String>,
}

fn check(body: BodyWire, errors: Vec<FieldError>) -> Result<NewCheckpoint, Problem> {
    let mut found = Findings::from_errors(errors);
    let length = body.description.as_ref().map_or(0, String::len);
    if length > MAX_DESCRIPTION_BYTES {
        found.add("/description", format!("must be at most {MAX_DESCRIPTION_BYTES} bytes, was {length}"));
    }
    let mut reference = |pointer: &str, text: Option<String>| {
        let fits =
            |text: &String| (1..=MAX_REFERENCE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        if !text.as_ref().is_none_or(fits) {
            found.add(pointer, format!("must be 1 to {MAX_REFERENCE_BYTES} bytes, without control characters"));
        }
        text
    };
    let new = NewCheckpoint {
        git_ref: reference("/git_ref", body.git_ref),
        rag_state_ref: reference("/rag_state_ref", body.rag_state_ref),
        work_product_ref: reference("/work_product_ref", body.work_product_ref),
        description: body.description,
    };
    if found.is_empty() { Ok(new) } else { Err(Problem::invalid(found.into_errors())) }
}

/// Handles `POST /projects/{id}/checkpoints`.
pub(in crate::http) async fn create(mut call: Call) -> Reply {
    call.require_no_query()?;
    let project = project::project_id(&call)?;
    let (body, errors) = call.optional_json().await?;
    let new = check(body, errors)?;
    let checkpoint = call.app.engine.checkpoints().create(project, new).await?;
    Ok(reply::created(&format!("{BASE}/checkpoints/{}", checkpoint.id), &CheckpointWire::new(&checkpoint)))
}

/// A page of checkpoints, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = CheckpointList)]
pub(in crate::http) struct ListWire {
    /// The checkpoints.
    #[schema(value_type = Vec<CheckpointWire<'static>>)]
    checkpoints: Entries,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

/// Handles `GET /projects/{id}/checkpoints`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    let project = project::find_project(&call).await?.id;
    let scope = format!("checkpoints {project}");
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let before = query.cursor(&scope, |place| decode_position(&place));
    query.finish()?;
    let page = call.app.engine.checkpoints().list(project, before, limit).await?;
    let mut checkpoints = Entries::new(limit);
    let shown = checkpoints.fill(page.entries.iter().map(CheckpointWire::new));
    let next_cursor = page.after(shown).map(|checkpoint| cursor::encode(&scope, &encode_position(checkpoint)));
    let truncated = page.is_truncated || checkpoints.is_truncated();
    Ok(reply::json(StatusCode::OK, &ListWire { checkpoints, next_cursor, limit, truncated }))
}

fn encode_position(checkpoint: &Checkpoint) -> Vec<u8> {
    [&checkpoint.created_at.as_micros().to_be_bytes()[..], checkpoint.id.as_str().as_bytes()].concat()
}

fn decode_position(bytes: &[u8]) -> Option<(Timestamp, CheckpointId)> {
    let (at, id) = bytes.split_first_chunk()?;
    let id = CheckpointId::new(std::str::from_utf8(id).ok()?).ok()?;
    Some((Timestamp::from_micros(i64::from_be_bytes(*at)), id))
}

/// Returns the id in the path. A text that is not a valid id names no checkpoint.
pub(in crate::http) fn checkpoint_id(call: &Call) -> Result<CheckpointId, Problem> {
    let id = call.id();
    CheckpointId::new(&id).map_err(|_| not_found(&id))
}

fn not_found(id: &str) -> Problem {
    Problem::not_found("checkpoint_not_found", "checkpoint", id)
}

/// Handles `GET /checkpoints/{id}`.
pub(in crate::http) async fn get(call: Call) -> Reply {
    call.require_no_query()?;
    let id = checkpoint_id(&call)?;
    let checkpoint = call.app.engine.checkpoints().get(id.clone()).await?.ok_or_else(|| not_found(id.as_str()))?;
    Ok(reply::json(StatusCode::OK, &CheckpointWire::new(&checkpoint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn checked(text: &str) -> Result<NewCheckpoint, Vec<String>> {
        let (body, errors) = json::decode_all(text.as_bytes(), 100_000).unwrap();
        check(body, errors).map_err(|problem| {
            let wire = serde_json::to_value(problem.wire("/")).unwrap();
            let errors = wire["errors"].as_array().unwrap().iter();
            errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
        })
    }

    #[test]
    fn every_field_is_optional_and_checked() {
        assert_eq!(checked("{}"), Ok(NewCheckpoint::default()));
        assert_eq!(checked(r#"{"git_ref":"v1"}"#).unwrap().git_ref.as_deref(), Some("v1"));
        let found = checked(r#"{"git_ref":"","rag_state_ref":"a\u0007","work_product_ref":7,"name":"x"}"#).unwrap_err();
        assert_eq!(found, ["/work_product_ref", "/name", "/git_ref", "/rag_state_ref"]);
        assert_eq!(checked(&format!(r#"{{"description":"{}"}}"#, "x".repeat(16_385))).unwrap_err(), ["/description"]);
    }

    #[test]
    fn positions_round_trip() {
        let place = (Timestamp::from_micros(-7), CheckpointId::new("é").unwrap());
        let bytes = [&place.0.as_micros().to_be_bytes()[..], place.1.as_str().as_bytes()].concat();
        assert_eq!(decode_position(&bytes), Some(place));
        assert_eq!((decode_position(&bytes[..8]), decode_position(b"short")), (None, None));
    }
}
