//! `POST /provenance/{id}/taint`, `/suspect` and `/clear`: changes of the flag of a record, and of the records
//! that depend on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use fixedbitset::FixedBitSet;
use hyper::{Response, StatusCode};
use petgraph::visit::{NodeCount as _, NodeIndexable as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::CascadeRequest;
use crate::http::api::app::Call;
use crate::http::api::fields::{new_uuid, required_reason};
use crate::http::api::provenance::graph::{NamedRecordWire, StandingWire, artifacts, find_subject};
use crate::http::api::provenance::results::{self, Queries, QueryResult, ResultKind, ResultPage};
use crate::http::server::body::Body;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::json::{self, FieldError, Findings};
use crate::lineage::{Action, Flag, FlagChange, Graph};
use crate::task::{ArtifactId, ProjectId, RecordId, TaskId};

/// A request that changes the flag of a record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FlagRequest)]
pub(in crate::http) struct FlagRequestWire {
    /// The reason, for the audit trail. It must not be blank.
    #[schema(required, nullable = false)]
    reason: Option<String>,
    /// The record or artifact that the change follows from. It must exist.
    #[schema(value_type = Option<ArtifactId>)]
    source_id: Option<String>,
    /// An id for all changes that follow. The default is a new UUID.
    #[schema(value_type = Option<ArtifactId>)]
    cascade_id: Option<String>,
    /// Report what would change, and change nothing. The default is false.
    dry_run: Option<bool>,
    /// The largest number of steps that a dry run follows; only for a dry run.
    max_depth: Option<i64>,
    /// Cancel the running tasks that use records whose flag gets worse. The default is false.
    cancel_running: Option<bool>,
}

/// A checked request.
#[derive(Debug, PartialEq, Eq)]
struct FlagRequest {
    reason: String,
    source: Option<String>,
    cascade_id: Option<String>,
    dry_run: bool,
    max_depth: Option<u32>,
    cancel_running: bool,
}

fn check(wire: FlagRequestWire, errors: Vec<FieldError>) -> Result<FlagRequest, Problem> {
    let mut found = Findings::from_errors(errors);
    let reason = required_reason(&mut found, wire.reason);
    // External ids follow the same rules, whatever they name.
    let mut id = |pointer: &str, text: Option<String>| {
        let text = text?;
        found.parse::<ArtifactId>(pointer, &text).map(|_| text)
    };
    let (source, cascade_id) = (id("/source_id", wire.source_id), id("/cascade_id", wire.cascade_id));
    let dry_run = wire.dry_run.unwrap_or(false);
    let max_depth = wire.max_depth.and_then(|depth| {
        let limit = u32::try_from(depth).ok();
        if limit.is_none() {
            found.add("/max_depth", format!("must be from 0 to {}, was {depth}", u32::MAX));
        } else if !dry_run {
            found.add("/max_depth", "is for a dry run only: a change reaches every dependent record");
        }
        limit
    });
    let cancel_running = wire.cancel_running.unwrap_or(false);
    if found.is_empty() {
        Ok(FlagRequest { reason, source, cascade_id, dry_run, max_depth, cancel_running })
    } else {
        Err(Problem::invalid(found.into_errors()))
    }
}

/// The counts of flag changes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FlagCounts)]
pub(in crate::http) struct Counts {
    /// The number of records that become tainted.
    pub(in crate::http) tainted: usize,
    /// The number of records that become suspect.
    pub(in crate::http) suspect: usize,
    /// The number of records that become clean.
    cleared: usize,
    /// The number of tasks that made these records.
    pub(in crate::http) tasks: usize,
    /// The number of projects with these records.
    pub(in crate::http) projects: usize,
}

/// The counts of a taint, suspect or clear request.
#[derive(Serialize, ToSchema)]
#[schema(as = CascadeCounts)]
pub(in crate::http) struct CascadeCounts {
    #[serde(flatten)]
    flags: Counts,
    /// The number of running tasks that use records whose flag gets worse.
    running_tasks: usize,
    /// The number of those tasks that were cancelled.
    cancelled: usize,
}

/// The effect of a taint, suspect or clear request, or of a dry run.
#[derive(Serialize, ToSchema)]
#[schema(as = Cascade)]
pub(in crate::http) struct CascadeWire<'a> {
    /// The id of the entries in the audit trail; null in a dry run unless the request names one.
    cascade_id: Option<&'a str>,
    /// Whether this was a dry run, which changes nothing.
    dry_run: bool,
    /// The id of the record that the request named.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The counts. The lists below have at most `limit` entries.
    counts: CascadeCounts,
    /// The largest number of steps to an affected record.
    max_depth: u32,
    /// The first tasks whose records change.
    tasks: Vec<TaskId>,
    /// The first projects whose records change.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<String>,
    /// The first running tasks that use records whose flag gets worse.
    running_tasks: &'a [TaskId],
    /// The first of those tasks that were cancelled.
    cancelled: &'a [TaskId],
    /// The records whose flag changes.
    #[serde(flatten)]
    affected: AffectedWire,
}

