//! Queries on the provenance graph: dependents, dependencies, impact and root causes of a record.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::app::Call;
use crate::http::api::provenance::graph::{
    NamedRecordWire, StandingWire, artifacts, find_node, find_page, find_record, parse_depth, slice_page,
};
use crate::http::api::provenance::record::Standing;
use crate::http::api::provenance::results::{self, ResultKind};
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::lineage::{Cancelled, Graph, Link, Node, Relationship};
use crate::task::{ArtifactId, ProjectId, RecordId, TaskId};

/// The largest number of records of a path in the list of root causes.
const MAX_PATH_RECORDS: usize = 100;

/// A record with a dependency on, or of, the requested record.
#[derive(Serialize, ToSchema)]
#[schema(as = RelatedRecord)]
pub(in crate::http) struct EntryWire<'a> {
    /// The id of the record.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The number of steps from the requested record.
    depth: u32,
    /// The next record on the path to the requested record.
    through: Option<NamedRecordWire<'a>>,
    /// How the nearer of the two records was used.
    dependency_type: Relationship,
    #[serde(flatten)]
    about: StandingWire<'a>,
}

/// The direction of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Dependents,
    Dependencies,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Dependents => "dependents",
            Self::Dependencies => "dependencies",
        }
    }

    fn entry(self, graph: &Graph, found: crate::lineage::WalkEntry) -> Option<EntryWire<'_>> {
        let known = graph.record(found.record)?;
        let (dependent, dependency) = match self {
            Self::Dependents => (found.record, found.through),
            Self::Dependencies => (found.through, found.record),
        };
        Some(EntryWire {
            provenance_id: known.id,
            artifacts: artifacts(graph, found.record),
            depth: found.depth,
            through: NamedRecordWire::between(graph, found.through, dependent, dependency),
            dependency_type: relationship(graph, dependent, dependency),
            about: StandingWire::new(graph, &known),
        })
    }
}

/// Returns how `dependent` uses `dependency`: consumed if it consumed any of its artifacts.
fn relationship(graph: &Graph, dependent: Node, dependency: Node) -> Relationship {
    let is_consumed =
        |(_, relationship, link)| link == Link::Bound(dependency) && relationship == Relationship::Consumed;
    if graph.inputs(dependent).any(is_consumed) { Relationship::Consumed } else { Relationship::Referenced }
}

/// A page of the dependents or the dependencies of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = RelatedRecords)]
pub(in crate::http) struct WalkWire<'a> {
    /// The id of the requested record.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The records that depend on it; present in the response to `/dependents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<EntryWire<'static>>>, nullable = false)]
    dependents: Option<Entries>,
    /// The records that it depends on; present in the response to `/dependencies`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<EntryWire<'static>>>, nullable = false)]
    dependencies: Option<Entries>,
    /// The number of records.
    total: usize,
    /// The largest number of steps to a record.
    max_depth: u32,
    /// The cursor of the next page, valid for 60 seconds; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

/// Handles `GET /provenance/{id}/dependents`.
pub(in crate::http) async fn dependents(call: Call) -> Reply {
    related_records(call, Direction::Dependents).await
}

/// Handles `GET /provenance/{id}/dependencies`.
pub(in crate::http) async fn dependencies(call: Call) -> Reply {
    related_records(call, Direction::Dependencies).await
}

