//! `POST /checkpoints/{id}/rollback`: a project goes back to a checkpoint.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{Rollback, RollbackRequest};
use crate::http::api::app::Call;
use crate::http::api::checkpoints::resource::checkpoint_id;
use crate::http::api::provenance::flags::{self, AffectedWire, MAX_REASON_BYTES, Summary, first};
use crate::http::api::provenance::results::{Found, Walks, What};
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::json::{FieldError, Findings};
use crate::task::{CheckpointId, ProjectId, TaskId};

/// Why a project goes back, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollbackRequest)]
pub(in crate::http) struct AskedWire {
    /// For people; not blank.
    #[schema(required, nullable = false)]
    reason: Option<String>,
    /// Only tell what would happen.
    dry_run: Option<bool>,
    /// Submit the tasks whose results are undone again.
    requeue: Option<bool>,
}

fn check(checkpoint: CheckpointId, wire: AskedWire, errors: Vec<FieldError>) -> Result<RollbackRequest, Problem> {
    let mut found = Findings::from_errors(errors);
    let reason = found.required("/reason", wire.reason).unwrap_or_default();
    if found.is_empty() && reason.trim().is_empty() {
        found.add("/reason", "must not be blank");
    }
    if reason.len() > MAX_REASON_BYTES {
        found.add("/reason", format!("must be at most {MAX_REASON_BYTES} bytes, was {}", reason.len()));
    }
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    let (requeue, dry_run) = (wire.requeue.unwrap_or(false), wire.dry_run.unwrap_or(false));
    Ok(RollbackRequest { checkpoint, project: None, reason, requeue, dry_run })
}

/// A rollback in numbers.
#[derive(Serialize, ToSchema)]
#[schema(as = RollbackCounts)]
pub(in crate::http) struct CountsWire {
    /// Records that become tainted.
    tainted: usize,
    /// Records that become suspect.
    suspect: usize,
    /// Tasks whose records these are.
    tasks: usize,
    /// Projects whose records these are.
    projects: usize,
    /// Checkpoints that can no longer be rolled back to.
    invalidated: usize,
    /// Tasks at work that use what is undone.
    running_tasks: usize,
    /// Tasks that are cancelled: at work, or depending on what is undone.
    cancelled: usize,
    /// Tasks that stay open.
    still_open: usize,
    /// Tasks whose results are undone.
    to_rerun: usize,
    /// Tasks that were submitted again.
    requeued: usize,
    /// Tasks that could not be submitted again.
    not_requeued: usize,
}

impl CountsWire {
    fn new(summary: &Summary, rollback: &Rollback) -> Self {
        Self {
            tainted: summary.counts.tainted,
            suspect: summary.counts.suspect,
            tasks: summary.counts.tasks,
            projects: summary.counts.projects,
            invalidated: rollback.invalidated.len(),
            running_tasks: rollback.running.len(),
            cancelled: rollback.cancelled.len(),
            still_open: rollback.still_open.len(),
            to_rerun: rollback.to_rerun.len(),
            requeued: rollback.requeued.len(),
            not_requeued: rollback.not_requeued.len(),
        }
    }

    /// Whether a list has more than `limit`.
    fn exceeds(&self, limit: usize) -> bool {
        let tasks = self.tasks.max(self.projects).max(self.running_tasks).max(self.cancelled).max(self.still_open);
        tasks.max(self.invalidated).max(self.to_rerun).max(self.requeued).max(self.not_requeued) > limit
    }
}

/// A task that was submitted again.
#[derive(Serialize, ToSchema)]
#[schema(as = RequeuedTask)]
pub(in crate::http) struct RequeuedWire {
    /// The new task; null in a dry run.
    task_id: Option<TaskId>,
    /// The task whose result is undone.
    rerun_of: TaskId,
}

