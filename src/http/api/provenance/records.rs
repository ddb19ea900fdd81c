//! `GET /provenance`: pages of provenance records.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::RecordFilter;
use crate::http::api::app::Call;
use crate::http::api::provenance::record::{RecordWire, Standing};
use crate::http::openapi::words::RECORD_STATUSES;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply};
use crate::json;
use crate::store::RecordPlace;
use crate::task::{ArtifactId, RecordStatus, TaskId};

/// The query parameters.
const PARAMETERS: [&str; 12] = [
    "project_id",
    "task_id",
    "status",
    "tainted",
    "suspect",
    "model",
    "tier",
    "domain",
    "created_after",
    "created_before",
    "limit",
    "cursor",
];

/// A page of records, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordList)]
pub(in crate::http) struct ListWire {
    /// The records.
    #[schema(value_type = Vec<RecordWire<'static>>)]
    records: Entries,
    /// The number of records; null if it is not known.
    total: Option<u64>,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes or by the limit of the search; the cursor continues after it.
    truncated: bool,
}

/// Handles `GET /provenance`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&PARAMETERS);
    let limit = query.limit();
    let filter = parse_filter(&mut query);
    let scope = format!("records {filter:?}");
    let before = query.cursor(&scope, |place| place.try_into().ok().map(RecordPlace::from_bytes));
    query.finish()?;
    let engine = &call.app.engine;
    let page = engine.provenance().records(filter, before, limit).await?;
    let (mut records, mut next, mut last) = (Entries::new(limit), page.next, None);
    for (place, record, known) in &page.records {
        let standing = Standing::of_record(engine, known, record).await?;
        if !records.push(&RecordWire::new(record, &standing)) {
            next = last;
            break;
        }
        last = Some(*place);
    }
    let wire = ListWire {
        truncated: page.truncated || records.is_truncated(),
        records,
        total: page.total,
        next_cursor: next.map(|place| cursor::encode(&scope, &place.to_bytes())),
        limit,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// Reads the filters of the query.
fn parse_filter(query: &mut Query) -> RecordFilter {
    RecordFilter {
        project: query.parsed("project_id"),
        // The id of the task of an imported record can be any text.
        task: query.parsed::<ArtifactId>("task_id").map(|id| TaskId::of_text(id.as_str())),
        status: query.one("status").and_then(|word| parse_status(query, &word)),
        tainted: query.parsed("tainted"),
        suspect: query.parsed("suspect"),
        model: query.one("model"),
        tier: query.parsed("tier"),
        domain: query.parsed("domain"),
        created_after: query.parsed("created_after"),
        created_before: query.parsed("created_before"),
    }
}

fn parse_status(query: &mut Query, word: &str) -> Option<RecordStatus> {
    let status = RECORD_STATUSES.into_iter().find(|status| status.as_str() == word);
    if status.is_none() {
        let names = RECORD_STATUSES.map(RecordStatus::as_str).join(", ");
        query.reject("status", format!("must be one of {names}, was {}", json::quoted(word)));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        let mut query = Query::new(Some("status=human_approved&tainted=false&suspect=true&model=m"), &PARAMETERS);
        let filter = parse_filter(&mut query);
        assert_eq!(filter.status, Some(RecordStatus::HumanApproved));
        assert_eq!((filter.tainted, filter.suspect, filter.model.as_deref()), (Some(false), Some(true), Some("m")));
        query.finish().unwrap();
        for bad in ["status=tainted", "tainted=1", "suspect=yes", "task_id=", "tier=X", "created_after=now"] {
            let mut query = Query::new(Some(bad), &PARAMETERS);
            parse_filter(&mut query);
            assert!(query.finish().is_err(), "{bad}");
        }
    }
}