/// A record whose flag changes.
#[derive(Serialize, ToSchema)]
#[schema(as = FlagChange)]
pub(in crate::http) struct ChangeWire<'a> {
    /// The id of the record.
    provenance_id: RecordId,
    /// The artifacts that the record made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// The number of steps from the record that the request named.
    depth: u32,
    /// The record through which it is affected; null for the record that the request named.
    through: Option<NamedRecordWire<'a>>,
    /// The flag before the change.
    from: Flag,
    /// The flag after the change.
    to: Flag,
    #[serde(flatten)]
    about: StandingWire<'a>,
}

/// Renders a change of a flag.
fn flag_change<'a>(graph: &'a Graph, change: &FlagChange) -> Option<ChangeWire<'a>> {
    let mut known = graph.record(change.record)?;
    // The graph of a dry run is unchanged, but the entry shows the flag after the change.
    known.flag = change.to;
    Some(ChangeWire {
        provenance_id: known.id,
        artifacts: artifacts(graph, change.record),
        depth: change.depth,
        through: change.through.and_then(|through| NamedRecordWire::between(graph, through, change.record, through)),
        from: change.from,
        to: change.to,
        about: StandingWire::new(graph, &known),
    })
}

/// Returns the changes of a result.
fn flag_changes(page: &ResultPage) -> &[FlagChange] {
    match &page.found.what {
        ResultKind::Changes(changes) => changes,
        ResultKind::Walk(_) | ResultKind::Impact(_) | ResultKind::Path(_) => &[],
    }
}

/// Returns the scope of the cursors of a taint, suspect or clear request.
fn scope(id: &str) -> String {
    format!("affected {id}")
}

/// The counts of all changes, and the ids of the first tasks and projects.
pub(in crate::http) struct Summary {
    pub(in crate::http) counts: Counts,
    pub(in crate::http) max_depth: u32,
    pub(in crate::http) tasks: Vec<TaskId>,
    pub(in crate::http) projects: Vec<String>,
}

impl Summary {
    /// Whether there are more tasks or projects than are listed.
    pub(in crate::http) const fn is_cut(&self) -> bool {
        self.tasks.len() < self.counts.tasks || self.projects.len() < self.counts.projects
    }
}

/// Returns at most the first `limit` entries.
pub(in crate::http) fn first<T>(all: &[T], limit: usize) -> &[T] {
    all.get(..limit).unwrap_or(all)
}

/// Counts the changes of a result.
pub(in crate::http) fn summarize(found: &QueryResult, limit: usize) -> Summary {
    let ResultKind::Changes(all) = &found.what else {
        return Summary { counts: Counts::default(), max_depth: 0, tasks: Vec::new(), projects: Vec::new() };
    };
    let (graph, mut counts, mut max_depth) = (&found.graph, Counts::default(), 0);
    // Visits the records in the order in which they lie in memory, which is also that of their tasks, because
    // there can be a million of them.
    let mut changed = FixedBitSet::with_capacity(graph.node_count());
    for change in all {
        changed.insert(graph.to_index(change.record));
        max_depth = max_depth.max(change.depth);
        match change.to {
            Flag::Tainted => counts.tainted += 1,
            Flag::Suspect => counts.suspect += 1,
            Flag::Clean => counts.cleared += 1,
        }
    }
    let (mut tasks, mut seen) = (Vec::with_capacity(all.len()), FixedBitSet::with_capacity(graph.projects().count()));
    for (task, project) in changed.ones().filter_map(|at| graph.task_and_project(graph.from_index(at))) {
        tasks.push(task);
        seen.insert(project.number());
    }
    tasks.sort_unstable();
    tasks.dedup();
    let projects = graph.projects().filter(|project| seen.contains(project.number()));
    let projects: BTreeSet<&str> = projects.filter_map(|project| graph.project_id(project)).collect();
    (counts.tasks, counts.projects) = (tasks.len(), projects.len());
    Summary {
        counts,
        max_depth,
        tasks: tasks.into_iter().take(limit).collect(),
        projects: projects.into_iter().take(limit).map(str::to_owned).collect(),
    }
}

/// Counts committed changes. It waits for no other query and has no time limit, because the response to a
/// committed change must be sent.
pub(in crate::http) async fn summarize_committed(found: Arc<QueryResult>, limit: usize) -> Summary {
    let of = found.clone();
    let made = tokio::task::spawn_blocking(move || summarize(&of, limit)).await;
    // The blocking pool refuses work only while the service stops; this thread does it then.
    made.unwrap_or_else(|_| summarize(&found, limit))
}

