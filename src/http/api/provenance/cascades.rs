//! `/cascades/{id}`: what one taint, mark or rollback did, and taking it back.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{CascadeStep, CascadeSummary, Refusal, UndoRequest, Undone};
use crate::http::api::app::Call;
use crate::http::api::provenance::flags::{self, AffectedWire, Counts, MAX_REASON_BYTES, Summary, first};
use crate::http::api::provenance::results::{Found, Walks, What};
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::json::{FieldError, Findings};
use crate::lineage::Action;
use crate::store::Cause;
use crate::task::{ArtifactId, CheckpointId, ProjectId, RecordId, Seq, TaskId};

/// One step of a cascade.
#[derive(Serialize, ToSchema)]
#[schema(as = CascadeStep)]
pub(in crate::http) struct StepWire {
    /// What was done: `taint`, `suspect`, `clear`, `rollback`, or `undo` where the cascade was taken back.
    action: &'static str,
    /// When.
    timestamp: Time,
    /// The record that it was said of; null for a rollback.
    provenance_id: Option<RecordId>,
    /// The artifact by which that was named.
    artifact_id: Option<ArtifactId>,
    /// The checkpoint of a rollback.
    checkpoint_id: Option<CheckpointId>,
    /// Why.
    reason: String,
    /// What it was concluded from.
    source_id: Option<String>,
    /// How many records it named itself.
    named: usize,
    /// How many flags it changed.
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
        let (timestamp, source_id) = (Shown(row.at), row.source);
        Self { action, timestamp, provenance_id, artifact_id, checkpoint_id, reason, source_id, named, changed }
    }
}

/// What a cascade has said and done.
#[derive(Serialize, ToSchema)]
#[schema(as = CascadeDetails)]
pub(in crate::http) struct CascadeWire {
    /// Its id in the audit trail.
    cascade_id: String,
    /// How many of its facts stand: neither cleared nor taken back.
    standing: usize,
    /// Checkpoints that can't be rolled back to because of it.
    invalidated: Vec<CheckpointId>,
    /// What was done under its id, the oldest first: a page.
    #[schema(value_type = Vec<StepWire>)]
    steps: Entries,
    /// How many steps there are.
    total: usize,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes: go on with the cursor.
    truncated: bool,
}

fn not_found(id: &str) -> Problem {
    Refusal::CascadeNotFound(id.to_owned()).into()
}

/// `GET /cascades/{id}`
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

/// Why a cascade is taken back, and how.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UndoRequest)]
pub(in crate::http) struct AskedWire {
    /// For people, in the audit trail.
    reason: Option<String>,
    /// Only tell what would change.
    dry_run: Option<bool>,
}

fn check(cascade_id: String, wire: AskedWire, errors: Vec<FieldError>) -> Result<UndoRequest, Problem> {
    let mut found = Findings::from_errors(errors);
    if wire.reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        found.add("/reason", "must not be blank");
    }
    let reason = wire.reason.unwrap_or_else(|| format!("Cascade {cascade_id} was taken back"));
    if reason.len() > MAX_REASON_BYTES {
        found.add("/reason", format!("must be at most {MAX_REASON_BYTES} bytes, was {}", reason.len()));
    }
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    Ok(UndoRequest { cascade_id, reason, dry_run: wire.dry_run.unwrap_or(false) })
}

/// What taking a cascade back did, or would do.
#[derive(Serialize, ToSchema)]
#[schema(as = UndoneCascade)]
pub(in crate::http) struct UndoneWire<'a> {
    /// The cascade, under whose id the audit trail has this, too.
    cascade_id: &'a str,
    /// Whether nothing was changed.
    dry_run: bool,
    /// How many facts are gone: one for each record that the cascade named and of which it still stood.
    facts: usize,
    /// All changes of flags in numbers.
    counts: Counts,
    /// The longest way from a record that was named to an affected one.
    max_depth: u32,
    /// The first records whose verdict is again what it was before the cascade.
    verdicts: &'a [RecordId],
    /// The first checkpoints that can be rolled back to again.
    checkpoints: &'a [CheckpointId],
    /// The first tasks whose records change.
    tasks: Vec<TaskId>,
    /// The first projects whose records change.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<String>,
    /// Records whose flag changes.
    #[serde(flatten)]
    affected: AffectedWire,
}

/// The scope of cursors behind the answer.
fn scope(id: &str) -> String {
    format!("taken back {id}")
}

/// `POST /cascades/{id}/clear`
pub(in crate::http) async fn clear(mut call: Call) -> Reply {
    let mut query = call.query(&["limit"]);
    let limit = query.limit();
    query.finish()?;
    let (wire, errors) = call.optional_json().await?;
    let request = check(call.id(), wire, errors)?;
    let dry_run = request.dry_run;
    let Undone { cascade_id, graph, step, facts, verdicts, checkpoints } =
        call.app.engine.provenance().undo(request).await?;
    let page = Walks::first(Found { graph: graph.into(), what: What::Changes(step.flags) });
    let summary = flags::summary_of_committed(page.found.clone(), limit).await;
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

/// `GET /cascades/{id}/affected`: the pages behind the answer.
pub(in crate::http) fn affected(call: &Call) -> Reply {
    flags::affected_page(call, &scope(&call.id()), "is required: the next_cursor of taking this cascade back")
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
    fn nothing_is_needed() {
        let asked = checked("{}").unwrap();
        assert_eq!((asked.reason.as_str(), asked.dry_run), ("Cascade c was taken back", false));
        assert!(checked(r#"{"reason":"r","dry_run":true}"#).unwrap().dry_run);
        assert!(checked(r#"{"reason":" "}"#).is_err() && checked(r#"{"reasn":"r"}"#).is_err());
    }
}
