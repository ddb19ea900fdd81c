//! Taints, marks and clears: what is said of a record, and what follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use fixedbitset::FixedBitSet;
use hyper::{Response, StatusCode};
use petgraph::visit::{NodeCount as _, NodeIndexable as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::{NoContext, Uuid};

use crate::engine::CascadeRequest;
use crate::http::api::app::Call;
use crate::http::api::provenance::results::{self, Found, Page, Walks, What};
use crate::http::api::provenance::walks::{About, Named, artifacts, subject};
use crate::http::server::body::Body;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};
use crate::json::{self, FieldError, Findings};
use crate::lineage::{Action, Flag, FlagChange, Graph};
use crate::task::{ArtifactId, ProjectId, RecordId, TaskId, Timestamp};

/// Longest reason, in bytes.
pub(in crate::http) const MAX_REASON_BYTES: usize = 4096;

/// What is said of a record, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FlagRequest)]
pub(in crate::http) struct AskedWire {
    /// For people; not blank.
    #[schema(required, nullable = false)]
    reason: Option<String>,
    /// The record or artifact that it comes from; one that is known here.
    #[schema(value_type = Option<ArtifactId>)]
    source_id: Option<String>,
    /// An id of the caller for all that follows. Without it, one is made.
    #[schema(value_type = Option<ArtifactId>)]
    cascade_id: Option<String>,
    /// Only tell what would change.
    dry_run: Option<bool>,
    /// How far a dry run looks; for a dry run only.
    max_depth: Option<i64>,
    /// Cancel the tasks at work that use what becomes bad.
    cancel_running: Option<bool>,
}

/// A checked request.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    reason: String,
    source: Option<String>,
    cascade_id: Option<String>,
    dry_run: bool,
    max_depth: Option<u32>,
    cancel_running: bool,
}

fn check(wire: AskedWire, errors: Vec<FieldError>) -> Result<Asked, Problem> {
    let mut found = Findings::from_errors(errors);
    let reason = found.required("/reason", wire.reason).unwrap_or_default();
    if found.is_empty() && reason.trim().is_empty() {
        found.add("/reason", "must not be blank");
    }
    if reason.len() > MAX_REASON_BYTES {
        found.add("/reason", format!("must be at most {MAX_REASON_BYTES} bytes, was {}", reason.len()));
    }
    // Ids of others follow the same rules, whatever they name.
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
            found.add("/max_depth", "is for a dry run only: what is said reaches every dependent");
        }
        limit
    });
    let cancel_running = wire.cancel_running.unwrap_or(false);
    if found.is_empty() {
        Ok(Asked { reason, source, cascade_id, dry_run, max_depth, cancel_running })
    } else {
        Err(Problem::invalid(found.into_errors()))
    }
}

/// Changes of flags in numbers.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FlagCounts)]
pub(in crate::http) struct Counts {
    /// Records that become tainted.
    pub(in crate::http) tainted: usize,
    /// Records that become suspect.
    pub(in crate::http) suspect: usize,
    /// Records that become clean.
    cleared: usize,
    /// Tasks whose records these are.
    pub(in crate::http) tasks: usize,
    /// Projects whose records these are.
    pub(in crate::http) projects: usize,
}

/// A taint, a mark or a clear in numbers.
#[derive(Serialize, ToSchema)]
#[schema(as = CascadeCounts)]
pub(in crate::http) struct SaidCounts {
    #[serde(flatten)]
    flags: Counts,
    /// Tasks at work that use what becomes bad.
    running_tasks: usize,
    /// Those of them that were cancelled.
    cancelled: usize,
}

