//! Questions about the provenance graph: who depends on what, how far it
//! reaches, where a taint comes from, how two records are connected.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::Subject;
use crate::http::api::app::Call;
use crate::http::api::provenance::record::Standing;
use crate::http::api::provenance::results::{self, Found, Page, Place, Stop, Walks, What};
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::lineage::{Cancelled, Flag, Graph, Link, Node, RecordState, Relationship};
use crate::task::{ArtifactId, ProjectId, RecordId, RecordStatus, TaskId};

/// Most records of a path within another answer.
const MOST_OF_PATH: usize = 100;

/// What an id names: a record, or the record that made an artifact.
pub(in crate::http) fn subject(graph: &Graph, id: &str) -> Option<(Subject, Node)> {
    Subject::find(graph, id)
}

pub(in crate::http) fn node(graph: &Graph, id: &str) -> Result<Node, Problem> {
    subject(graph, id).map(|(_, node)| node).ok_or_else(|| Problem::provenance_not_found(id))
}

/// What is known of the record that an id names.
pub(in crate::http) fn known(graph: &Graph, id: &str) -> Result<(Node, RecordState), Problem> {
    let node = node(graph, id)?;
    Ok((node, graph.record(node).ok_or_else(|| Problem::provenance_not_found(id))?))
}

/// What a record has made.
pub(in crate::http) fn artifacts(graph: &Graph, node: Node) -> Vec<&str> {
    graph.outputs(node).filter_map(|artifact| graph.artifact_id(artifact)).collect()
}

/// A record and the artifacts that it stands for in an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedRecord)]
pub(in crate::http) struct Named<'a> {
    /// The record.
    provenance_id: RecordId,
    /// Its artifacts that matter here.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
}

impl<'a> Named<'a> {
    /// A record with all that it has made.
    pub(in crate::http) fn new(graph: &'a Graph, node: Node) -> Option<Self> {
        Some(Self { provenance_id: graph.record(node)?.id, artifacts: artifacts(graph, node) })
    }

    /// `through`, with the artifacts by which one of two depends on the other.
    pub(in crate::http) fn between(graph: &'a Graph, through: Node, dependent: Node, dependency: Node) -> Option<Self> {
        let artifacts = graph.between(dependent, dependency).filter_map(|artifact| graph.artifact_id(artifact));
        Some(Self { provenance_id: graph.record(through)?.id, artifacts: artifacts.collect() })
    }
}

/// What every entry tells of its record.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordStanding)]
pub(in crate::http) struct About<'a> {
    /// The task that made it; for an imported record, one derived from the id it had.
    task_id: TaskId,
    /// Its project.
    #[schema(value_type = ProjectId)]
    project_id: &'a str,
    /// Its verdict.
    #[schema(value_type = RecordStatus)]
    status: &'static str,
    /// Whether it is bad.
    is_tainted: bool,
    /// Whether it may be bad.
    is_suspect: bool,
}

impl<'a> About<'a> {
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

/// A record that another one depends on, or that depends on it.
#[derive(Serialize, ToSchema)]
#[schema(as = RelatedRecord)]
pub(in crate::http) struct EntryWire<'a> {
    /// The record.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// Steps from the record that was asked about.
    depth: u32,
    /// The next record on the way there.
    through: Option<Named<'a>>,
    /// How the nearer of the two was used.
    dependency_type: Relationship,
    #[serde(flatten)]
    about: About<'a>,
}

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Dependents,
    Dependencies,
}

impl Side {
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
            through: Named::between(graph, found.through, dependent, dependency),
            dependency_type: relationship(graph, dependent, dependency),
            about: About::new(graph, &known),
        })
    }
}

/// Consumed, where any artifact between the two was.
fn relationship(graph: &Graph, dependent: Node, dependency: Node) -> Relationship {
    let is_consumed =
        |(_, relationship, link)| link == Link::Bound(dependency) && relationship == Relationship::Consumed;
    if graph.inputs(dependent).any(is_consumed) { Relationship::Consumed } else { Relationship::Referenced }
}

/// How far a walk goes; `None`: to the end.
pub(in crate::http) fn depth(query: &mut Query) -> Option<u32> {
    let depth = query.number("depth", 1..=u64::from(u32::MAX)).and_then(|depth| u32::try_from(depth).ok());
    match query.one("direct").as_deref() {
        None | Some("false") => depth,
        Some("true") => {
            if depth.is_some_and(|depth| depth > 1) {
                query.reject("direct", "can't be given with a depth above 1");
            }
            Some(1)
        }
        Some(_) => {
            query.reject("direct", "must be true or false");
            depth
        }
    }
}

