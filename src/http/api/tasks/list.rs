//! `GET /tasks`: pages of tasks.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{Answer, PageStart, TaskFilter, TaskPage};
use crate::http::api::app::Call;
use crate::http::server::cursor;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply};
use crate::json;
use crate::task::{Status, TaskId};

/// The query parameters.
const PARAMETERS: [&str; 10] = [
    "project_id",
    "status",
    "parent_id",
    "tier",
    "domain",
    "created_after",
    "created_before",
    "limit",
    "offset",
    "cursor",
];

/// Handles `GET /tasks`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&PARAMETERS);
    let limit = query.limit();
    let filter = parse_filter(&mut query);
    let scope = format!("tasks {filter:?}");
    let (start, offset) = parse_start(&mut query, &scope);
    query.finish()?;
    let page = call.app.engine.tasks().list(filter, start, limit).await?;
    Ok(reply::rendered(StatusCode::OK, render(&page, &scope, limit, offset)))
}

/// Reads the filters of the query.
fn parse_filter(query: &mut Query) -> TaskFilter {
    let statuses = query.many("status").iter().filter_map(|word| parse_status(query, word)).collect();
    TaskFilter {
        project: query.parsed("project_id"),
        statuses,
        parent: query.one("parent_id").and_then(|id| parse_parent(query, &id)),
        tier: query.parsed("tier"),
        domain: query.parsed("domain"),
        created_after: query.parsed("created_after"),
        created_before: query.parsed("created_before"),
    }
}

fn parse_status(query: &mut Query, word: &str) -> Option<Status> {
    let status = Status::ALL.into_iter().find(|status| status.as_str() == word);
    if status.is_none() {
        let names = Status::ALL.map(Status::as_str).join(", ");
        query.reject("status", format!("must be one of {names}, was {}", json::quoted(word)));
    }
    status
}

fn parse_parent(query: &mut Query, id: &str) -> Option<TaskId> {
    let task = id.parse().ok();
    if task.is_none() {
        query.reject("parent_id", format!("there is no task {}", json::quoted(id)));
    }
    task
}

/// Reads where the page starts, and the offset if the client pages by offset.
fn parse_start(query: &mut Query, scope: &str) -> (PageStart, Option<usize>) {
    let offset = query.number("offset", 0..=u64::MAX);
    if query.has("cursor") && offset.is_some() {
        query.reject("offset", "cannot be combined with a cursor");
    }
    if let Some(place) = query.cursor(scope, |place| place.try_into().ok()) {
        return (PageStart::After(TaskId::from_bytes(place)), None);
    }
    let offset = usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX);
    (PageStart::Offset(offset), Some(offset))
}

/// A page of tasks, newest first.
#[expect(clippy::option_option, reason = "absent with a cursor, null on the last page")]
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TaskList {
    /// The tasks. Their answers are JSON already and are inserted into the rendered list.
    #[schema(value_type = Vec<Answer>)]
    tasks: [(); 0],
    /// The number of tasks; null if the filters do not allow a count.
    total: Option<u64>,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    #[schema(value_type = u64)]
    limit: usize,
    /// The number of skipped entries; absent with a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, nullable = false)]
    offset: Option<usize>,
    /// The `offset` of the next page; null on the last page, and if the search reached its limit without finding a task.
    /// Absent with a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    next_offset: Option<Option<usize>>,
    /// Whether the page was cut off by its size in bytes or by the limit of the search; the cursor continues after it.
    truncated: bool,
}

/// Renders a page with the rendered answers of its tasks.
fn render(page: &TaskPage, scope: &str, limit: usize, offset: Option<usize>) -> Vec<u8> {
    const START: &[u8] = b"{\"tasks\":[";
    // Without a task, the next page by an offset would start at the same place again.
    let goes_on = page.next.is_some() && !page.tasks.is_empty();
    let list = TaskList {
        tasks: [],
        total: page.total,
        next_cursor: page.next.map(|task| cursor::encode(scope, &task.to_bytes())),
        limit,
        offset,
        next_offset: offset.map(|offset| goes_on.then(|| offset.saturating_add(page.tasks.len()))),
        truncated: page.truncated,
    };
    let rest = serde_json::to_vec(&list).unwrap_or_default();
    let size: usize = page.tasks.iter().map(|task| task.body.len() + 1).sum();
    let mut out = Vec::with_capacity(size + rest.len());
    out.extend_from_slice(START);
    for (index, task) in page.tasks.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&task.body);
    }
    out.extend_from_slice(rest.strip_prefix(START).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::Answer;

    #[test]
    fn pages_are_spliced_from_rendered_tasks() {
        let answer =
            |version| Answer { version, hold: None, ended: false, body: format!("{{\"v\":{version}}}").into() };
        let next = TaskId::from_bytes([7; 16]);
        let page = TaskPage { tasks: vec![answer(1), answer(2)], next: Some(next), total: Some(9), truncated: false };
        let value: Value = serde_json::from_slice(&render(&page, "s", 2, Some(0))).unwrap();
        let cursor = cursor::encode("s", &[7; 16]);
        let expected = json!({
            "tasks": [{"v": 1}, {"v": 2}], "total": 9, "next_cursor": cursor, "limit": 2, "offset": 0,
            "next_offset": 2, "truncated": false,
        });
        assert_eq!(value, expected);
        let last = TaskPage { tasks: Vec::new(), next: None, total: None, truncated: true };
        let value: Value = serde_json::from_slice(&render(&last, "s", 2, None)).unwrap();
        assert_eq!(value, json!({"tasks": [], "total": null, "next_cursor": null, "limit": 2, "truncated": true}));
    }

    #[test]
    fn filters_are_checked() {
        let mut query = Query::new(
            Some("status=running,pending&status=failed&tier=small&created_after=2026-01-01T00:00:00Z"),
            &PARAMETERS,
        );
        let filter = parse_filter(&mut query);
        assert_eq!(filter.statuses, [Status::Running, Status::Pending, Status::Failed]);
        assert!(filter.created_after.is_some());
        query.finish().unwrap();
        for bad in
            ["status=done", "parent_id=x", "tier=X", "created_before=now", "cursor=x", "offset=-1", "cursor=x&offset=1"]
        {
            let mut query = Query::new(Some(bad), &PARAMETERS);
            parse_filter(&mut query);
            parse_start(&mut query, "s");
            assert!(query.finish().is_err(), "{bad}");
        }
    }
}