/// What a request changed, or would change.
struct Outcome {
    record: RecordId,
    summary: Summary,
    cascade_id: Option<String>,
    dry_run: bool,
    page: ResultPage,
    running: Vec<TaskId>,
    cancelled: Vec<TaskId>,
}

/// Renders the response. It reads nothing and cannot fail, because the change may be committed.
fn cascade_response(call: &Call, outcome: Outcome, limit: usize) -> Response<Body> {
    let Outcome { summary, page, running, cancelled, .. } = outcome;
    let graph = &page.found.graph;
    let artifacts = graph.find(outcome.record).map(|node| artifacts(graph, node)).unwrap_or_default();
    let is_cut = summary.is_cut() || running.len().max(cancelled.len()) > limit;
    let wire = CascadeWire {
        cascade_id: outcome.cascade_id.as_deref(),
        dry_run: outcome.dry_run,
        provenance_id: outcome.record,
        artifacts,
        counts: CascadeCounts { flags: summary.counts, running_tasks: running.len(), cancelled: cancelled.len() },
        max_depth: summary.max_depth,
        tasks: summary.tasks,
        projects: summary.projects,
        running_tasks: first(&running, limit),
        cancelled: first(&cancelled, limit),
        affected: AffectedWire::new(call, &page, &scope(&call.id()), limit).or_cut(is_cut),
    };
    reply::json(StatusCode::OK, &wire)
}

/// Handles the requests that change a flag.
async fn change_flag(mut call: Call, action: Action) -> Reply {
    let mut query = call.query(&["limit"]);
    let limit = query.limit();
    query.finish()?;
    let (wire, errors) = call.json().await?;
    let asked = check(wire, errors)?;
    let id = call.id();
    let engine = &call.app.engine;
    let graph = engine.provenance().graph();
    let (named, node) = find_subject(&graph, &id).ok_or_else(|| Problem::provenance_not_found(&id))?;
    let cascade_id = asked.cascade_id;
    if let Some(source) = asked.source.as_deref().filter(|source| find_subject(&graph, source).is_none()) {
        let message = format!("must be a record or an artifact that exists here, was {}", json::quoted(source));
        return Err(Problem::invalid_field("/source_id", message));
    }
    if asked.dry_run {
        let record = graph.record(node).ok_or_else(|| Problem::provenance_not_found(&id))?.id;
        let asked = Preview { action, record, max_depth: asked.max_depth, cascade_id, limit };
        return call.app.server.with_walk_timeout(preview(&call, graph, asked)).await;
    }
    let FlagRequest { reason, source, cancel_running, .. } = asked;
    let cascade_id = cascade_id.unwrap_or_else(|| new_uuid(call.app.clock.wall()).to_string());
    let request = CascadeRequest { action, subject: named, reason, source, cascade_id, cancel_running };
    let cascade = engine.provenance().cascade(request).await?;
    let found = QueryResult { graph: cascade.graph.into(), what: ResultKind::Changes(cascade.step.flags) };
    let page = Queries::first(found);
    let outcome = Outcome {
        record: cascade.record,
        summary: summarize_committed(page.found.clone(), limit).await,
        cascade_id: Some(cascade.cascade_id),
        dry_run: false,
        page,
        running: cascade.running,
        cancelled: cascade.cancelled,
    };
    Ok(cascade_response(&call, outcome, limit))
}

/// The parameters of a dry run.
struct Preview {
    action: Action,
    record: RecordId,
    max_depth: Option<u32>,
    cascade_id: Option<String>,
    limit: usize,
}

async fn preview(call: &Call, graph: Arc<Graph>, asked: Preview) -> Reply {
    let Preview { action, record, max_depth, cascade_id, limit } = asked;
    let of = graph.clone();
    let step = call.app.queries.run(move |stop| of.cancellable(|| stop.is_set()).preview(action, &[record], max_depth));
    // The record exists, and no other refusal is possible.
    let step = step.await??.map_err(|_| Problem::provenance_not_found(&call.id()))?;
    let worse = step.flags.iter().filter(|change| change.to > change.from).map(|change| change.record);
    let running = call.app.engine.provenance().running_users(graph.clone(), worse.collect()).await?;
    let page = Queries::first(QueryResult { graph, what: ResultKind::Changes(step.flags) });
    let found = page.found.clone();
    let summary = call.app.queries.run(move |_| summarize(&found, limit)).await?;
    let cancelled = Vec::new();
    Ok(cascade_response(call, Outcome { record, summary, cascade_id, dry_run: true, page, running, cancelled }, limit))
}

