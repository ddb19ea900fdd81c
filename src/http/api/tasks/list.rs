//! `GET /tasks`: pages of status answers.

use hyper::StatusCode;

use crate::engine::{PageStart, TaskFilter, TaskPage};
use crate::http::api::app::Call;
use crate::http::server::cursor;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply};
use crate::json;
use crate::task::{Status, TaskId};

const KNOWN: [&str; 10] = [
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

/// `GET /tasks`
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&KNOWN);
    let limit = query.limit();
    let filter = filter(&mut query);
    let scope = format!("tasks {filter:?}");
    let (start, offset) = start(&mut query, &scope);
    query.finish()?;
    let page = call.app.engine.tasks().list(filter, start, limit).await?;
    Ok(reply::rendered(StatusCode::OK, render(&page, &scope, limit, offset)))
}

fn filter(query: &mut Query) -> TaskFilter {
    let statuses = query.many("status").iter().filter_map(|word| status(query, word)).collect();
    TaskFilter {
        project: query.parsed("project_id"),
        statuses,
        parent: query.one("parent_id").and_then(|id| parent(query, &id)),
        tier: query.parsed("tier"),
        domain: query.parsed("domain"),
        created_after: query.parsed("created_after"),
        created_before: query.parsed("created_before"),
    }
}

fn status(query: &mut Query, word: &str) -> Option<Status> {
    let status = Status::ALL.into_iter().find(|status| status.as_str() == word);
    if status.is_none() {
        let names = Status::ALL.map(Status::as_str).join(", ");
        query.reject("status", format!("must be one of {names}, was {}", json::quoted(word)));
    }
    status
}

fn parent(query: &mut Query, id: &str) -> Option<TaskId> {
    let task = id.parse().ok();
    if task.is_none() {
        query.reject("parent_id", format!("there is no task {}", json::quoted(id)));
    }
    task
}

fn start(query: &mut Query, scope: &str) -> (PageStart, Option<usize>) {
    let offset = query.number("offset", 0..=u64::MAX);
    if query.has("cursor") && offset.is_some() {
        query.reject("offset", "can't be given with a cursor");
    }
    if let Some(place) = query.cursor(scope, |place| place.try_into().ok()) {
        return (PageStart::After(TaskId::from_bytes(place)), None);
    }
    let offset = usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX);
    (PageStart::Offset(offset), Some(offset))
}

/// The answers are JSON already and are put together as they are.
fn render(page: &TaskPage, scope: &str, limit: usize, offset: Option<usize>) -> Vec<u8> {
    let size: usize = page.tasks.iter().map(|task| task.body.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(b"{\"tasks\":[");
    for (index, task) in page.tasks.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&task.body);
    }
    let total = page.total.map_or_else(|| "null".to_owned(), |total| total.to_string());
    let next = page.next.map(|task| cursor::encode(scope, &task.to_bytes()));
    let next = next.map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
    let next_offset = |offset: usize| {
        // Where nothing was found, going on by an offset would begin at the same place again.
        let goes_on = page.next.is_some() && !page.tasks.is_empty();
        if goes_on { offset.saturating_add(page.tasks.len()).to_string() } else { "null".to_owned() }
    };
    let offset = offset.map(|offset| format!(",\"offset\":{offset},\"next_offset\":{}", next_offset(offset)));
    let offset = offset.unwrap_or_default();
    let truncated = page.truncated;
    let rest =
        format!("],\"total\":{total},\"next_cursor\":{next},\"limit\":{limit}{offset},\"truncated\":{truncated}}}");
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::Answer;

    #[test]
    fn pages_are_spliced() {
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
            &KNOWN,
        );
        let filter = filter(&mut query);
        assert_eq!(filter.statuses, [Status::Running, Status::Pending, Status::Failed]);
        assert!(filter.created_after.is_some());
        query.finish().unwrap();
        for bad in
            ["status=done", "parent_id=x", "tier=X", "created_before=now", "cursor=x", "offset=-1", "cursor=x&offset=1"]
        {
            let mut query = Query::new(Some(bad), &KNOWN);
            super::filter(&mut query);
            start(&mut query, "s");
            assert!(query.finish().is_err(), "{bad}");
        }
    }
}