/// Responds with a page of the records in one direction.
async fn related_records(call: Call, direction: Direction) -> Reply {
    let mut query = call.query(&["depth", "direct", "limit", "cursor"]);
    let (limit, depth) = (query.limit(), parse_depth(&mut query));
    let id = call.id();
    let scope = format!("{} {depth:?} {id}", direction.name());
    let place = results::parse_position(&mut query, &scope);
    query.finish()?;
    let wanted = id.clone();
    let page = find_page(&call, place, move |graph, stop| {
        let start = [find_node(graph, &wanted)?];
        let questions = graph.cancellable(|| stop.is_set());
        Ok(ResultKind::Walk(match direction {
            Direction::Dependents => questions.dependents(&start, depth)?,
            Direction::Dependencies => questions.dependencies(&start, depth)?,
        }))
    });
    let page = page.await?;
    let (graph, ResultKind::Walk(walk)) = (&page.found.graph, &page.found.what) else {
        return Err(Problem::cursor_expired());
    };
    let places = page.offset..page.offset.saturating_add(limit).min(walk.len());
    let found = places.filter_map(|at| walk.get(at)).map(|found| direction.entry(graph, found));
    let mut entries = Entries::new(limit);
    let shown = entries.fill_known(found);
    let truncated = entries.is_truncated();
    let (dependents, dependencies) = match direction {
        Direction::Dependents => (Some(entries), None),
        Direction::Dependencies => (None, Some(entries)),
    };
    let (of, known) = find_record(graph, &id)?;
    let wire = WalkWire {
        provenance_id: known.id,
        artifacts: artifacts(graph, of),
        dependents,
        dependencies,
        total: walk.len(),
        max_depth: walk.max_depth(),
        next_cursor: call.app.queries.next_cursor(&page, &scope, shown, walk.len()),
        limit,
        truncated,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// The impact of a record: the tasks and projects whose records depend on it.
#[derive(Serialize, ToSchema)]
#[schema(as = Impact)]
pub(in crate::http) struct ImpactWire<'a> {
    /// The id of the requested record.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The counts.
    counts: ImpactCounts,
    /// The largest number of steps to a dependent record.
    max_depth: u32,
    /// A page of the tasks with dependent records.
    tasks: &'a [TaskId],
    /// A page of the projects with dependent records.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<&'a str>,
    /// A page of the running tasks that use the record or a dependent record.
    running_tasks: &'a [TaskId],
    /// The cursor of the next page, valid for 60 seconds; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of each list.
    limit: usize,
}

/// The counts of an impact.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ImpactCounts {
    /// The number of dependent records.
    records: usize,
    /// The number of tasks that made them.
    tasks: usize,
    /// The number of projects with dependent records.
    projects: usize,
    /// The number of running tasks that use the record or a dependent record.
    running_tasks: usize,
}

