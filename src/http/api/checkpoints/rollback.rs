//! `POST /checkpoints/{id}/rollback`: the rollback of a project to a checkpoint.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{Rollback, RollbackRequest};
use crate::http::api::app::Call;
use crate::http::api::checkpoints::checkpoint::checkpoint_id;
use crate::http::api::fields::required_reason;
use crate::http::api::provenance::flags::{self, AffectedWire, Summary, first};
use crate::http::api::provenance::results::{Queries, QueryResult, ResultKind};
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::json::{FieldError, Findings};
use crate::task::{CheckpointId, ProjectId, TaskId};

/// The reason and the options of a rollback.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollbackRequest)]
pub(in crate::http) struct RollbackRequestWire {
    /// The reason, for the audit trail. It must not be blank.
    #[schema(required, nullable = false)]
    reason: Option<String>,
    /// Report what would change, and change nothing. The default is false.
    dry_run: Option<bool>,
    /// Submit the tasks again whose results are undone. The default is false.
    requeue: Option<bool>,
}

fn check(
    checkpoint: CheckpointId,
    wire: RollbackRequestWire,
    errors: Vec<FieldError>,
) -> Result<RollbackRequest, Problem> {
    let mut found = Findings::from_errors(errors);
    let reason = required_reason(&mut found, wire.reason);
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    let (requeue, dry_run) = (wire.requeue.unwrap_or(false), wire.dry_run.unwrap_or(false));
    Ok(RollbackRequest { checkpoint, project: None, reason, requeue, dry_run })
}

/// The counts of a rollback.
#[derive(Serialize, ToSchema)]
#[schema(as = RollbackCounts)]
pub(in crate::http) struct CountsWire {
    /// The number of records that become tainted.
    tainted: usize,
    /// The number of records that become suspect.
    suspect: usize,
    /// The number of tasks that made these records.
    tasks: usize,
    /// The number of projects with these records.
    projects: usize,
    /// The number of checkpoints that become invalid.
    invalidated: usize,
    /// The number of running tasks that use undone results.
    running_tasks: usize,
    /// The number of cancelled tasks: running tasks, and tasks that depend on undone results.
    cancelled: usize,
    /// The number of affected tasks that stay open.
    still_open: usize,
    /// The number of tasks whose results are undone.
    to_rerun: usize,
    /// The number of tasks that were submitted again.
    requeued: usize,
    /// The number of tasks that could not be submitted again.
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

    /// Whether a list has more than `limit` entries.
    fn exceeds(&self, limit: usize) -> bool {
        let tasks = self.tasks.max(self.projects).max(self.running_tasks).max(self.cancelled).max(self.still_open);
        tasks.max(self.invalidated).max(self.to_rerun).max(self.requeued).max(self.not_requeued) > limit
    }
}

/// A task that was submitted again.
#[derive(Serialize, ToSchema)]
#[schema(as = RequeuedTask)]
pub(in crate::http) struct RequeuedWire {
    /// The id of the new task; null in a dry run.
    task_id: Option<TaskId>,
    /// The id of the task whose result is undone.
    rerun_of: TaskId,
}

/// The effect of a rollback, or of a dry run.
#[derive(Serialize, ToSchema)]
#[schema(as = Rollback)]
pub(in crate::http) struct RollbackWire<'a> {
    /// The id of the checkpoint.
    checkpoint_id: &'a CheckpointId,
    /// The id of the project.
    project_id: &'a ProjectId,
    /// The id of the entries in the audit trail; null in a dry run.
    cascade_id: Option<&'a str>,
    /// Whether this was a dry run, which changes nothing.
    dry_run: bool,
    /// The counts. The lists below have at most `limit` entries.
    counts: CountsWire,
    /// The largest number of steps from an undone record to an affected one.
    max_depth: u32,
    /// The first tasks whose records change.
    tasks: Vec<TaskId>,
    /// The first projects whose records change.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<String>,
    /// The first checkpoints that become invalid.
    invalidated: &'a [CheckpointId],
    /// The first running tasks that use undone results.
    running_tasks: &'a [TaskId],
    /// The first cancelled tasks.
    cancelled: &'a [TaskId],
    /// The first affected tasks that stay open.
    still_open: &'a [TaskId],
    /// The first tasks whose results are undone.
    to_rerun: &'a [TaskId],
    /// The first tasks that were submitted again.
    requeued: Vec<RequeuedWire>,
    /// The first tasks that could not be submitted again.
    not_requeued: &'a [TaskId],
    /// The records whose flag changes.
    #[serde(flatten)]
    affected: AffectedWire,
}

/// Handles `POST /checkpoints/{id}/rollback`.
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
    let page = Queries::first(QueryResult { graph: rollback.graph.clone().into(), what: ResultKind::Changes(changes) });
    let found = page.found.clone();
    let summary = if dry_run {
        call.app.queries.run(move |_| flags::summarize(&found, limit)).await?
    } else {
        flags::summarize_committed(found, limit).await
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

/// Returns the scope of the cursors of a rollback.
fn scope(id: &CheckpointId) -> String {
    format!("rolled back {id}")
}

/// Handles `GET /checkpoints/{id}/affected`: further pages of the response to a rollback.
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
