//! The context of a task, which `task.ready` and leases carry to help the
//! worker. Each part has a limit in bytes of JSON, because a message has one; a
//! context of which a part was cut says so.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::truncate::{cut_string, cut_value, json_bytes, take_fitting};
use crate::store::{self, Record, View};
use crate::task::{ArtifactId, End, Findings, OutputArtifact, RecordId, Task, TaskId};

/// The largest context, in bytes of JSON.
const MAX_CONTEXT_BYTES: usize = 512 * 1024;
// The largest parts, in bytes of JSON. Dependencies share the rest.
const PREVIOUS_BYTES: usize = 64 * 1024;
const CRITERIA_BYTES: usize = 32 * 1024;
const REASONING_BYTES: usize = 16 * 1024;
/// The text from RAG has at most 128 KiB before it is escaped.
const TEXT_BYTES: usize = 160 * 1024;
const SOURCES_BYTES: usize = 32 * 1024;
const PARENT_BYTES: usize = 96 * 1024;
/// The most bytes of the keys and ids of all parts.
const FRAME_BYTES: usize = 1024;
/// Bytes of a dependency without its description and artifacts, including a comma.
const DEPENDENCY_BYTES: usize = 128;
/// Below this share, a dependency is named without its description and artifacts.
const MIN_DESCRIBED_BYTES: usize = 256;

type Stored<T> = Result<T, store::Error>;

/// Information that may help a worker. Parts that the task does not have are absent; all parts
/// together have at most 512 KiB of JSON.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct TaskContext {
    /// The task of which this one is a subtask.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parent: Option<ParentContext>,
    /// The tasks for which this task, or one above it, has waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    dependencies: Option<Vec<DependencyContext>>,
    /// The acceptance criteria of the Agent: any JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    acceptance_criteria: Option<Value>,
    /// The estimate of the Agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    estimate: Option<EstimateContext>,
    /// Text from RAG that may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// The artifacts from which RAG took the text, the most relevant first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sources: Option<Vec<ArtifactId>>,
    /// The results of the newest attempt that produced an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    previous_attempt: Option<PreviousAttempt>,
    /// True if a part was cut or left out because of its size, else absent. `GET /tasks/{id}`
    /// and `GET /provenance/{id}` return the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    truncated: Option<bool>,
}

/// The task of which a task is a subtask.
#[derive(Debug, Serialize, ToSchema)]
struct ParentContext {
    /// The id of the parent.
    task_id: TaskId,
    /// The work of the parent, in words.
    description: String,
}

/// A task for which a task has waited.
#[derive(Debug, Serialize, ToSchema)]
struct DependencyContext {
    /// The id of the dependency.
    task_id: TaskId,
    /// The work of the dependency, in words; null if the task was removed or there is no room.
    description: Option<String>,
    /// The artifacts that the dependency has produced.
    artifacts: Vec<MadeArtifact>,
    /// True if the description was cut or an artifact left out, else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    truncated: Option<bool>,
}

/// An artifact that a dependency has produced.
#[derive(Debug, Serialize, ToSchema)]
struct MadeArtifact {
    /// The id of the artifact.
    id: ArtifactId,
    /// The kind of artifact, as its worker reported it.
    r#type: Option<String>,
    /// The location of the artifact, as its worker reported it.
    path: Option<String>,
}

impl From<OutputArtifact> for MadeArtifact {
    fn from(artifact: OutputArtifact) -> Self {
        Self { id: artifact.id, r#type: artifact.kind, path: artifact.path }
    }
}

/// The Agent's estimate of a task.
#[derive(Debug, Serialize, ToSchema)]
struct EstimateContext {
    /// The number of tokens that the task will take.
    tokens: Option<u64>,
    /// The confidence in the estimate, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: Option<f64>,
    /// The reasons for the estimate, in words.
    reasoning: Option<String>,
}

/// The results of an earlier attempt.
#[derive(Debug, Serialize, ToSchema)]
struct PreviousAttempt {
    /// The number of the attempt.
    attempt: Option<u32>,
    /// The provenance record of the attempt.
    provenance_id: RecordId,
    /// The artifacts that the attempt has produced.
    artifacts: Vec<ArtifactId>,
    /// The verdict about the output, such as `score`, `issues`, `reason` and `comments`; null if
    /// there was none.
    #[schema(value_type = Option<Object>)]
    verification: Option<Value>,
}

impl TaskContext {
    /// Whether the context of a task can have a part.
    pub(crate) fn may_have_parts(task: &Task) -> bool {
        task.parent.is_some() || !task.depends_on.is_empty() || task.has_findings || task.newest_record().is_some()
    }

