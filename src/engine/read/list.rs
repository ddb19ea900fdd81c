//! Pages of tasks. Indexes narrow the search; the rest of a filter is checked on
//! each task found.

use super::side::ReadSide;
use crate::engine::api::{PageStart, TaskFilter, TaskPage};
use crate::store::{self, Counters, PageBudget, Scan, ScanFilter, View};
use crate::task::{Status, Task, TaskId};

/// Most tasks that one page looks at. A page that stops there is marked as truncated.
const MAX_LOOKED_AT: usize = 50_000;

/// Returns the tasks that match a filter, newest first. `all` counts the tasks of all
/// projects.
pub(in crate::engine) fn page(
    side: &ReadSide,
    filter: &TaskFilter,
    start: PageStart,
    limit: usize,
    all: &Counters,
) -> Result<TaskPage, store::Error> {
    let (below, mut skip) = match start {
        PageStart::Offset(offset) => (None, offset),
        PageStart::After(task) => (Some(task), 0),
    };
    let view = side.store.view()?;
    // A status that is named twice would list and count its tasks twice.
    let mut statuses = filter.statuses.clone();
    statuses.sort_unstable();
    statuses.dedup();
    let total = total(&view, filter, &statuses, all)?;
    let scan = ScanFilter { project: filter.project.clone(), statuses, below };
    let mut page = TaskPage { tasks: Vec::new(), next: None, total, truncated: false };
    let found: Box<dyn Iterator<Item = Scan>> = match filter.parent {
        Some(parent) => Box::new(children(&view, parent, &scan)?.into_iter().map(Ok)),
        None => view.scan(&scan)?,
    };
    let (mut last, mut budget) = (None, PageBudget::new(limit));
    for (looked_at, id) in found.enumerate() {
        let id = id?;
        if page.tasks.len() == limit || looked_at == MAX_LOOKED_AT {
            page.next = last;
            page.truncated = page.tasks.len() < limit;
            break;
        }
        if needs_task(filter) && !view.task(id)?.is_some_and(|task| matches(filter, &task)) {
            last = Some(id);
            continue;
        }
        if skip > 0 {
            (skip, last) = (skip - 1, Some(id));
            continue;
        }
        if let Some(answer) = side.statuses.get(id)? {
            if !budget.admit(answer.body.len()) {
                page.next = last;
                page.truncated = true;
                break;
            }
            page.tasks.push(answer);
        }
        last = Some(id);
    }
    Ok(page)
}

/// Returns the children of a task that match a scan's filter, newest first.
fn children(view: &View, parent: TaskId, scan: &ScanFilter) -> Result<Vec<TaskId>, store::Error> {
    let mut found = Vec::new();
    for id in view.task(parent)?.map(|task| task.children).unwrap_or_default() {
        let Some(task) = view.task(id)? else { continue };
        if scan.project.as_ref().is_none_or(|project| task.project == *project)
            && (scan.statuses.is_empty() || scan.statuses.contains(&task.status()))
            && scan.below.is_none_or(|below| id < below)
        {
            found.push(id);
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

const fn needs_task(filter: &TaskFilter) -> bool {
    filter.tier.is_some()
        || filter.domain.is_some()
        || filter.created_after.is_some()
        || filter.created_before.is_some()
}

fn matches(filter: &TaskFilter, task: &Task) -> bool {
    filter.tier.as_ref().is_none_or(|tier| task.tier == *tier)
        && filter.domain.as_ref().is_none_or(|domain| task.domain == *domain)
        && filter.created_after.is_none_or(|after| task.created_at >= after)
        && filter.created_before.is_none_or(|before| task.created_at < before)
}

/// Returns the number of matching tasks; `None` where neither counters nor a parent's
/// children give it.
fn total(view: &View, filter: &TaskFilter, statuses: &[Status], all: &Counters) -> Result<Option<u64>, store::Error> {
    if needs_task(filter) {
        return Ok(None);
    }
    if let Some(parent) = filter.parent {
        let scan = ScanFilter { project: filter.project.clone(), statuses: statuses.to_vec(), below: None };
        return Ok(u64::try_from(children(view, parent, &scan)?.len()).ok());
    }
    let counters = match &filter.project {
        Some(project) => view.counters(project)?,
        None => *all,
    };
    let statuses = if statuses.is_empty() { &Status::ALL[..] } else { statuses };
    Ok(Some(statuses.iter().map(|status| counters.status(*status)).sum()))
}
