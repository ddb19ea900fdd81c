//! Pages of the log. The data of events is rendered from stored rows on each read, so that
//! the log holds no text twice.

use bytes::Bytes;

use super::side::ReadSide;
use crate::engine::api::{ChangePage, EventPosition, LogPage, LoggedEvent};
use crate::store::{self, LogEntry, PageBudget, View};
use crate::task::{Change, Seq};
use crate::wire::published_data;

/// Most log entries that one page looks at.
const MAX_LOOKED_AT: usize = 1024;
/// Bytes of events after which a page of changes ends.
const PAGE_BYTES: usize = 1024 * 1024;

type Stored<T> = Result<T, store::Error>;

/// Returns a page of the events after a position that `keep` accepts.
pub(in crate::engine) fn log_page(
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

/// Returns about how many bytes an event takes.
pub(in crate::engine) fn size(logged: &LoggedEvent) -> usize {
    logged.data.as_ref().map_or(0, Bytes::len) + logged.entry.event.as_ref().map_or(0, String::len)
}

/// Returns the event at a position: from the log, or, once the log is trimmed, from the
/// history of its task.
pub(in crate::engine) fn logged_at(
    view: &View,
    EventPosition { seq, task }: EventPosition,
) -> Stored<Option<LoggedEvent>> {
    let in_log = view.log(Seq(seq.0.saturating_sub(1)), 1)?.next().transpose()?;
    let entry = match in_log.filter(|(found, _)| *found == seq) {
        Some((_, entry)) => Some(entry),
        None => task.map(|task| view.history_entry(task, seq)).transpose()?.flatten(),
    };
    let Some(entry) = entry else { return Ok(None) };
    let logged = logged(view, seq, entry)?;
    Ok(Some(logged).filter(|logged| logged.data.is_some() || logged.entry.event.is_some()))
}

/// Adds the data of the event to an entry, if it is published.
fn logged(view: &View, seq: Seq, entry: LogEntry) -> Stored<LoggedEvent> {
    let submission = entry.task().map(|task| view.submission(task)).transpose()?.flatten();
    let data = published_data(view, &entry, submission.as_ref())?;
    let traceparent = submission.and_then(|submission| submission.traceparent);
    Ok(LoggedEvent { seq, entry, data, traceparent })
}

/// Returns a page of all changes after a position.
pub(in crate::engine) fn change_page(side: &ReadSide, after: Seq, limit: usize) -> Stored<ChangePage> {
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
