//! The status answer of a task: the one place that gives it its wire form.
//!
//! All answers have the same keys in the same order, so only the values are
//! kept in memory, one after the other, separated by U+001F, which JSON text
//! can't contain. That halves the memory of an answer; putting the keys back
//! costs a copy of it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::api::{Answer, Hold};
use crate::task::{
    Completion, OnChildFailure, OutputArtifact, Pending, Product, Progress, Routing, RoutingStep, State, Submission,
    Task, TaskError, TaskId, Timestamp,
};

const SEPARATOR: u8 = 0x1f;

/// What stands before each value. The task's id and version have no value of
/// their own: they are kept beside the values.
const KEYS: [&[u8]; 37] = [
    b"\",\"project_id\":",
    b",\"status\":",
    b",\"mode\":",
    b",\"domain\":",
    b",\"tier\":",
    b",\"started_at\":",
    b",\"completed_at\":",
    b",\"execution_time_ms\":",
    b",\"artifacts\":",
    b",\"provenance_id\":",
    b",\"phase\":",
    b",\"waiting_for\":",
    b",\"priority\":",
    b",\"attempts\":",
    b",\"max_attempts\":",
    b",\"created_at\":",
    b",\"updated_at\":",
    b",\"parent_id\":",
    b",\"children\":",
    b",\"depends_on\":",
    b",\"rerun_of\":",
    b",\"error\":",
    b",\"options\":{\"decompose\":",
    b",\"qa_profile\":",
    b",\"tier\":",
    b",\"domain\":",
    b",\"timeout_seconds\":",
    b",\"max_attempts\":",
    b",\"not_before\":",
    b",\"depends_on\":",
    b",\"on_child_failure\":",
    b",\"inputs\":",
    b"},\"metadata\":",
    b",\"version\":",
    b",\"execution_mode\":",
    b",\"description\":",
    b"}",
];
const FIRST_KEY: &[u8] = b"{\"task_id\":\"";
const PROJECT_AT: usize = 0;
const TIER_AT: usize = 4;
const COMPLETED_AT: usize = 6;
const PHASE_AT: usize = 10;
const WAITING_FOR_AT: usize = 11;
/// Left empty when it is the time of the end.
const UPDATED_AT: usize = 16;
const VERSION_AT: usize = 33;
const KEYS_BYTES: usize = 640;

/// The values of an answer, in the form in which they stay in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compact(Box<[u8]>);

/// Version and whether the task has ended.
const HEAD_BYTES: usize = 9;

impl Compact {
    /// Its size in memory, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the task has ended.
    pub(super) fn ended(&self) -> bool {
        self.0.get(HEAD_BYTES - 1) == Some(&1)
    }

    fn version(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The values of project, tier and phase, as they are in the answer.
    pub(super) fn standing(&self) -> (&[u8], &[u8], &[u8]) {
        let mut values = self.0.get(HEAD_BYTES..).unwrap_or_default().split(|byte| *byte == SEPARATOR);
        let project = values.next().unwrap_or_default();
        let tier = values.nth(TIER_AT - PROJECT_AT - 1).unwrap_or_default();
        (project, tier, values.nth(PHASE_AT - TIER_AT - 1).unwrap_or_default())
    }

    /// The whole answer. A pause that holds the task back is what it waits for.
    pub(super) fn answer(&self, task: TaskId, hold: Option<Hold>) -> Answer {
        let version = self.version();
        let values = self.0.get(HEAD_BYTES..).unwrap_or_default();
        let mut ends = memchr::memchr_iter(SEPARATOR, values);
        let mut start = 0;
        let mut body = Vec::with_capacity(values.len() + KEYS_BYTES);
        body.extend_from_slice(FIRST_KEY);
        body.extend_from_slice(task.to_text(&mut [0; 36]).as_bytes());
        let mut completed_at: &[u8] = b"";
        for (place, key) in KEYS.into_iter().enumerate() {
            body.extend_from_slice(key);
            if place == VERSION_AT {
                write_display(&mut body, &version);
                continue;
            }
            // After the last key no value is left.
            let Some(end) = ends.next() else { break };
            let value = values.get(start..end).unwrap_or_default();
            start = end + 1;
            match place {
                COMPLETED_AT => completed_at = value,
                UPDATED_AT if value.is_empty() => body.extend_from_slice(completed_at),
                WAITING_FOR_AT if let Some(hold) = hold => {
                    write_hold(&mut body, hold, self.standing().1);
                    continue;
                }
                _ => {}
            }
            body.extend_from_slice(value);
        }
        Answer { version, hold, ended: self.ended(), body: Bytes::from(body) }
    }
}

/// What a task waits for that a pause holds back; `tier` is quoted.
fn write_hold(body: &mut Vec<u8>, hold: Hold, tier: &[u8]) {
    match hold {
        Hold::Project => body.extend_from_slice(b"\"the project is paused\""),
        Hold::Tier => {
            let name = tier.get(1..tier.len().saturating_sub(1)).unwrap_or_default();
            body.extend_from_slice(b"\"the tier ");
            body.extend_from_slice(name);
            body.extend_from_slice(b" is paused\"");
        }
    }
}

fn write_display(buffer: &mut Vec<u8>, value: &impl std::fmt::Display) {
    use std::io::Write;
    // Writing into memory does not fail.
    let _ = write!(buffer, "{value}");
}

/// Values in the order of [`KEYS`].
#[derive(Debug, Default)]
struct Values(Vec<u8>);

impl Values {
    fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        // The values are text, numbers and plain structures of them: they
        // have no map with other keys than text, the only thing that fails.
        let _ = serde_json::to_writer(&mut self.0, value);
        self.0.push(SEPARATOR);
    }

