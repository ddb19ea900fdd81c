//! Data of leased tasks for workers, and of routing jobs for their driver.

use bytes::Bytes;

use crate::engine::api::{Grant, GrantedLease, RoutingJob, TakenRouting};
use crate::store::{self, PageBudget, View};
use crate::task::{Submission, TaskId};
use crate::wire::{LeasedTask, TaskContext, Time};

type Stored<T> = Result<T, store::Error>;

/// Returns leases with the data of their tasks, in order. The result ends at about
/// [`store::PAGE_BYTES`], after at least one lease.
pub(super) fn granted(view: &View, grants: &[Grant]) -> Stored<Vec<GrantedLease>> {
    let data = |grant: &Grant| {
        let submission = view.submission(grant.task.id)?.ok_or_else(|| missing_submission(grant.task.id))?;
        let context = TaskContext::read(view, &grant.task, grant.task.newest_record())?;
        let project = grant.constituted.map(|_| view.project(&grant.task.project)).transpose()?.flatten();
        let constitution = project.and_then(|project| project.constitution);
        Ok(Some(leased_task(grant, &submission, &context, constitution.as_deref())))
    };
    Ok(granted_with(grants, data)?.unwrap_or_default())
}

/// Like [`granted`], but reads tables that may lag the journal. Returns `None` where they
/// may lack a row.
///
/// A task without context needs two rows: its submission, which never changes once it is
/// in the tables, and its project in the version that it had at the lease.
pub(super) fn granted_now(view: &View, grants: &[Grant]) -> Stored<Option<Vec<GrantedLease>>> {
    if grants.iter().any(|grant| TaskContext::may_have_parts(&grant.task)) {
        return Ok(None);
    }
    let (submissions, empty) = (view.submissions()?, TaskContext::default());
    let data = |grant: &Grant| {
        let Some(submission) = submissions.get(grant.task.id)? else { return Ok(None) };
        let mut constitution = None;
        if let Some(version) = grant.constituted {
            let project = view.project(&grant.task.project)?.filter(|project| project.version == version);
            let Some(project) = project else { return Ok(None) };
            constitution = project.constitution;
        }
        Ok(Some(leased_task(grant, &submission, &empty, constitution.as_deref())))
    };
    granted_with(grants, data)
}

/// Returns leases with the data of their tasks; `None` where `data` returns `None`.
fn granted_with(grants: &[Grant], data: impl Fn(&Grant) -> Stored<Option<Bytes>>) -> Stored<Option<Vec<GrantedLease>>> {
    let mut budget = PageBudget::new(usize::MAX);
    let mut granted = Vec::with_capacity(grants.len());
    for grant in grants {
        let Some(task) = store::guarded(|| data(grant))? else { return Ok(None) };
        if !budget.admit(task.len()) {
            break;
        }
        granted.push(GrantedLease { lease: grant.lease.id, until: grant.until, task });
    }
    Ok(Some(granted))
}

fn leased_task(grant: &Grant, submission: &Submission, context: &TaskContext, constitution: Option<&str>) -> Bytes {
    LeasedTask::new(&grant.task, Time(grant.deadline), submission, context, constitution).to_json()
}

fn missing_submission(task: TaskId) -> store::Error {
    store::Error::Corrupt { table: "submissions", detail: format!("task {task} has none") }
}

/// Returns a routing job with the texts that the services are asked about.
pub(super) fn routing_job(view: &View, taken: TakenRouting) -> Stored<RoutingJob> {
    let TakenRouting { task, since, step } = taken;
    let submission = view.submission(task.id)?.ok_or_else(|| missing_submission(task.id))?;
    let parent = task.parent.map(|parent| view.submission(parent)).transpose()?.flatten();
    Ok(RoutingJob {
        task: task.id,
        project: task.project,
        description: submission.description,
        parent_description: parent.map(|parent| parent.description),
        domain: task.domain,
        step,
        since,
        traceparent: submission.traceparent,
    })
}
