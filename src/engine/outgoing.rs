//! Pages of the log, and what workers and the router get of their tasks.

use bytes::Bytes;
use serde_json::json;

use super::api::{ChangePage, Granted, LogPage, Logged, Position, RoutingJob};
use super::read::ReadSide;
use super::routing::TakenRouting;
use super::turns::Grant;
use crate::store::{self, LogEntry, PageBudget, View};
use crate::task::{Change, Seq};
use crate::wire::{context, has_context, leased_task, published_data};

/// Most log entries that one page looks at.
const MAX_LOOKED_AT: usize = 1024;
/// A page ends after so many bytes of events, however few they are.
const PAGE_BYTES: usize = 1024 * 1024;

type Stored<T> = Result<T, store::Error>;

/// A page of the events of the log after a position.
pub(super) fn log_page(
    side: &ReadSide,
    after: Seq,
    mut budget: PageBudget,
    keep: &dyn Fn(&LogEntry) -> bool,
) -> Stored<LogPage> {
    let view = side.store.view()?;
    let reset = view.log_tail()?.filter(|tail| after.0.saturating_add(1) < tail.0);
    let start = reset.map_or(after, |tail| Seq(tail.0 - 1));
    let mut page = LogPage { entries: Vec::new(), read_to: start, reset, truncated: false };
    let mut looked_at = 0;
    for row in view.log(start, MAX_LOOKED_AT)? {
        let (seq, entry) = row?;
        let is_event = entry.change.is_published() || matches!(entry.change, Change::Accepted { .. });
        if is_event && keep(&entry) {
            let logged = logged(&view, seq, entry)?;
            if !budget.admit(size(&logged)) {
                page.truncated = budget.is_truncated();
                return Ok(page);
            }
            page.entries.push(logged);
        }
        page.read_to = seq;
        looked_at += 1;
    }
    page.truncated = looked_at == MAX_LOOKED_AT;
    Ok(page)
}

/// How large an event is, about.
pub(super) fn size(logged: &Logged) -> usize {
    logged.data.as_ref().map_or(0, Bytes::len) + logged.entry.event.as_ref().map_or(0, String::len)
}

/// The event at a position: from the log, or, once that is trimmed, from the
/// task's history.
pub(super) fn logged_at(view: &View, Position { seq, task }: Position) -> Stored<Option<Logged>> {
    let in_log = view.log(Seq(seq.0.saturating_sub(1)), 1)?.next().transpose()?;
    let entry = match in_log.filter(|(found, _)| *found == seq) {
        Some((_, entry)) => Some(entry),
        None => task.map(|task| view.history_entry(task, seq)).transpose()?.flatten(),
    };
    let Some(entry) = entry else { return Ok(None) };
    let logged = logged(view, seq, entry)?;
    Ok(Some(logged).filter(|logged| logged.data.is_some() || logged.entry.event.is_some()))
}

/// An entry with the data of its event, if it is one.
fn logged(view: &View, seq: Seq, entry: LogEntry) -> Stored<Logged> {
    let submission = entry.task().map(|task| view.submission(task)).transpose()?.flatten();
    let data = published_data(view, &entry, submission.as_ref())?;
    let traceparent = submission.and_then(|submission| submission.traceparent);
    Ok(Logged { seq, entry, data, traceparent })
}

/// Every change of the log after a position.
pub(super) fn change_page(side: &ReadSide, after: Seq, limit: usize) -> Stored<ChangePage> {
    let view = side.store.view()?;
    let reset = view.log_tail()?.filter(|tail| after.0.saturating_add(1) < tail.0);
    let start = reset.map_or(after, |tail| Seq(tail.0 - 1));
    let mut page = ChangePage { entries: Vec::new(), read_to: start, reset };
    let mut bytes = 0;
    for row in view.log(start, limit)? {
        let (seq, entry) = row?;
        bytes += entry.event.as_ref().map_or(0, String::len);
        page.read_to = seq;
        page.entries.push((seq, entry));
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// What a worker gets for the leases that it was given, in order: it ends at about
/// [`store::PAGE_BYTES`], after at least one of them.
pub(super) fn granted(view: &View, grants: &[Grant]) -> Stored<Vec<Granted>> {
    let data = |grant: &Grant| {
        let submission = view.submission(grant.task.id)?;
        let context = context(view, &grant.task, grant.task.newest_record())?;
        let project = grant.constituted.map(|_| view.project(&grant.task.project)).transpose()?.flatten();
        let constitution = project.and_then(|project| project.constitution);
        Ok(Some(leased_task(&grant.task, grant.deadline, submission.as_ref(), &context, constitution)))
    };
    Ok(granted_with(grants, data)?.unwrap_or_default())
}

/// As [`granted`], from tables that may lag the journal; `None` where they may lack
/// something.
///
/// A task without context needs its submission, which never changes once it is in
/// the tables, and the constitution of its project as it was at the lease.
pub(super) fn granted_now(view: &View, grants: &[Grant]) -> Stored<Option<Vec<Granted>>> {
    if grants.iter().any(|grant| has_context(&grant.task)) {
        return Ok(None);
    }
    let (submissions, empty) = (view.submissions()?, json!({}));
    let data = |grant: &Grant| {
        let Some(submission) = submissions.get(grant.task.id)? else { return Ok(None) };
        let mut constitution = None;
        if let Some(version) = grant.constituted {
            let project = view.project(&grant.task.project)?.filter(|project| project.version == version);
            let Some(project) = project else { return Ok(None) };
            constitution = project.constitution;
        }
        Ok(Some(leased_task(&grant.task, grant.deadline, Some(&submission), &empty, constitution)))
    };
    granted_with(grants, data)
}

/// Leases with the data of their tasks; `None` where `data` has none of one.
fn granted_with(grants: &[Grant], data: impl Fn(&Grant) -> Stored<Option<Bytes>>) -> Stored<Option<Vec<Granted>>> {
    let mut budget = PageBudget::new(usize::MAX);
    let mut granted = Vec::with_capacity(grants.len());
    for grant in grants {
        let Some(task) = store::guarded(|| data(grant))? else { return Ok(None) };
        if !budget.admit(task.len()) {
            break;
        }
        granted.push(Granted { lease: grant.lease.id, until: grant.until, task });
    }
    Ok(Some(granted))
}

/// What is to be known to ask about a task.
pub(super) fn routing_job(view: &View, taken: TakenRouting) -> Stored<RoutingJob> {
    let TakenRouting { task, since, step } = taken;
    let missing = || store::Error::Corrupt { table: "submissions", detail: format!("task {} has none", task.id) };
    let submission = view.submission(task.id)?.ok_or_else(missing)?;
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