/// The wanted page of what `find` finds, or of what was found before.
pub(in crate::http) async fn page(
    call: &Call,
    place: Option<Place>,
    find: impl FnOnce(&Graph, &Stop) -> Result<What, Problem> + Send + 'static,
) -> Result<Page, Problem> {
    let walks = &call.app.walks;
    if let Some(place) = place {
        return walks.later(place);
    }
    let graph = call.app.engine.provenance().graph();
    let found = walks.run(move |stop| find(&graph, stop).map(|what| Found { graph, what }));
    Ok(Walks::first(found.await??))
}

/// A page of what a record depends on, or of what depends on it.
#[derive(Serialize, ToSchema)]
#[schema(as = RelatedRecords)]
pub(in crate::http) struct WalkWire<'a> {
    /// The record that was asked about.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// In the answer to `/dependents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<EntryWire<'static>>>, nullable = false)]
    dependents: Option<Entries>,
    /// In the answer to `/dependencies`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<EntryWire<'static>>>, nullable = false)]
    dependencies: Option<Entries>,
    /// How many there are.
    total: usize,
    /// The longest way.
    max_depth: u32,
    /// Where the next page begins, for 60 s; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes: go on with the cursor.
    truncated: bool,
}

/// `GET /provenance/{id}/dependents`
pub(in crate::http) async fn dependents(call: Call) -> Reply {
    around(call, Side::Dependents).await
}

/// `GET /provenance/{id}/dependencies`
pub(in crate::http) async fn dependencies(call: Call) -> Reply {
    around(call, Side::Dependencies).await
}

async fn around(call: Call, side: Side) -> Reply {
    let mut query = call.query(&["depth", "direct", "limit", "cursor"]);
    let (limit, depth) = (query.limit(), depth(&mut query));
    let id = call.id();
    let scope = format!("{} {depth:?} {id}", side.name());
    let place = results::place(&mut query, &scope);
    query.finish()?;
    let wanted = id.clone();
    let page = page(&call, place, move |graph, stop| {
        let start = [node(graph, &wanted)?];
        let questions = graph.cancellable(|| stop.is_set());
        Ok(What::Walk(match side {
            Side::Dependents => questions.dependents(&start, depth)?,
            Side::Dependencies => questions.dependencies(&start, depth)?,
        }))
    });
    let page = page.await?;
    let (graph, What::Walk(walk)) = (&page.found.graph, &page.found.what) else {
        return Err(Problem::cursor_expired());
    };
    let places = page.offset..page.offset.saturating_add(limit).min(walk.len());
    let found = places.filter_map(|at| walk.get(at)).map(|found| side.entry(graph, found));
    let mut entries = Entries::new(limit);
    let shown = entries.fill_known(found);
    let truncated = entries.is_truncated();
    let (dependents, dependencies) = match side {
        Side::Dependents => (Some(entries), None),
        Side::Dependencies => (None, Some(entries)),
    };
    let (of, known) = known(graph, &id)?;
    let wire = WalkWire {
        provenance_id: known.id,
        artifacts: artifacts(graph, of),
        dependents,
        dependencies,
        total: walk.len(),
        max_depth: walk.max_depth(),
        next_cursor: call.app.walks.next(&page, &scope, shown, walk.len()),
        limit,
        truncated,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// How far a record reaches.
#[derive(Serialize, ToSchema)]
#[schema(as = Impact)]
pub(in crate::http) struct ImpactWire<'a> {
    /// The record that was asked about.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// All of it in numbers.
    counts: ImpactCounts,
    /// The longest way.
    max_depth: u32,
    /// Tasks that it reaches: a page.
    tasks: &'a [TaskId],
    /// Projects that it reaches: a page.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<&'a str>,
    /// Tasks at work that use any of it: a page.
    running_tasks: &'a [TaskId],
    /// Where the next page begins, for 60 s; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a list.
    limit: usize,
}

/// A reach in numbers.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ImpactCounts {
    /// Records that depend on it.
    records: usize,
    /// Tasks that made them.
    tasks: usize,
    /// Projects they belong to.
    projects: usize,
    /// Tasks at work that use any of it.
    running_tasks: usize,
}