/// Handles `POST /provenance/{id}/taint`.
pub(in crate::http) async fn taint(call: Call) -> Reply {
    change_flag(call, Action::Taint).await
}

/// Handles `POST /provenance/{id}/suspect`.
pub(in crate::http) async fn suspect(call: Call) -> Reply {
    change_flag(call, Action::Mark).await
}

/// Handles `POST /provenance/{id}/clear`.
pub(in crate::http) async fn clear(call: Call) -> Reply {
    change_flag(call, Action::Clear).await
}

/// A page of records whose flag changes.
#[derive(Serialize, ToSchema)]
#[schema(as = AffectedList)]
pub(in crate::http) struct AffectedWire {
    /// The records.
    #[schema(value_type = Vec<ChangeWire<'static>>)]
    affected: Entries,
    /// The number of records whose flag changes.
    total: usize,
    /// The cursor of the next page, which is at `affected` below the path of the request; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of each list.
    limit: usize,
    /// Whether the page was cut off by its size in bytes, and the cursor continues after it, or another list of
    /// the response was cut off, and the counts have its length.
    truncated: bool,
}

impl AffectedWire {
    /// Renders a page of the changes. It reads nothing and cannot fail.
    pub(in crate::http) fn new(call: &Call, page: &ResultPage, scope: &str, limit: usize) -> Self {
        let (all, mut affected) = (flag_changes(page), Entries::new(limit));
        let part = all.iter().skip(page.offset).take(limit);
        let shown = affected.fill_known(part.map(|each| flag_change(&page.found.graph, each)));
        let next_cursor = call.app.queries.next_cursor(page, scope, shown, all.len());
        Self { truncated: affected.is_truncated(), affected, total: all.len(), next_cursor, limit }
    }

    /// Marks the page as truncated if another list of the response was cut off.
    pub(in crate::http) fn or_cut(mut self, is_cut: bool) -> Self {
        self.truncated |= is_cut;
        self
    }
}

/// Handles `GET /provenance/{id}/affected`: further pages of the response to a taint, suspect or clear request.
pub(in crate::http) fn affected(call: &Call) -> Reply {
    let required = "is required: the next_cursor of a taint, suspect or clear request for this id";
    affected_page(call, &scope(&call.id()), required)
}

/// Responds with a further page of changes. `required` is the message for a missing cursor.
pub(in crate::http) fn affected_page(call: &Call, scope: &str, required: &str) -> Reply {
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let place = results::parse_position(&mut query, scope);
    query.finish()?;
    let place = place.ok_or_else(|| Problem::invalid_field("cursor", required))?;
    let page = call.app.queries.further(place)?;
    Ok(reply::json(StatusCode::OK, &AffectedWire::new(call, &page, scope, limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<FlagRequest, Vec<String>> {
        let (wire, errors) = json::decode_all(text.as_bytes(), 10_000).unwrap();
        check(wire, errors).map_err(|problem| {
            let wire = serde_json::to_value(problem.wire("/")).unwrap();
            let errors = wire["errors"].as_array().unwrap().iter();
            errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
        })
    }

    #[test]
    fn a_reason_is_enough() {
        let asked = checked(r#"{"reason":"bad"}"#).unwrap();
        assert!(!asked.dry_run && !asked.cancel_running && asked.max_depth.is_none() && asked.cascade_id.is_none());
        let asked =
            checked(r#"{"reason":"bad","dry_run":true,"max_depth":3,"source_id":"s","cascade_id":"c"}"#).unwrap();
        assert_eq!(
            (asked.max_depth, asked.source.as_deref(), asked.cascade_id.as_deref()),
            (Some(3), Some("s"), Some("c"))
        );
    }

    #[test]
    fn lists_are_cut_off() {
        assert_eq!((first(&[1, 2, 3], 2), first(&[1], 2)), (&[1, 2][..], &[1][..]));
    }

    #[test]
    fn invalid_fields_are_reported() {
        assert_eq!(checked("{}").unwrap_err(), ["/reason"]);
        assert_eq!(checked(r#"{"reason":" "}"#).unwrap_err(), ["/reason"]);
        assert_eq!(checked(r#"{"reason":"r","max_depth":3}"#).unwrap_err(), ["/max_depth"]);
        assert_eq!(checked(r#"{"reason":"r","dry_run":true,"max_depth":-1}"#).unwrap_err(), ["/max_depth"]);
        let found = checked(r#"{"reason":"r","source_id":"","cascade_id":"a\u0001"}"#).unwrap_err();
        assert_eq!(found, ["/source_id", "/cascade_id"]);
        assert_eq!(checked(r#"{"reson":"r"}"#).unwrap_err(), ["/reson", "/reason"]);
    }
}