    /// A value whose text needs no escaping.
    fn quoted(&mut self, value: &impl std::fmt::Display) {
        self.0.push(b'"');
        write_display(&mut self.0, value);
        self.0.extend_from_slice(b"\"\x1f");
    }

    fn number(&mut self, value: u64) {
        write_display(&mut self.0, &value);
        self.0.push(SEPARATOR);
    }

    fn null(&mut self) {
        self.raw(b"null");
    }

    fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
        self.0.push(SEPARATOR);
    }

    fn ids(&mut self, ids: &[TaskId]) {
        if ids.is_empty() {
            self.raw(b"[]");
        } else {
            self.json(&ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }

    fn optional(&mut self, value: Option<&impl std::fmt::Display>) {
        match value {
            Some(value) => self.quoted(value),
            None => self.null(),
        }
    }
}

/// The values that never change after the submission: its options, metadata
/// and description.
#[derive(Debug, Clone)]
pub(super) struct Fixed(Box<[u8]>);

/// Larger ones are read from the store when they are asked for, so that a
/// few large submissions do not fill the memory.
const MAX_HOT_FIXED_BYTES: usize = 2048;

impl Fixed {
    /// Of a submission and the choices that were made for it.
    pub(super) fn of(submission: &Submission, task: &Task) -> Self {
        let mut values = Values::default();
        let options = &submission.options;
        let on_child_failure = options.on_child_failure.unwrap_or(OnChildFailure::Cancel);
        values.raw(if options.decompose.unwrap_or(true) { b"true" } else { b"false" });
        values.quoted(&task.qa_profile);
        values.optional(options.tier.as_ref());
        values.optional(options.domain.as_ref());
        values.number(u64::from(task.timeout_seconds));
        values.number(u64::from(task.max_attempts));
        values.optional(options.not_before.as_ref());
        values.ids(&options.depends_on);
        values.quoted(&on_child_failure.as_str());
        values.json(&options.inputs);
        values.raw(submission.metadata.as_deref().unwrap_or("{}").as_bytes());
        values.quoted(&submission.execution_mode.as_str());
        values.json(&submission.description);
        Self(values.0.into())
    }

    /// Whether it is small enough to stay in memory.
    pub(super) fn is_small(&self) -> bool {
        self.0.len() <= MAX_HOT_FIXED_BYTES
    }
}

/// The answer of a task.
pub(super) fn compact(task: &Task, fixed: &Fixed) -> Compact {
    let mut values = Values(Vec::with_capacity(HEAD_BYTES + 384 + fixed.0.len()));
    values.0.extend_from_slice(&task.version.to_le_bytes());
    values.0.push(u8::from(task.status().is_terminal()));
    values.json(task.project.as_str());
    values.quoted(&task.status().as_str());
    values.optional(task.mode.as_ref());
    values.quoted(&task.domain);
    values.quoted(&task.tier);
    write_times_and_product(&mut values, task);
    values.quoted(&task.phase().as_str());
    match waiting_for(task) {
        Some(reason) => values.json(&reason),
        None => values.null(),
    }
    values.quoted(&task.priority.as_str());
    values.number(u64::from(task.attempts()));
    values.number(u64::from(task.max_attempts));
    values.quoted(&task.created_at);
    if task.ended_at() == Some(task.updated_at) {
        values.raw(b"");
    } else {
        values.quoted(&task.updated_at);
    }
    values.optional(task.parent.as_ref());
    values.ids(&task.children);
    values.ids(&task.depends_on);
    values.optional(task.rerun_of.as_ref());
    match error(task) {
        Some(error) => values.json(&error),
        None => values.null(),
    }
    values.0.extend_from_slice(&fixed.0);
    Compact(values.0.into_boxed_slice())
}

fn write_times_and_product(values: &mut Values, task: &Task) {
    let ended = task.ended_at();
    values.optional(task.started_at.as_ref());
    values.optional(ended.as_ref());
    match (task.started_at, ended) {
        (Some(started), Some(ended)) => values.number(millis_between(started, ended)),
        (Some(_), None) | (None, _) => values.null(),
    }
    match &task.state {
        State::Completed { by, .. } => {
            let (Completion::Attempt { product: Product { artifacts, .. }, .. } | Completion::Children { artifacts }) =
                by;
            values.json(&artifacts.iter().map(artifact).collect::<Vec<_>>());
        }
        State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Failed { .. }
        | State::Cancelled { .. } => values.null(),
    }
    values.optional(task.newest_record().as_ref());
}

fn millis_between(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.since(earlier).as_millis()).unwrap_or(u64::MAX)
}