/// What a rollback did, or would do.
#[derive(Serialize, ToSchema)]
#[schema(as = Rollback)]
pub(in crate::http) struct RollbackWire<'a> {
    /// Where the project went back to.
    checkpoint_id: &'a CheckpointId,
    /// The project.
    project_id: &'a ProjectId,
    /// Of the entries in the audit trail. Null in a dry run.
    cascade_id: Option<&'a str>,
    /// Whether nothing was changed.
    dry_run: bool,
    /// All of it in numbers.
    counts: CountsWire,
    /// The longest way from an undone record to an affected one.
    max_depth: u32,
    /// The first tasks whose records change.
    tasks: Vec<TaskId>,
    /// The first projects whose records change.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<String>,
    /// The first checkpoints that can no longer be rolled back to.
    invalidated: &'a [CheckpointId],
    /// The first tasks at work that use what is undone.
    running_tasks: &'a [TaskId],
    /// The first tasks that were cancelled: at work, or depending on what is undone.
    cancelled: &'a [TaskId],
    /// The first tasks that stay open.
    still_open: &'a [TaskId],
    /// The first tasks whose results are undone.
    to_rerun: &'a [TaskId],
    /// The first tasks that were submitted again.
    requeued: Vec<RequeuedWire>,
    /// The first tasks that could not be submitted again.
    not_requeued: &'a [TaskId],
    /// Records whose flag changes.
    #[serde(flatten)]
    affected: AffectedWire,
}

/// `POST /checkpoints/{id}/rollback`
pub(in crate::http) async fn rollback(mut call: Call) -> Reply {
    let mut query = call.query(&["limit"]);
    let limit = query.limit();
    query.finish()?;
    let id = checkpoint_id(&call)?;
    let (wire, errors) = call.json().await?;
    let asked = check(id, wire, errors)?;
    let dry_run = asked.dry_run;
    let mut rollback = call.app.engine.checkpoints().roll_back(asked).await?;
    let changes = std::mem::take(&mut rollback.step.flags);
    let page = Walks::first(Found { graph: rollback.graph.clone().into(), what: What::Changes(changes) });
    let found = page.found.clone();
    let summary = if dry_run {
        call.app.walks.run(move |_| flags::summary(&found, limit)).await?
    } else {
        flags::summary_of_committed(found, limit).await
    };
    let counts = CountsWire::new(&summary, &rollback);
    let requeued = rollback.requeued.iter().take(limit);
    let affected = AffectedWire::new(&call, &page, &scope(&rollback.checkpoint.id), limit);
    let wire = RollbackWire {
        checkpoint_id: &rollback.checkpoint.id,
        project_id: &rollback.checkpoint.project,
        cascade_id: (!dry_run).then_some(&*rollback.cascade_id),
        dry_run,
        affected: affected.or_cut(counts.exceeds(limit)),
        counts,
        max_depth: summary.max_depth,
        tasks: summary.tasks,
        projects: summary.projects,
        invalidated: first(&rollback.invalidated, limit),
        running_tasks: first(&rollback.running, limit),
        cancelled: first(&rollback.cancelled, limit),
        still_open: first(&rollback.still_open, limit),
        to_rerun: first(&rollback.to_rerun, limit),
        requeued: requeued.map(|(rerun_of, task_id)| RequeuedWire { task_id: *task_id, rerun_of: *rerun_of }).collect(),
        not_requeued: first(&rollback.not_requeued, limit),
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// The scope of cursors behind the answer of a rollback.
fn scope(id: &CheckpointId) -> String {
    format!("rolled back {id}")
}

/// `GET /checkpoints/{id}/affected`: the pages behind the answer of a rollback.
pub(in crate::http) fn affected(call: &Call) -> Reply {
    let scope = scope(&checkpoint_id(call)?);
    flags::affected_page(call, &scope, "is required: the next_cursor of a rollback to this checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn checked(text: &str) -> Result<RollbackRequest, Vec<String>> {
        let (wire, errors) = json::decode_all(text.as_bytes(), 10_000).unwrap();
        check(CheckpointId::new("c").unwrap(), wire, errors).map_err(|problem| {
            let wire = serde_json::to_value(problem.wire("/")).unwrap();
            let errors = wire["errors"].as_array().unwrap().iter();
            errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
        })
    }

    #[test]
    fn a_reason_is_enough() {
        let asked = checked(r#"{"reason":"bad"}"#).unwrap();
        assert!(!asked.dry_run && !asked.requeue && asked.project.is_none());
        let asked = checked(r#"{"reason":"bad","dry_run":true,"requeue":true}"#).unwrap();
        assert!(asked.dry_run && asked.requeue);
        assert_eq!(checked(r#"{"reason":" "}"#).unwrap_err(), ["/reason"]);
        assert_eq!(checked("{}").unwrap_err(), ["/reason"]);
        assert_eq!(checked(r#"{"reason":"r","requeued":true}"#).unwrap_err(), ["/requeued"]);
    }
}
