//! `GET /provenance/path`: the shortest way from a record to one that depends on
//! it.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::app::Call;
use crate::http::api::provenance::results::{self, What};
use crate::http::api::provenance::walks::{About, artifacts, depth, node, page, part};
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::lineage::Node;
use crate::task::{ArtifactId, RecordId};

/// The shortest way from a record to one that depends on it.
#[derive(Serialize, ToSchema)]
#[schema(as = Path)]
pub(in crate::http) struct PathWire {
    /// Where it begins.
    from: RecordId,
    /// Where it ends.
    to: RecordId,
    /// Edges between the two.
    length: usize,
    /// The records on it, both ends with it: a page.
    #[schema(value_type = Vec<StepWire<'static>>)]
    path: Entries,
    /// Where the next page begins, for 60 s; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes: go on with the cursor.
    truncated: bool,
}

/// A record on a path.
#[derive(Serialize, ToSchema)]
#[schema(as = PathStep)]
pub(in crate::http) struct StepWire<'a> {
    /// The record.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// Steps from the beginning.
    depth: usize,
    #[serde(flatten)]
    about: About<'a>,
}

/// `GET /provenance/path`
pub(in crate::http) async fn path(call: Call) -> Reply {
    let mut query = call.query(&["from", "to", "depth", "limit", "cursor"]);
    let (limit, depth) = (query.limit(), depth(&mut query));
    let mut end = |name: &str| {
        let id = query.one(name);
        if id.is_none() {
            query.reject(name, "is required: a record or an artifact");
        }
        id.unwrap_or_default()
    };
    let (from, to) = (end("from"), end("to"));
    let scope = format!("path {depth:?} {from:?} {to:?}");
    let place = results::place(&mut query, &scope);
    query.finish()?;
    let page = page(&call, place, move |graph, stop| {
        let path = graph.cancellable(|| stop.is_set()).path(node(graph, &from)?, node(graph, &to)?, depth)?;
        path.map(What::Path).ok_or_else(|| Problem::no_path(&from, &to))
    });
    let page = page.await?;
    let (graph, What::Path(path)) = (&page.found.graph, &page.found.what) else {
        return Err(Problem::cursor_expired());
    };
    let id = |end: Option<&Node>| end.and_then(|node| graph.record(*node)).map(|known| known.id);
    let (Some(from), Some(to)) = (id(path.first()), id(path.last())) else { return Err(Problem::cursor_expired()) };
    let found = part(path, page.offset, limit).iter().enumerate().map(|(at, node)| {
        let known = graph.record(*node)?;
        let (artifacts, about) = (artifacts(graph, *node), About::new(graph, &known));
        Some(StepWire { provenance_id: known.id, artifacts, depth: page.offset + at, about })
    });
    let mut steps = Entries::new(limit);
    let shown = steps.fill_known(found);
    let (length, truncated) = (path.len() - 1, steps.is_truncated());
    let next_cursor = call.app.walks.next(&page, &scope, shown, path.len());
    Ok(reply::json(StatusCode::OK, &PathWire { from, to, length, path: steps, next_cursor, limit, truncated }))
}
