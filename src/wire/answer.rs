//! The status answer of a task: the one place that gives it its wire form.
//!
//! All answers have the same keys in the same order, so only the [`Values`]
//! are kept in memory. That takes a quarter of the memory of an answer;
//! putting the keys back costs a copy of it, of a few long pieces where words
//! follow each other.

use bytes::Bytes;
use serde_json::json;

use super::runs;
use super::values::{Kept, Value, Values, word_text, write_display};
use crate::task::{
    Completion, Domain, Mode, Now, OnChildFailure, OutputArtifact, Pending, Product, Progress, Queued, RecordId,
    Routing, RoutingStep, State, Submission, Task, TaskError, TaskId, Tier,
};

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
/// The first of the values that never change.
const FIXED_AT: usize = 22;
/// What an answer is longer than its values in memory: keys, words, times, ids.
const KEYS_BYTES: usize = 1024;

/// The status answer of a task, as bytes to send.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The task's version: the `ETag`, together with what holds it back.
    pub version: u64,
    /// The pause that holds the task back, which its version does not count.
    pub hold: Option<Hold>,
    /// Whether the task has ended.
    pub ended: bool,
    /// The JSON body of `GET /tasks/{id}`.
    pub body: Bytes,
}

impl Answer {
    /// What tells this answer from an earlier or later one of the same task.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision { version: self.version, hold: self.hold }
    }
}

/// What holds a waiting task back beside slots and workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The pause of its project.
    Project,
    /// The pause of its tier.
    Tier,
    /// The work queue of its tier at the broker has lost its consumers.
    Workers,
}

/// One of the answers that a task has in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// The task's version.
    pub version: u64,
    /// What holds the task back.
    pub hold: Option<Hold>,
}

/// The values of an answer, in the form in which they stay in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compact(Box<[u8]>);

/// Version and whether the task has ended.
const HEAD_BYTES: usize = 9;

impl Compact {
    /// Its size in memory, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the task has ended.
    pub(crate) fn ended(&self) -> bool {
        self.0.get(HEAD_BYTES - 1) == Some(&1)
    }

    fn version(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn values(&self) -> Kept<'_> {
        Kept(self.0.get(HEAD_BYTES..).unwrap_or_default())
    }

    /// The values of project, tier and phase of a task that has not ended, as
    /// they are in the answer.
    pub(crate) fn standing(&self) -> Option<(&[u8], &[u8], &[u8])> {
        if self.ended() {
            return None;
        }
        let mut values = self.values();
        let mut text_after = |skipped| match values.nth(skipped) {
            Some(Value::Text(text)) => text,
            Some(Value::Time(_) | Value::Id(_) | Value::Run(_)) | None => Default::default(),
        };
        let (project, tier) = (text_after(PROJECT_AT), text_after(TIER_AT - PROJECT_AT - 1));
        Some((project, tier, text_after(PHASE_AT - TIER_AT - 1)))
    }

    /// The values that never change, of a task that has not ended.
    pub(crate) fn fixed(&self) -> Option<Fixed> {
        if self.ended() {
            return None;
        }
        let mut values = self.values();
        values.nth(FIXED_AT - 1)?;
        Some(Fixed(values.0.into()))
    }

    /// With words that follow each other joined, where the task has ended: in
    /// fewer bytes, and read faster.
    pub(crate) fn joined(self) -> Self {
        if !self.ended() {
            return self;
        }
        let head = self.0.get(..HEAD_BYTES).unwrap_or_default();
        let mut joined = Vec::with_capacity(self.len());
        joined.extend_from_slice(head);
        let mut joined = Values::after(joined);
        let mut values = self.values();
        let mut place = 0;
        loop {
            // The version stands between two values and is none of them.
            place += usize::from(place == VERSION_AT);
            let most = if place < VERSION_AT { VERSION_AT - place } else { KEYS.len() };
            let words = values.words(most);
            let number = if words.len() < 2 { None } else { runs::number(place, words, || run_text(place, words)) };
            if let Some(number) = number {
                joined.run(number);
                values.skip_words(words.len());
                place += words.len();
            } else if let Some(kept) = values.next_kept() {
                joined.kept(kept);
                place += 1;
            } else {
                return Self(joined.into_bytes());
            }
        }
    }

