//! `GET /provenance/path`: the shortest path from a record to a dependent record.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::app::Call;
use crate::http::api::provenance::graph::{StandingWire, artifacts, find_node, find_page, parse_depth, slice_page};
use crate::http::api::provenance::results::{self, ResultKind};
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::lineage::Node;
use crate::task::{ArtifactId, RecordId};

/// The shortest path from a record to a dependent record.
#[derive(Serialize, ToSchema)]
#[schema(as = Path)]
pub(in crate::http) struct PathWire {
    /// The first record of the path.
    from: RecordId,
    /// The last record of the path.
    to: RecordId,
    /// The number of steps.
    length: usize,
    /// A page of the records on the path, including both ends.
    #[schema(value_type = Vec<StepWire<'static>>)]
    path: Entries,
    /// The cursor of the next page, valid for 60 seconds; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

/// A record on a path.
#[derive(Serialize, ToSchema)]
#[schema(as = PathStep)]
pub(in crate::http) struct StepWire<'a> {
    /// The id of the record.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The number of steps from the first record.
    depth: usize,
    #[serde(flatten)]
    about: StandingWire<'a>,
}

/// Handles `GET /provenance/path`.
pub(in crate::http) async fn path(call: Call) -> Reply {
    let mut query = call.query(&["from", "to", "depth", "limit", "cursor"]);
    let (limit, depth) = (query.limit(), parse_depth(&mut query));
    let mut end = |name: &str| {
        let id = query.one(name);
        if id.is_none() {
            query.reject(name, "is required: a record or an artifact");
        }
        id.unwrap_or_default()
    };
    let (from, to) = (end("from"), end("to"));
    let scope = format!("path {depth:?} {from:?} {to:?}");
    let place = results::parse_position(&mut query, &scope);
    query.finish()?;
    let page = find_page(&call, place, move |graph, stop| {
        let path = graph.cancellable(|| stop.is_set()).path(find_node(graph, &from)?, find_node(graph, &to)?, depth)?;
        path.map(ResultKind::Path).ok_or_else(|| Problem::no_path(&from, &to))
    });
    let page = page.await?;
    let (graph, ResultKind::Path(path)) = (&page.found.graph, &page.found.what) else {
        return Err(Problem::cursor_expired());
    };
    let id = |end: Option<&Node>| end.and_then(|node| graph.record(*node)).map(|known| known.id);
    let (Some(from), Some(to)) = (id(path.first()), id(path.last())) else { return Err(Problem::cursor_expired()) };
    let found = slice_page(path, page.offset, limit).iter().enumerate().map(|(at, node)| {
        let known = graph.record(*node)?;
        let (artifacts, about) = (artifacts(graph, *node), StandingWire::new(graph, &known));
        Some(StepWire { provenance_id: known.id, artifacts, depth: page.offset + at, about })
    });
    let mut steps = Entries::new(limit);
    let shown = steps.fill_known(found);
    let (length, truncated) = (path.len() - 1, steps.is_truncated());
    let next_cursor = call.app.queries.next_cursor(&page, &scope, shown, path.len());
    Ok(reply::json(StatusCode::OK, &PathWire { from, to, length, path: steps, next_cursor, limit, truncated }))
}