    /// Reads the context of a task; `previous` is the record of the previous attempt.
    pub(crate) fn read(view: &View, task: &Task, previous: Option<RecordId>) -> Stored<Self> {
        let mut is_cut = false;
        let mut with_parent = Self::default();
        if let Some(parent) = task.parent
            && let Some(submission) = view.submission(parent)?
        {
            let (description, cut) = cut_string(submission.description, PARENT_BYTES);
            is_cut |= cut;
            with_parent.parent = Some(ParentContext { task_id: parent, description });
        }
        let mut context = Self::default();
        if task.has_findings
            && let Some(findings) = view.findings(task.id)?
        {
            is_cut |= context.add_findings(findings);
        }
        if let Some(record) = previous.map(|id| view.record(id)).transpose()?.flatten() {
            let (previous, cut) = previous_attempt(record);
            is_cut |= cut;
            context.previous_attempt = Some(previous);
        }
        let ids = dependencies_of(view, task)?;
        if !ids.is_empty() {
            let used = json_bytes(&with_parent) + json_bytes(&context) + FRAME_BYTES;
            let (dependencies, cut) = dependencies(view, &ids, MAX_CONTEXT_BYTES.saturating_sub(used))?;
            is_cut |= cut;
            context.dependencies = Some(dependencies);
        }
        context.parent = with_parent.parent;
        context.truncated = is_cut.then_some(true);
        Ok(context)
    }

    /// Adds the findings of the Agent and of RAG. Returns whether a part was cut.
    fn add_findings(&mut self, findings: Findings) -> bool {
        let mut is_cut = false;
        if let Some(mut criteria) = findings.acceptance_criteria.as_deref().and_then(parse) {
            is_cut |= cut_value(&mut criteria, &mut { CRITERIA_BYTES });
            self.acceptance_criteria = Some(criteria);
        }
        if let Some(estimate) = findings.estimate {
            let (reasoning, cut) = estimate.reasoning.map(|text| cut_string(text, REASONING_BYTES)).unzip();
            is_cut |= cut.unwrap_or_default();
            self.estimate =
                Some(EstimateContext { tokens: estimate.tokens, confidence: estimate.confidence, reasoning });
        }
        if let Some(found) = findings.context {
            let (text, text_cut) = cut_string(found.text, TEXT_BYTES);
            let (sources, sources_cut) = take_fitting(found.sources, SOURCES_BYTES);
            is_cut |= text_cut || sources_cut;
            (self.text, self.sources) = (Some(text), Some(sources));
        }
        is_cut
    }
}

/// Returns the dependencies of a task and of its ancestors, each once, those of the task first.
fn dependencies_of(view: &View, task: &Task) -> Stored<Vec<TaskId>> {
    let mut all = task.depends_on.clone();
    let mut known: BTreeSet<TaskId> = all.iter().copied().collect();
    let mut parent = task.parent;
    while let Some(above) = parent.map(|id| view.task(id)).transpose()?.flatten() {
        all.extend(above.depends_on.iter().copied().filter(|id| known.insert(*id)));
        parent = above.parent;
    }
    Ok(all)
}

/// Reads dependencies into `left` bytes. Returns whether one was cut or left out.
fn dependencies(view: &View, ids: &[TaskId], mut left: usize) -> Stored<(Vec<DependencyContext>, bool)> {
    let mut all = Vec::with_capacity(ids.len());
    let mut is_cut = false;
    for (place, id) in ids.iter().enumerate() {
        if left < DEPENDENCY_BYTES {
            return Ok((all, true));
        }
        // Each dependency gets an equal share of what the previous ones have left.
        let share = (left / (ids.len() - place)).max(DEPENDENCY_BYTES);
        let dependency = dependency(view, *id, share)?;
        is_cut |= dependency.truncated.is_some();
        left = left.saturating_sub(json_bytes(&dependency) + 1);
        all.push(dependency);
    }
    Ok((all, is_cut))
}

/// Reads a dependency into at most `max` bytes. The artifacts come first, since the worker needs
/// their ids; the description gets the rest.
fn dependency(view: &View, id: TaskId, max: usize) -> Stored<DependencyContext> {
    let mut context = DependencyContext { task_id: id, description: None, artifacts: Vec::new(), truncated: None };
    let room = max.saturating_sub(DEPENDENCY_BYTES);
    if max < MIN_DESCRIBED_BYTES {
        context.truncated = Some(true);
        return Ok(context);
    }
    let produced = match view.task(id)?.as_ref().and_then(End::of) {
        Some(End::Completed { artifacts }) => artifacts,
        Some(End::Lost { .. }) | None => Vec::new(),
    };
    let (artifacts, mut is_cut) = take_fitting(produced.into_iter().map(MadeArtifact::from), room / 4 * 3);
    let left = room.saturating_sub(json_bytes(&artifacts));
    context.artifacts = artifacts;
    if let Some(submission) = view.submission(id)? {
        let (description, cut) = cut_string(submission.description, left);
        is_cut |= cut;
        context.description = Some(description);
    }
    context.truncated = is_cut.then_some(true);
    Ok(context)
}

/// Returns the results of an attempt, and whether a part was cut.
fn previous_attempt(record: Record) -> (PreviousAttempt, bool) {
    let artifacts = record.outputs.into_iter().map(|output| output.artifact.id);
    let (artifacts, artifacts_cut) = take_fitting(artifacts, PREVIOUS_BYTES / 2);
    let mut verification = record.verification.as_deref().and_then(parse);
    let verification_cut = verification.as_mut().is_some_and(|value| cut_value(value, &mut { PREVIOUS_BYTES / 2 }));
    let previous = PreviousAttempt { attempt: record.attempt, provenance_id: record.id, artifacts, verification };
    (previous, artifacts_cut || verification_cut)
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}
