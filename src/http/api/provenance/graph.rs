//! Lookups in the provenance graph, and the parts of responses that several endpoints share.

use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::Subject;
use crate::http::api::app::Call;
use crate::http::api::provenance::results::{Position, Queries, QueryResult, ResultKind, ResultPage, StopFlag};
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::lineage::{Flag, Graph, Node, RecordState};
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, TaskId};

/// Finds the record with an id, or the record for which the artifact with that id stands.
pub(in crate::http) fn find_subject(graph: &Graph, id: &str) -> Option<(Subject, Node)> {
    Subject::find(graph, id)
}

/// Finds the node of a record by its id or by the id of an artifact.
pub(in crate::http) fn find_node(graph: &Graph, id: &str) -> Result<Node, Problem> {
    find_subject(graph, id).map(|(_, node)| node).ok_or_else(|| Problem::provenance_not_found(id))
}

/// Finds a record by its id or by the id of an artifact.
pub(in crate::http) fn find_record(graph: &Graph, id: &str) -> Result<(Node, RecordState), Problem> {
    let node = find_node(graph, id)?;
    Ok((node, graph.record(node).ok_or_else(|| Problem::provenance_not_found(id))?))
}

/// Returns the ids of the artifacts that a record made.
pub(in crate::http) fn artifacts(graph: &Graph, node: Node) -> Vec<&str> {
    graph.outputs(node).filter_map(|artifact| graph.artifact_id(artifact)).collect()
}

/// A record with the artifacts that matter in the response.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedRecord)]
pub(in crate::http) struct NamedRecordWire<'a> {
    /// The id of the record.
    provenance_id: RecordId,
    /// The artifacts that it made, or those that the related record used.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
}

impl<'a> NamedRecordWire<'a> {
    /// Returns a record with all artifacts that it made.
    pub(in crate::http) fn new(graph: &'a Graph, node: Node) -> Option<Self> {
        Some(Self { provenance_id: graph.record(node)?.id, artifacts: artifacts(graph, node) })
    }

    /// Returns the record `through` with the artifacts of `dependency` that `dependent` used.
    pub(in crate::http) fn between(graph: &'a Graph, through: Node, dependent: Node, dependency: Node) -> Option<Self> {
        let artifacts = graph.between(dependent, dependency).filter_map(|artifact| graph.artifact_id(artifact));
        Some(Self { provenance_id: graph.record(through)?.id, artifacts: artifacts.collect() })
    }
}

/// The task, project, verdict and flag of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordStanding)]
pub(in crate::http) struct StandingWire<'a> {
    /// The task that made the record. Of an imported record, an id derived from that of its original task.
    task_id: TaskId,
    /// The id of its project.
    #[schema(value_type = ProjectId)]
    project_id: &'a str,
    /// The verdict on the record.
    #[schema(value_type = RecordStatus)]
    status: &'static str,
    /// Whether the record is tainted.
    pub(in crate::http) is_tainted: bool,
    /// Whether the requested record is suspect.
    pub(in crate::http) is_suspect: bool,
}

impl<'a> StandingWire<'a> {
    pub(in crate::http) fn new(graph: &'a Graph, known: &RecordState) -> Self {
        Self {
            task_id: known.task,
            project_id: graph.project_id(known.project).unwrap_or_default(),
            status: known.status.as_str(),
            is_tainted: known.flag == Flag::Tainted,
            is_suspect: known.flag == Flag::Suspect,
        }
    }
}

/// Returns the largest number of steps of a walk, or `None` for no limit.
pub(in crate::http) fn parse_depth(query: &mut Query) -> Option<u32> {
    let depth = query.number("depth", 1..=u64::from(u32::MAX)).and_then(|depth| u32::try_from(depth).ok());
    match query.one("direct").as_deref() {
        None | Some("false") => depth,
        Some("true") => {
            if depth.is_some_and(|depth| depth > 1) {
                query.reject("direct", "cannot be combined with a depth above 1");
            }
            Some(1)
        }
        Some(_) => {
            query.reject("direct", "must be true or false");
            depth
        }
    }
}

/// Returns the page at `position` of a cached result, or the first page of the result of `find`.
pub(in crate::http) async fn find_page(
    call: &Call,
    position: Option<Position>,
    find: impl FnOnce(&Graph, &StopFlag) -> Result<ResultKind, Problem> + Send + 'static,
) -> Result<ResultPage, Problem> {
    let queries = &call.app.queries;
    if let Some(position) = position {
        return queries.further(position);
    }
    let graph = call.app.engine.provenance().graph();
    let found = queries.run(move |stop| find(&graph, stop).map(|what| QueryResult { graph, what }));
    Ok(Queries::first(found.await??))
}

/// Returns the part of a list that starts at `offset`, which all lists of a response share.
pub(in crate::http) fn slice_page<T>(all: &[T], offset: usize, limit: usize) -> &[T] {
    let rest = all.get(offset..).unwrap_or_default();
    &rest[..limit.min(rest.len())]
}
