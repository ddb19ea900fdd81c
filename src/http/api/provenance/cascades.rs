//! `/cascades/{id}`: the effects of one taint, suspect or clear request or rollback, and their undoing.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{CascadeStep, CascadeSummary, CascadeUndo, Refusal, UndoRequest};
use crate::http::api::app::Call;
use crate::http::api::fields::limit_reason;
use crate::http::api::provenance::flags::{self, AffectedWire, Counts, Summary, first};
use crate::http::api::provenance::results::{Queries, QueryResult, ResultKind};
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::json::{FieldError, Findings};
use crate::lineage::Action;
use crate::store::Cause;
use crate::task::{ArtifactId, CheckpointId, ProjectId, RecordId, Seq, TaskId};

/// One step of a cascade.
#[derive(Serialize, ToSchema)]
#[schema(as = CascadeStep)]
pub(in crate::http) struct StepWire {
    /// The action: `taint`, `suspect`, `clear`, `rollback`, or `undo` where the cascade was undone.
    action: &'static str,
    /// The time of the step.
    timestamp: Time,
    /// The record that the request named; null for a rollback.
    provenance_id: Option<RecordId>,
    /// The artifact by which the request named the record; null if it named the record itself.
    artifact_id: Option<ArtifactId>,
    /// The checkpoint of a rollback; null for other actions.
    checkpoint_id: Option<CheckpointId>,
    /// The reason that the request gave.
    reason: String,
    /// The record or artifact that the change followed from.
    source_id: Option<String>,
    /// The number of records that the step named itself.
    named: usize,
    /// The number of flags that the step changed.
    changed: usize,
}

impl StepWire {
    fn new(step: CascadeStep) -> Self {
        let CascadeStep { row, named, flags: changed, .. } = step;
        let (provenance_id, artifact_id) = (row.cause.record(), row.cause.artifact().cloned());
        let (action, checkpoint_id, why) = match row.cause {
            Cause::Said { action: Action::Taint, .. } => ("taint", None, None),
            Cause::Said { action: Action::Mark, .. } => ("suspect", None, None),
            Cause::Said { action: Action::Clear, .. } => ("clear", None, None),
            Cause::Rollback { checkpoint, why } => ("rollback", Some(checkpoint), Some(why)),
            Cause::Undo => ("undo", None, None),
            Cause::Arrival(_) | Cause::Verdict(_) | Cause::Import(_) | Cause::Upgrade => ("follow", None, None),
        };
        let reason = why.unwrap_or(row.reason);
        let (timestamp, source_id) = (Time(row.at), row.source);
        Self { action, timestamp, provenance_id, artifact_id, checkpoint_id, reason, source_id, named, changed }
    }
}