/// A page of a list, by the offset that all lists of an answer share.
pub(in crate::http) fn part<T>(all: &[T], offset: usize, limit: usize) -> &[T] {
    let rest = all.get(offset..).unwrap_or_default();
    &rest[..limit.min(rest.len())]
}

/// `GET /provenance/{id}/impact`
pub(in crate::http) async fn impact(call: Call) -> Reply {
    let mut query = call.query(&["depth", "direct", "limit", "cursor"]);
    let (limit, depth) = (query.limit(), depth(&mut query));
    let id = call.id();
    let scope = format!("impact {depth:?} {id}");
    let place = results::place(&mut query, &scope);
    query.finish()?;
    let wanted = id.clone();
    let page = page(&call, place, move |graph, stop| {
        let impact = graph.cancellable(|| stop.is_set()).impact(&[node(graph, &wanted)?], depth)?;
        Ok(What::Impact(impact))
    });
    let page = page.await?;
    let (graph, What::Impact(impact)) = (&page.found.graph, &page.found.what) else {
        return Err(Problem::cursor_expired());
    };
    let (of, known) = known(graph, &id)?;
    let reached = impact.walk.iter().map(|found| found.record).chain([of]).collect();
    let running = call.app.engine.provenance().running_users(graph.clone(), reached).await?;
    let projects = part(&impact.projects, page.offset, limit).iter().filter_map(|project| graph.project_id(*project));
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
        tasks: part(&impact.tasks, page.offset, limit),
        projects: projects.collect(),
        running_tasks: part(&running, page.offset, limit),
        next_cursor: call.app.walks.next(&page, &scope, limit, total),
        counts,
        limit,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

/// A tainted record that another one depends on.
#[derive(Serialize, ToSchema)]
#[schema(as = Cause)]
pub(in crate::http) struct CauseWire<'a> {
    /// The record.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// Steps from the record that was asked about.
    depth: u32,
    /// When it was tainted.
    tainted_at: Option<Time>,
    /// Why.
    tainted_reason: Option<String>,
    #[serde(flatten)]
    about: About<'a>,
    /// From the cause down to the record.
    path: Vec<Named<'a>>,
    /// The path is longer: `GET /provenance/path` has all of it.
    truncated: bool,
}

/// Where a taint comes from, the nearest first.
#[derive(Serialize, ToSchema)]
#[schema(as = RootCauses)]
pub(in crate::http) struct CausesWire {
    /// The record that was asked about.
    provenance_id: RecordId,
    /// Whether it is bad itself.
    is_tainted: bool,
    /// Whether it may be bad.
    is_suspect: bool,
    /// The tainted records above it.
    #[schema(value_type = Vec<CauseWire<'static>>)]
    causes: Entries,
    /// How many there are.
    total: usize,
    /// Whether there are more than are listed.
    truncated: bool,
    /// Most entries of the list.
    limit: usize,
}

/// `GET /provenance/{id}/root-cause`
pub(in crate::http) async fn root_cause(call: Call) -> Reply {
    let mut query = call.query(&["depth", "limit"]);
    let (limit, depth) = (query.limit(), depth(&mut query));
    query.finish()?;
    let id = call.id();
    let graph = call.app.engine.provenance().graph();
    let (of, known) = known(&graph, &id)?;
    let searched = graph.clone();
    let paths = call.app.walks.run(move |stop| {
        let causes = searched.cancellable(|| stop.is_set()).root_causes(of, depth)?;
        let nearest = causes.iter().take(limit).enumerate().map(|(at, (_, depth))| {
            let mut path = causes.path(at);
            path.truncate(MOST_OF_PATH);
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
            tainted_at: tainted_at.map(Shown),
            tainted_reason,
            about: About::new(&graph, &known),
            truncated: usize::try_from(depth).is_ok_and(|depth| path.len() <= depth),
            path: path.iter().filter_map(|node| Named::new(&graph, *node)).collect(),
        };
        if !causes.push(&wire) {
            break;
        }
    }
    let truncated = causes.len() < total;
    let about = About::new(&graph, &known);
    let (is_tainted, is_suspect) = (about.is_tainted, about.is_suspect);
    let wire = CausesWire { provenance_id: known.id, is_tainted, is_suspect, causes, total, truncated, limit };
    Ok(reply::json(StatusCode::OK, &wire))
}