/// What followed from a taint, a mark or a clear, or would follow.
#[derive(Serialize, ToSchema)]
#[schema(as = Cascade)]
pub(in crate::http) struct CascadeWire<'a> {
    /// Of the entries in the audit trail. Null in a dry run, unless the request names one.
    cascade_id: Option<&'a str>,
    /// Whether nothing was changed.
    dry_run: bool,
    /// The record it was said of.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// All of it in numbers.
    counts: SaidCounts,
    /// The longest way to an affected record.
    max_depth: u32,
    /// The first tasks whose records change.
    tasks: Vec<TaskId>,
    /// The first projects whose records change.
    #[schema(value_type = Vec<ProjectId>)]
    projects: Vec<String>,
    /// The first tasks at work that use what becomes bad.
    running_tasks: &'a [TaskId],
    /// The first of those that were cancelled.
    cancelled: &'a [TaskId],
    /// Records whose flag changes.
    #[serde(flatten)]
    affected: AffectedWire,
}

/// A record whose flag changes.
#[derive(Serialize, ToSchema)]
#[schema(as = FlagChange)]
pub(in crate::http) struct ChangeWire<'a> {
    /// The record.
    provenance_id: RecordId,
    /// What it has made.
    #[schema(value_type = Vec<ArtifactId>)]
    artifacts: Vec<&'a str>,
    /// Steps from the record it was said of.
    depth: u32,
    /// The record by which it is affected; null for the record itself.
    through: Option<Named<'a>>,
    /// The flag before.
    from: Flag,
    /// The flag after.
    to: Flag,
    #[serde(flatten)]
    about: About<'a>,
}

fn change<'a>(graph: &'a Graph, change: &FlagChange) -> Option<ChangeWire<'a>> {
    let mut known = graph.record(change.record)?;
    // A dry run changes nothing, but the entry tells what would be.
    known.flag = change.to;
    Some(ChangeWire {
        provenance_id: known.id,
        artifacts: artifacts(graph, change.record),
        depth: change.depth,
        through: change.through.and_then(|through| Named::between(graph, through, change.record, through)),
        from: change.from,
        to: change.to,
        about: About::new(graph, &known),
    })
}

fn changes(page: &Page) -> &[FlagChange] {
    match &page.found.what {
        What::Changes(changes) => changes,
        What::Walk(_) | What::Impact(_) | What::Path(_) => &[],
    }
}

/// The scope of cursors behind the answer of a taint, a mark or a clear.
fn scope(id: &str) -> String {
    format!("affected {id}")
}

/// All changes in numbers, and the ids of the first tasks and projects.
pub(in crate::http) struct Summary {
    pub(in crate::http) counts: Counts,
    pub(in crate::http) max_depth: u32,
    pub(in crate::http) tasks: Vec<TaskId>,
    pub(in crate::http) projects: Vec<String>,
}

impl Summary {
    /// Whether there are more tasks or projects than it lists.
    pub(in crate::http) const fn is_cut(&self) -> bool {
        self.tasks.len() < self.counts.tasks || self.projects.len() < self.counts.projects
    }
}

/// The first entries of a list of ids.
pub(in crate::http) fn first<T>(all: &[T], limit: usize) -> &[T] {
    all.get(..limit).unwrap_or(all)
}