/// The steps and effects of a cascade.
#[derive(Serialize, ToSchema)]
#[schema(as = CascadeDetails)]
pub(in crate::http) struct CascadeWire {
    /// The id of the cascade in the audit trail.
    cascade_id: String,
    /// The number of its facts that still hold, because they were neither cleared nor undone.
    standing: usize,
    /// The checkpoints that it made invalid.
    invalidated: Vec<CheckpointId>,
    /// A page of its steps, oldest first.
    #[schema(value_type = Vec<StepWire>)]
    steps: Entries,
    /// The number of steps.
    total: usize,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

fn not_found(id: &str) -> Problem {
    Refusal::CascadeNotFound(id.to_owned()).into()
}

/// Handles `GET /cascades/{id}`.
pub(in crate::http) async fn get(call: Call) -> Reply {
    let cascade_id = call.id();
    let scope = format!("cascade {cascade_id}");
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let after = query.cursor(&scope, cursor::decode_number);
    query.finish()?;
    let found =
        call.app.engine.provenance().cascade_summary(cascade_id.clone(), Seq(after.unwrap_or(0)), limit).await?;
    let CascadeSummary { steps, mut next, count, standing, invalidated } =
        found.ok_or_else(|| not_found(&cascade_id))?;
    let (mut entries, mut last) = (Entries::new(limit), None);
    for step in steps {
        let seq = step.seq;
        if !entries.push(&StepWire::new(step)) {
            next = last;
            break;
        }
        last = Some(seq);
    }
    let wire = CascadeWire {
        cascade_id,
        standing,
        invalidated,
        truncated: entries.is_truncated(),
        steps: entries,
        total: count,
        next_cursor: next.map(|Seq(step)| cursor::encode(&scope, &step.to_be_bytes())),
        limit,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// The reason and the options of an undo request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UndoRequest)]
pub(in crate::http) struct UndoRequestWire {
    /// The reason, for the audit trail. It must not be blank.
    reason: Option<String>,
    /// Report what would change, and change nothing. The default is false.
    dry_run: Option<bool>,
}

fn check(cascade_id: String, wire: UndoRequestWire, errors: Vec<FieldError>) -> Result<UndoRequest, Problem> {
    let mut found = Findings::from_errors(errors);
    if wire.reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        found.add("/reason", "must not be blank");
    }
    let reason = wire.reason.unwrap_or_else(|| format!("Cascade {cascade_id} was taken back"));
    limit_reason(&mut found, &reason);
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    Ok(UndoRequest { cascade_id, reason, dry_run: wire.dry_run.unwrap_or(false) })
}

/// The effect of undoing a cascade, or of a dry run.
#[derive(Serialize, ToSchema)]
#[schema(as = UndoneCascade)]
pub(in crate::http) struct UndoneWire<'a> {
    /// The id of the cascade, which is also that of this step in the audit trail.
    cascade_id: &'a str,
    /// Whether this was a dry run, which changes nothing.
    dry_run: bool,
    /// The number of removed facts: one for each named record whose fact still held.
    facts: usize,
    /// The counts of the flag changes.
    counts: Counts,
    /// The largest number of steps from a named record to an affected one.
    max_depth: u32,
    /// The first records that have their earlier verdict again.
    verdicts: &'a [RecordId],
    /// The first checkpoints that are valid again.
    checkpoints: &'a [CheckpointId],
    /// The first tasks whose records change.
    tasks: Vec<TaskId>,
    /// The first projects whose records change.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<String>,
    /// The records whose flag changes.
    #[serde(flatten)]
    affected: AffectedWire,
}

/// Returns the scope of the cursors of an undo request.
fn scope(id: &str) -> String {
    format!("taken back {id}")
}

/// Handles `POST /cascades/{id}/clear`.
pub(in crate::http) async fn clear(mut call: Call) -> Reply {
    let mut query = call.query(&["limit"]);
    let limit = query.limit();
    query.finish()?;
    let (wire, errors) = call.optional_json().await?;
    let request = check(call.id(), wire, errors)?;
    let dry_run = request.dry_run;
    let CascadeUndo { cascade_id, graph, step, facts, verdicts, checkpoints } =
        call.app.engine.provenance().undo(request).await?;
    let page = Queries::first(QueryResult { graph: graph.into(), what: ResultKind::Changes(step.flags) });
    let summary = flags::summarize_committed(page.found.clone(), limit).await;
    let is_cut = summary.is_cut() || verdicts.len().max(checkpoints.len()) > limit;
    let Summary { counts, max_depth, tasks, projects } = summary;
    let wire = UndoneWire {
        affected: AffectedWire::new(&call, &page, &scope(&cascade_id), limit).or_cut(is_cut),
        cascade_id: &cascade_id,
        dry_run,
        facts,
        counts,
        max_depth,
        verdicts: first(&verdicts, limit),
        checkpoints: first(&checkpoints, limit),
        tasks,
        projects,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// Handles `GET /cascades/{id}/affected`: further pages of the response to an undo request.
pub(in crate::http) fn affected(call: &Call) -> Reply {
    flags::affected_page(call, &scope(&call.id()), "is required: the next_cursor of an undo request for this cascade")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn checked(text: &str) -> Result<UndoRequest, Problem> {
        let (wire, errors) = json::decode_all(text.as_bytes(), 10_000).unwrap();
        check("c".to_owned(), wire, errors)
    }

    #[test]
    fn every_field_is_optional() {
        let asked = checked("{}").unwrap();
        assert_eq!((asked.reason.as_str(), asked.dry_run), ("Cascade c was taken back", false));
        assert!(checked(r#"{"reason":"r","dry_run":true}"#).unwrap().dry_run);
        assert!(checked(r#"{"reason":" "}"#).is_err() && checked(r#"{"reasn":"r"}"#).is_err());
    }
}