fn artifact(artifact: &OutputArtifact) -> serde_json::Value {
    json!({ "id": artifact.id, "type": artifact.kind, "path": artifact.path })
}

/// The error of a failed task, or the reason of a cancelled one.
fn error(task: &Task) -> Option<serde_json::Value> {
    match &task.state {
        State::Failed { error, .. } => Some(error_json(error)),
        State::Cancelled { reason: Some(reason), .. } => Some(json!({ "code": "cancelled", "message": reason })),
        State::Cancelled { reason: None, .. }
        | State::Pending(_)
        | State::Running { .. }
        | State::Children(_)
        | State::Completed { .. } => None,
    }
}

/// An error as clients see it.
pub(crate) fn error_json(error: &TaskError) -> serde_json::Value {
    json!({ "code": error.code.as_str(), "message": error.message, "attempt": error.attempt })
}

/// Who is asked about a task, in words.
const fn asked(routing: Routing) -> &'static str {
    match routing.step {
        RoutingStep::Analyze => "the Agent service to analyse it",
        RoutingStep::Decompose { .. } => "the Agent service to split it",
        RoutingStep::Estimate => "the Agent service to choose its tier",
        RoutingStep::Context => "the RAG service to find its context",
    }
}

/// Why a task is not moving, in words.
fn waiting_for(task: &Task) -> Option<String> {
    let tasks = |tasks: &[crate::task::TaskId]| match tasks {
        [task] => format!("task {task} to complete"),
        [task, rest @ ..] => format!("task {task} and {} more to complete", rest.len()),
        [] => "its turn".to_owned(),
    };
    match &task.state {
        State::Pending(Pending::Scheduled { until, .. }) => Some(format!("the time {until}")),
        State::Pending(Pending::Blocked { waits_for }) => Some(tasks(waits_for)),
        State::Pending(Pending::Analyzing { .. }) => Some(task.routing.map_or("routing", asked).to_owned()),
        State::Pending(Pending::Queued { .. }) => Some(format!("a free slot of project {}", task.project)),
        State::Pending(Pending::Backoff { until }) => Some(format!("attempt {} at {until}", task.attempts() + 1)),
        State::Running { attempt, progress } => match progress {
            Progress::Dispatched if attempt.taken_at.is_some() => {
                Some(format!("the worker of tier {} that took it", task.tier))
            }
            Progress::Dispatched => Some(format!("a worker of tier {}", task.tier)),
            Progress::Leased { lease, .. } => Some(format!("worker {}", lease.worker)),
            Progress::Validating { .. } => Some(format!("validation by QA profile {}", task.qa_profile)),
            Progress::Reviewing { review, .. } => Some(format!("a reviewer to complete review {review}")),
        },
        State::Children(children) => {
            let (open, all) = (children.open.len(), task.children.len());
            Some(format!("{open} of its {all} subtasks to end"))
        }
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } => None,
    }
}