pub(in crate::http) fn summary(found: &Found, limit: usize) -> Summary {
    let What::Changes(all) = &found.what else {
        return Summary { counts: Counts::default(), max_depth: 0, tasks: Vec::new(), projects: Vec::new() };
    };
    let (graph, mut counts, mut max_depth) = (&found.graph, Counts::default(), 0);
    // Gone over in the order in which records lie in memory, which is that of
    // their tasks as well: there are up to a million.
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

/// The summary of what is committed: an answer that must come. It waits for no
/// place among the walks and has no deadline.
pub(in crate::http) async fn summary_of_committed(found: Arc<Found>, limit: usize) -> Summary {
    let of = found.clone();
    let made = tokio::task::spawn_blocking(move || summary(&of, limit)).await;
    // Without that thread the service is stopping, and this one has to do it.
    made.unwrap_or_else(|_| summary(&found, limit))
}

/// What came of it, or would.
struct Outcome {
    record: RecordId,
    summary: Summary,
    cascade_id: Option<String>,
    dry_run: bool,
    page: Page,
    running: Vec<TaskId>,
    cancelled: Vec<TaskId>,
}

/// Reads nothing and can't fail: what it tells of may be committed.
fn answer(call: &Call, outcome: Outcome, limit: usize) -> Response<Body> {
    let Outcome { summary, page, running, cancelled, .. } = outcome;
    let graph = &page.found.graph;
    let artifacts = graph.find(outcome.record).map(|node| artifacts(graph, node)).unwrap_or_default();
    let is_cut = summary.is_cut() || running.len().max(cancelled.len()) > limit;
    let wire = CascadeWire {
        cascade_id: outcome.cascade_id.as_deref(),
        dry_run: outcome.dry_run,
        provenance_id: outcome.record,
        artifacts,
        counts: SaidCounts { flags: summary.counts, running_tasks: running.len(), cancelled: cancelled.len() },
        max_depth: summary.max_depth,
        tasks: summary.tasks,
        projects: summary.projects,
        running_tasks: first(&running, limit),
        cancelled: first(&cancelled, limit),
        affected: AffectedWire::new(call, &page, &scope(&call.id()), limit).or_cut(is_cut),
    };
    reply::json(StatusCode::OK, &wire)
}

async fn say(mut call: Call, action: Action) -> Reply {
    let mut query = call.query(&["limit"]);
    let limit = query.limit();
    query.finish()?;
    let (wire, errors) = call.json().await?;
    let asked = check(wire, errors)?;
    let id = call.id();
    let engine = &call.app.engine;
    let graph = engine.provenance().graph();
    let (named, node) = subject(&graph, &id).ok_or_else(|| Problem::provenance_not_found(&id))?;
    let cascade_id = asked.cascade_id;
    if let Some(source) = asked.source.as_deref().filter(|source| subject(&graph, source).is_none()) {
        let message = format!("must be a record or an artifact that is known here, was {}", json::quoted(source));
        return Err(Problem::invalid_field("/source_id", message));
    }
    if asked.dry_run {
        let record = graph.record(node).ok_or_else(|| Problem::provenance_not_found(&id))?.id;
        let asked = Preview { action, record, max_depth: asked.max_depth, cascade_id, limit };
        return call.app.server.with_walk_timeout(preview(&call, graph, asked)).await;
    }
    let Asked { reason, source, cancel_running, .. } = asked;
    let cascade_id = cascade_id.unwrap_or_else(|| made_id(call.app.clock.wall()).to_string());
    let request = CascadeRequest { action, subject: named, reason, source, cascade_id, cancel_running };
    let cascade = engine.provenance().cascade(request).await?;
    let found = Found { graph: cascade.graph.into(), what: What::Changes(cascade.step.flags) };
    let page = Walks::first(found);
    let outcome = Outcome {
        record: cascade.record,
        summary: summary_of_committed(page.found.clone(), limit).await,
        cascade_id: Some(cascade.cascade_id),
        dry_run: false,
        page,
        running: cascade.running,
        cancelled: cascade.cancelled,
    };
    Ok(answer(&call, outcome, limit))
}

/// A dry run.
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
    let step = call.app.walks.run(move |stop| of.cancellable(|| stop.is_set()).preview(action, &[record], max_depth));
    // The record is there, and nothing else can be refused.
    let step = step.await??.map_err(|_| Problem::provenance_not_found(&call.id()))?;
    let worse = step.flags.iter().filter(|change| change.to > change.from).map(|change| change.record);
    let running = call.app.engine.provenance().running_users(graph.clone(), worse.collect()).await?;
    let page = Walks::first(Found { graph, what: What::Changes(step.flags) });
    let found = page.found.clone();
    let summary = call.app.walks.run(move |_| summary(&found, limit)).await?;
    let cancelled = Vec::new();
    Ok(answer(call, Outcome { record, summary, cascade_id, dry_run: true, page, running, cancelled }, limit))
}