    /// The whole answer. A pause that holds the task back is what it waits for.
    pub(crate) fn answer(&self, task: TaskId, hold: Option<Hold>) -> Answer {
        let version = self.version();
        let mut body = Vec::with_capacity(self.len() + KEYS_BYTES);
        body.extend_from_slice(FIRST_KEY);
        body.extend_from_slice(task.to_text(&mut [0; 36]).as_bytes());
        let mut completed_at = Value::Text(b"");
        let mut place = 0;
        for value in self.values() {
            if place == VERSION_AT {
                body.extend_from_slice(key(VERSION_AT));
                write_display(&mut body, &version);
                place += 1;
            }
            if let Value::Run(run) = value {
                body.extend_from_slice(&run.text);
                place += run.places;
                continue;
            }
            body.extend_from_slice(key(place));
            match (place, value) {
                (COMPLETED_AT, value) => {
                    completed_at = value;
                    value.write(&mut body);
                }
                (UPDATED_AT, Value::Text(b"")) => completed_at.write(&mut body),
                (WAITING_FOR_AT, _) if let Some(hold) = hold => write_hold(&mut body, hold, self.standing()),
                (_, value) => value.write(&mut body),
            }
            place += 1;
        }
        body.extend_from_slice(key(place));
        Answer { version, hold, ended: self.ended(), body: Bytes::from(body) }
    }
}

#[inline]
fn key(place: usize) -> &'static [u8] {
    KEYS.get(place).copied().unwrap_or_default()
}

/// Words with what stands before each.
fn run_text(place: usize, words: &[u8]) -> Vec<u8> {
    let pieces = words.iter().zip(place..).flat_map(|(&word, place)| [key(place), word_text(word)]);
    pieces.flatten().copied().collect()
}

/// What a task waits for that a pause holds back; its tier is quoted.
fn write_hold(body: &mut Vec<u8>, hold: Hold, standing: Option<(&[u8], &[u8], &[u8])>) {
    let tier = standing.map_or(&b""[..], |(_, tier, _)| tier);
    let name = tier.get(1..tier.len().saturating_sub(1)).unwrap_or_default();
    let (before, after): (&[u8], &[u8]) = match hold {
        Hold::Project => return body.extend_from_slice(b"\"the project is paused\""),
        Hold::Tier => (b"\"the tier ", b" is paused\""),
        Hold::Workers => (
            b"\"workers of tier ",
            b" to consume from its work queue, which has lost its consumers: one task at a time is dispatched until then\"",
        ),
    };
    for piece in [before, name, after] {
        body.extend_from_slice(piece);
    }
}

/// The values that never change after the submission: its options, metadata
/// and description.
#[derive(Debug, Clone)]
pub(crate) struct Fixed(Box<[u8]>);

/// Larger ones are read from the store when they are asked for, so that a
/// few large submissions do not fill the memory.
const MAX_HOT_FIXED_BYTES: usize = 2048;

impl Fixed {
    /// Of a submission and the choices that were made for it.
    pub(crate) fn of(submission: &Submission, task: &Task) -> Self {
        let mut values = Values::after(Vec::with_capacity(64 + submission.description.len()));
        let options = &submission.options;
        let on_child_failure = options.on_child_failure.unwrap_or(OnChildFailure::Cancel);
        values.bool(options.decompose.unwrap_or(true));
        values.word(task.qa_profile.as_str());
        values.optional(options.tier.as_ref().map(Tier::as_str));
        values.optional(options.domain.as_ref().map(Domain::as_str));
        values.number(u64::from(task.timeout_seconds));
        values.number(u64::from(task.max_attempts));
        values.time(options.not_before);
        write_ids(&mut values, &options.depends_on);
        values.word(on_child_failure.as_str());
        match &options.inputs[..] {
            [] => values.empty_list(),
            inputs => values.json(inputs),
        }
        match submission.metadata.as_deref() {
            Some(metadata) => values.raw(metadata.as_bytes()),
            None => values.empty_object(),
        }
        values.word(submission.execution_mode.as_str());
        values.json(&submission.description);
        Self(values.into_bytes())
    }