/// Handles `GET /provenance/{id}/impact`.
pub(in crate::http) async fn impact(call: Call) -> Reply {
    let mut query = call.query(&["depth", "direct", "limit", "cursor"]);
    let (limit, depth) = (query.limit(), parse_depth(&mut query));
    let id = call.id();
    let scope = format!("impact {depth:?} {id}");
    let place = results::parse_position(&mut query, &scope);
    query.finish()?;
    let wanted = id.clone();
    let page = find_page(&call, place, move |graph, stop| {
        let impact = graph.cancellable(|| stop.is_set()).impact(&[find_node(graph, &wanted)?], depth)?;
        Ok(ResultKind::Impact(impact))
    });
    let page = page.await?;
    let (graph, ResultKind::Impact(impact)) = (&page.found.graph, &page.found.what) else {
        return Err(Problem::cursor_expired());
    };
    let (of, known) = find_record(graph, &id)?;
    let reached = impact.walk.iter().map(|found| found.record).chain([of]).collect();
    let running = call.app.engine.provenance().running_users(graph.clone(), reached).await?;
    let projects =
        slice_page(&impact.projects, page.offset, limit).iter().filter_map(|project| graph.project_id(*project));
    let counts = ImpactCounts {
        records: impact.walk.len(),
        tasks: impact.tasks.len(),
        projects: impact.projects.len(),
        running_tasks: running.len(),
    };
    let total = counts.tasks.max(counts.projects).max(counts.running_tasks);
    let wire = ImpactWire {
        provenance_id: known.id,
        artifacts: artifacts(graph, of),
        max_depth: impact.walk.max_depth(),
        tasks: slice_page(&impact.tasks, page.offset, limit),
        projects: projects.collect(),
        running_tasks: slice_page(&running, page.offset, limit),
        next_cursor: call.app.queries.next_cursor(&page, &scope, limit, total),
        counts,
        limit,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// A tainted record on which the requested record depends.
#[derive(Serialize, ToSchema)]
#[schema(as = Cause)]
pub(in crate::http) struct CauseWire<'a> {
    /// The id of the record.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The number of steps from the requested record.
    depth: u32,
    /// When the record was tainted.
    tainted_at: Option<Time>,
    /// Why the record was tainted.
    tainted_reason: Option<String>,
    #[serde(flatten)]
    about: StandingWire<'a>,
    /// The path from the cause to the requested record.
    path: Vec<NamedRecordWire<'a>>,
    /// Whether the path was cut off; `GET /provenance/path` has all of it.
    truncated: bool,
}

/// The root causes of a taint or suspicion, nearest first.
#[derive(Serialize, ToSchema)]
#[schema(as = RootCauses)]
pub(in crate::http) struct CausesWire {
    /// The id of the requested record.
    provenance_id: RecordId,
    /// Whether the requested record is tainted itself.
    is_tainted: bool,
    /// Whether the requested record is suspect.
    is_suspect: bool,
    /// The tainted records on which it depends.
    #[schema(value_type = Vec<CauseWire<'static>>)]
    causes: Entries,
    /// The number of root causes.
    total: usize,
    /// Whether the list was cut off.
    truncated: bool,
    /// The largest number of entries of the list.
    limit: usize,
}

/// Handles `GET /provenance/{id}/root-cause`.
pub(in crate::http) async fn root_cause(call: Call) -> Reply {
    let mut query = call.query(&["depth", "limit"]);
    let (limit, depth) = (query.limit(), parse_depth(&mut query));
    query.finish()?;
    let id = call.id();
    let graph = call.app.engine.provenance().graph();
    let (of, known) = find_record(&graph, &id)?;
    let searched = graph.clone();
    let paths = call.app.queries.run(move |stop| {
        let causes = searched.cancellable(|| stop.is_set()).root_causes(of, depth)?;
        let nearest = causes.iter().take(limit).enumerate().map(|(at, (_, depth))| {
            let mut path = causes.path(at);
            path.truncate(MAX_PATH_RECORDS);
            path.shrink_to_fit();
            (path, depth)
        });
        Ok::<_, Cancelled>((nearest.collect::<Vec<_>>(), causes.len()))
    });
    let (paths, total) = paths.await??;
    let mut causes = Entries::new(limit);
    for (path, depth) in paths {
        let Some((cause, known)) = path.first().and_then(|cause| Some((*cause, graph.record(*cause)?))) else {
            continue;
        };
        let Some(record) = call.app.engine.provenance().record(known.id).await? else { continue };
        let standing = Standing::of_record(&call.app.engine, &known, &record).await?;
        let Standing { tainted_at, tainted_reason, .. } = standing;
        let wire = CauseWire {
            provenance_id: known.id,
            artifacts: artifacts(&graph, cause),
            depth,
            tainted_at: tainted_at.map(Time),
            tainted_reason,
            about: StandingWire::new(&graph, &known),
            truncated: usize::try_from(depth).is_ok_and(|depth| path.len() <= depth),
            path: path.iter().filter_map(|node| NamedRecordWire::new(&graph, *node)).collect(),
        };
        if !causes.push(&wire) {
            break;
        }
    }
    let truncated = causes.len() < total;
    let about = StandingWire::new(&graph, &known);
    let (is_tainted, is_suspect) = (about.is_tainted, about.is_suspect);
    let wire = CausesWire { provenance_id: known.id, is_tainted, is_suspect, causes, total, truncated, limit };
    Ok(reply::json(StatusCode::OK, &wire))
}