fn made_id(now: Timestamp) -> Uuid {
    let seconds = now.as_millis() / 1000;
    let nanos = u32::try_from(now.as_millis() % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}

/// `POST /provenance/{id}/taint`
pub(in crate::http) async fn taint(call: Call) -> Reply {
    say(call, Action::Taint).await
}

/// `POST /provenance/{id}/suspect`
pub(in crate::http) async fn suspect(call: Call) -> Reply {
    say(call, Action::Mark).await
}

/// `POST /provenance/{id}/clear`
pub(in crate::http) async fn clear(call: Call) -> Reply {
    say(call, Action::Clear).await
}

/// A page of records whose flag changes.
#[derive(Serialize, ToSchema)]
#[schema(as = AffectedList)]
pub(in crate::http) struct AffectedWire {
    /// The records.
    #[schema(value_type = Vec<ChangeWire<'static>>)]
    affected: Entries,
    /// How many there are.
    total: usize,
    /// Where the next page begins, at `affected` below the path of what was said; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a list.
    limit: usize,
    /// The page ends before its limit, by its bytes: go on with the cursor. Or another list of the answer has more
    /// than `limit`: then its counts say how many.
    truncated: bool,
}

impl AffectedWire {
    /// A part of the changes. Reads nothing and can't fail.
    pub(in crate::http) fn new(call: &Call, page: &Page, scope: &str, limit: usize) -> Self {
        let (all, mut affected) = (changes(page), Entries::new(limit));
        let part = all.iter().skip(page.offset).take(limit);
        let shown = affected.fill_known(part.map(|each| change(&page.found.graph, each)));
        let next_cursor = call.app.walks.next(page, scope, shown, all.len());
        Self { truncated: affected.is_truncated(), affected, total: all.len(), next_cursor, limit }
    }

    /// As a part of an answer in which another list may be cut short.
    pub(in crate::http) fn or_cut(mut self, is_cut: bool) -> Self {
        self.truncated |= is_cut;
        self
    }
}

/// `GET /provenance/{id}/affected`: the pages behind the answer of a taint, a
/// mark or a clear.
pub(in crate::http) fn affected(call: &Call) -> Reply {
    let required = "is required: the next_cursor of a taint, suspect or clear of this id";
    affected_page(call, &scope(&call.id()), required)
}

/// A page behind an answer that told of changes.
pub(in crate::http) fn affected_page(call: &Call, scope: &str, required: &str) -> Reply {
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let place = results::place(&mut query, scope);
    query.finish()?;
    let place = place.ok_or_else(|| Problem::invalid_field("cursor", required))?;
    let page = call.app.walks.later(place)?;
    Ok(reply::json(StatusCode::OK, &AffectedWire::new(call, &page, scope, limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Asked, Vec<String>> {
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
    fn lists_are_cut() {
        assert_eq!((first(&[1, 2, 3], 2), first(&[1], 2)), (&[1, 2][..], &[1][..]));
    }

    #[test]
    fn everything_wrong_is_named() {
        assert_eq!(checked("{}").unwrap_err(), ["/reason"]);
        assert_eq!(checked(r#"{"reason":" "}"#).unwrap_err(), ["/reason"]);
        assert_eq!(checked(r#"{"reason":"r","max_depth":3}"#).unwrap_err(), ["/max_depth"]);
        assert_eq!(checked(r#"{"reason":"r","dry_run":true,"max_depth":-1}"#).unwrap_err(), ["/max_depth"]);
        let found = checked(r#"{"reason":"r","source_id":"","cascade_id":"a\u0001"}"#).unwrap_err();
        assert_eq!(found, ["/source_id", "/cascade_id"]);
        assert_eq!(checked(r#"{"reson":"r"}"#).unwrap_err(), ["/reson", "/reason"]);
    }
}