    /// Whether it is small enough to stay in memory.
    pub(crate) fn is_small(&self) -> bool {
        self.0.len() <= MAX_HOT_FIXED_BYTES
    }
}

/// The answer of a task.
pub(crate) fn compact(task: &Task, fixed: &Fixed, now: Now) -> Compact {
    let mut head = Vec::with_capacity(HEAD_BYTES + 256 + fixed.0.len());
    head.extend_from_slice(&task.version.to_le_bytes());
    head.push(u8::from(task.status().is_terminal()));
    let mut values = Values::after(head);
    match task.project.as_str() {
        plain if plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) => values.word(plain),
        project => values.json(project),
    }
    values.word(task.status().as_str());
    values.optional(task.mode.as_ref().map(Mode::as_str));
    values.word(task.domain.as_str());
    values.word(task.tier.as_str());
    write_times_and_product(&mut values, task);
    values.word(task.phase().as_str());
    match waiting_for(task, now) {
        Some(reason) => values.json(&reason),
        None => values.null(),
    }
    values.word(task.priority.as_str());
    values.number(u64::from(task.attempts()));
    values.number(u64::from(task.max_attempts));
    values.time(Some(task.created_at));
    if task.ended_at() == Some(task.updated_at) {
        values.raw(b"");
    } else {
        values.time(Some(task.updated_at));
    }
    values.id(task.parent.map(TaskId::to_bytes));
    write_ids(&mut values, &task.children);
    write_ids(&mut values, &task.depends_on);
    values.id(task.rerun_of.map(TaskId::to_bytes));
    match error(task) {
        Some(error) => values.json(&error),
        None => values.null(),
    }
    values.kept(&fixed.0);
    Compact(values.into_bytes())
}

fn write_ids(values: &mut Values, ids: &[TaskId]) {
    if ids.is_empty() {
        values.empty_list();
    } else {
        values.json(&ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
}

fn write_times_and_product(values: &mut Values, task: &Task) {
    let ended = task.ended_at();
    values.time(task.started_at);
    values.time(ended);
    match task.execution() {
        Some(execution) => values.number(u64::try_from(execution.as_millis()).unwrap_or(u64::MAX)),
        None => values.null(),
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
    values.id(task.newest_record().map(RecordId::to_bytes));
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
fn waiting_for(task: &Task, now: Now) -> Option<String> {
    let tasks = |tasks: &[crate::task::TaskId]| match tasks {
        [task] => format!("task {task} to complete"),
        [task, rest @ ..] => format!("task {task} and {} more to complete", rest.len()),
        [] => "its turn".to_owned(),
    };
    match &task.state {
        State::Pending(Pending::Scheduled { until, .. }) => Some(format!("the time {until}")),
        State::Pending(Pending::Blocked { waits_for }) => Some(tasks(waits_for)),
        State::Pending(Pending::Analyzing { .. }) => Some(task.routing.map_or("routing", asked).to_owned()),
        State::Pending(Pending::Queued(queued)) => Some(waiting_in_line(task, queued, now)),
        State::Pending(Pending::Backoff { until }) => {
            Some(format!("attempt {} at {}", task.attempts() + 1, now.calendar(*until)))
        }
        State::Pending(Pending::Dispatched { .. }) => {
            Some(format!("a worker of tier {} to take it from the broker", task.tier))
        }
        State::Running { progress, .. } => match progress {
            Progress::Started { worker: Some(worker), .. } => Some(format!("worker {worker}")),
            Progress::Started { worker: None, .. } => Some(format!("the worker of tier {} that took it", task.tier)),
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

/// What a queued task waits for, in words.
fn waiting_in_line(task: &Task, queued: &Queued, now: Now) -> String {
    let wanted = if queued.announced {
        format!("a worker of tier {} and a free slot of project {}", task.tier, task.project)
    } else {
        format!("a free slot of project {}", task.project)
    };
    match queued.not_before {
        Some(until) => {
            let until = now.calendar(until);
            format!("{wanted}, not before {until}, since a worker gave it back")
        }
        None => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{
        self, Domain, ExecutionMode, Input, Options, Policy, Priority, ProjectId, QaProfile, Resolved, Tier, Timestamp,
    };

    fn submission(project: &str, metadata: Option<&str>) -> Submission {
        Submission {
            description: "Say \"hello\"".to_owned(),
            project: ProjectId::new(project).unwrap(),
            priority: None,
            options: Options::default(),
            metadata: metadata.map(Into::into),
            execution_mode: ExecutionMode::Autonomous,
            constitution_override: None,
            traceparent: None,
            rerun_of: None,
        }
    }

    fn now() -> Now {
        Now::aligned(Timestamp::from_micros(1_795_000_000_123_400))
    }

    fn cancelled(submission: &Submission, domain: &str, reason: Option<&str>) -> Task {
        let resolved = Resolved {
            priority: Priority::Normal,
            tier: Tier::new("small").unwrap(),
            domain: Domain::new(domain).unwrap(),
            qa_profile: QaProfile::new("none").unwrap(),
            timeout_seconds: 600,
            max_attempts: 3,
            routing: None,
        };
        let now = now();
        let task = task::submit(TaskId::from_bytes([7; 16]), submission, resolved, &[], now, &Policy::default()).task;
        let cancel = Input::Cancel { reason: reason.map(str::to_owned) };
        let later = Now::aligned(now.wall.after(std::time::Duration::from_secs(1)));
        task::apply(&task, cancel, later, &Policy::default()).unwrap().task
    }

    #[test]
    fn joined_words_give_the_same_answer_from_fewer_bytes() {
        for (project, domain, metadata) in [
            ("default", "code-general", None),
            ("p/ü", "my-own", Some("{\"a\":[1]}")),
            ("proj1", "unknown", Some("{}")),
        ] {
            for reason in [None, Some("not needed")] {
                let submission = submission(project, metadata);
                let task = cancelled(&submission, domain, reason);
                let plain = compact(&task, &Fixed::of(&submission, &task), now());
                let joined = plain.clone().joined();
                let (expected, found) = (plain.answer(task.id, None), joined.answer(task.id, None));
                assert_eq!(String::from_utf8_lossy(&found.body), String::from_utf8_lossy(&expected.body));
                assert_eq!((found.version, found.ended), (expected.version, expected.ended));
                let body: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
                assert_eq!((&body["project_id"], &body["domain"]), (&json!(project), &json!(domain)));
                assert!(joined.len() + 10 < plain.len(), "{} of {}", joined.len(), plain.len());
            }
        }
    }

    #[test]
    fn an_open_task_stays_as_it_is() {
        let submission = submission("default", None);
        let mut task = cancelled(&submission, "code-general", None);
        let plain = compact(&task, &Fixed::of(&submission, &task), now());
        assert_eq!(plain.standing(), None, "a pause holds back nothing that has ended");
        task.state = State::Pending(Pending::Queued(Queued {
            since: now().observed,
            announced: true,
            not_before: None,
            attempt: None,
        }));
        let open = compact(&task, &Fixed::of(&submission, &task), now());
        assert_eq!(open.clone().joined(), open);
        assert_eq!(open.fixed().unwrap().0, Fixed::of(&submission, &task).0);
        assert_eq!(plain.fixed().map(|fixed| fixed.0), None, "words of an ended one may be joined");
        assert_eq!(open.standing(), Some((&b"\"default\""[..], &b"\"small\""[..], &b"\"queued\""[..])));
    }
}
