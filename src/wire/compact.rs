//! Compact answers: the encoding in which status answers stay in memory.
//!
//! All answers have the same keys in the same order, so memory holds the values
//! alone, in a quarter of the bytes. Rendering an answer puts the keys back,
//! which costs a copy of the answer: a few long pieces where tokens follow each
//! other.

use bytes::Bytes;
use serde::Serialize;

use super::answer::{Answer, Hold, JsonObject, SubmissionFields, TaskFields, TaskOptions};
use super::token_runs;
use super::values::{Value, ValueReader, ValueWriter, token_text, write_display};
use crate::task::{Domain, Mode, Now, RecordId, Submission, Task, TaskId, Tier};

/// The text before each value: the fields of [`TaskFields`] and [`SubmissionFields`] in their
/// order. The id and the version of the task are kept beside the values.
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
/// The empty text stands for the same time as `completed_at`.
const UPDATED_AT: usize = 16;
const VERSION_AT: usize = 33;
/// The first of the values that never change.
const FIXED_AT: usize = 22;
/// Bytes by which an answer exceeds its compact form, at most: keys, tokens, times and ids.
const KEYS_BYTES: usize = 1024;

/// A status answer as it stays in memory: the version, whether the task has ended, and the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompactAnswer(Box<[u8]>);

/// Bytes of the version and of the mark for an ended task.
const HEAD_BYTES: usize = 9;

impl CompactAnswer {
    /// Encodes the answer of a task; `fixed` are the values of its submission.
    pub(crate) fn new(task: &Task, fixed: &FixedValues, now: Now) -> Self {
        let mut head = Vec::with_capacity(HEAD_BYTES + 256 + fixed.0.len());
        head.extend_from_slice(&task.version.to_le_bytes());
        head.push(u8::from(task.status().is_terminal()));
        let mut values = ValueWriter::append_to(head);
        write_task(&mut values, TaskFields::new(task, now));
        values.push_encoded(&fixed.0);
        Self(values.into_bytes())
    }

    /// Returns the size of the answer in memory, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the task has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.get(HEAD_BYTES - 1) == Some(&1)
    }

    fn version(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn values(&self) -> ValueReader<'_> {
        ValueReader(self.0.get(HEAD_BYTES..).unwrap_or_default())
    }

    /// Returns the values that decide whether a pause holds the task back; `None` if it has ended.
    pub(crate) fn pause_keys(&self) -> Option<PauseKeys<'_>> {
        if self.has_ended() {
            return None;
        }
        let mut values = self.values();
        let mut text_after = |skipped| match values.nth(skipped) {
            Some(Value::Text(text)) => text,
            Some(Value::Time(_) | Value::Id(_) | Value::Run(_)) | None => Default::default(),
        };
        Some(PauseKeys {
            project: text_after(PROJECT_AT),
            tier: text_after(TIER_AT - PROJECT_AT - 1),
            phase: text_after(PHASE_AT - TIER_AT - 1),
        })
    }

    /// Returns the values that never change; `None` if the task has ended, since token runs may
    /// have replaced them.
    pub(crate) fn fixed_values(&self) -> Option<FixedValues> {
        if self.has_ended() {
            return None;
        }
        let mut values = self.values();
        values.nth(FIXED_AT - 1)?;
        Some(FixedValues(values.0.into()))
    }

    /// Replaces tokens that follow each other by the number of their run, if the task has ended.
    /// The answer then has fewer bytes and is rendered faster.
    pub(crate) fn with_token_runs(self) -> Self {
        if !self.has_ended() {
            return self;
        }
        let head = self.0.get(..HEAD_BYTES).unwrap_or_default();
        let mut shortened = Vec::with_capacity(self.len());
        shortened.extend_from_slice(head);
        let mut shortened = ValueWriter::append_to(shortened);
        let mut values = self.values();
        let mut place = 0;
        loop {
            // The version has a key and no value.
            place += usize::from(place == VERSION_AT);
            let max = if place < VERSION_AT { VERSION_AT - place } else { KEYS.len() };
            let tokens = values.peek_tokens(max);
            let number = if tokens.len() < 2 {
                None
            } else {
                token_runs::find_or_add(place, tokens, || run_text(place, tokens))
            };
            if let Some(number) = number {
                shortened.push_run(number);
                values.skip_tokens(tokens.len());
                place += tokens.len();
            } else if let Some(value) = values.next_encoded() {
                shortened.push_encoded(value);
                place += 1;
            } else {
                return Self(shortened.into_bytes());
            }
        }
    }

    /// Renders the whole answer. If a pause holds the task back, `waiting_for` names it.
    pub(crate) fn render(&self, task: TaskId, hold: Option<Hold>) -> Answer {
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
                place += run.len;
                continue;
            }
            body.extend_from_slice(key(place));
            match (place, value) {
                (COMPLETED_AT, value) => {
                    completed_at = value;
                    value.write(&mut body);
                }
                (UPDATED_AT, Value::Text(b"")) => completed_at.write(&mut body),
                (WAITING_FOR_AT, _) if let Some(hold) = hold => write_hold(&mut body, hold, self.pause_keys()),
                (_, value) => value.write(&mut body),
            }
            place += 1;
        }
        body.extend_from_slice(key(place));
        Answer { version, hold, ended: self.has_ended(), body: Bytes::from(body) }
    }
}

#[inline]
fn key(place: usize) -> &'static [u8] {
    KEYS.get(place).copied().unwrap_or_default()
}

/// Returns tokens with their keys, as they stand in the answer from `place` on.
fn run_text(place: usize, tokens: &[u8]) -> Vec<u8> {
    let pieces = tokens.iter().zip(place..).flat_map(|(&token, place)| [key(place), token_text(token)]);
    pieces.flatten().copied().collect()
}

/// Values that decide whether a pause holds a task back, as JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PauseKeys<'a> {
    pub(crate) project: &'a [u8],
    pub(crate) tier: &'a [u8],
    pub(crate) phase: &'a [u8],
}

/// Appends the value of `waiting_for` for a task that a pause holds back.
fn write_hold(body: &mut Vec<u8>, hold: Hold, keys: Option<PauseKeys<'_>>) {
    let tier = keys.map_or(&b""[..], |keys| keys.tier);
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

/// The encoded values that never change after the submission: options, metadata, execution mode
/// and description.
#[derive(Debug, Clone)]
pub(crate) struct FixedValues(Box<[u8]>);

/// Larger values are read from the store for each answer, so that a few large submissions do not
/// fill the memory.
const MAX_HOT_FIXED_BYTES: usize = 2048;

impl FixedValues {
    /// Encodes the values of a submission and of the choices that were made for its task.
    pub(crate) fn new(submission: &Submission, task: &Task) -> Self {
        let SubmissionFields { options, metadata: JsonObject(metadata), version: _, execution_mode, description } =
            SubmissionFields::new(submission, task);
        let mut values = ValueWriter::append_to(Vec::with_capacity(64 + description.len()));
        write_options(&mut values, &options);
        match metadata {
            Some(metadata) => values.push_text(metadata.as_bytes()),
            None => values.push_empty_object(),
        }
        values.push_word(execution_mode.as_str());
        values.push_json(description);
        Self(values.into_bytes())
    }

    /// Whether the values are small enough to stay in memory.
    pub(crate) fn is_small(&self) -> bool {
        self.0.len() <= MAX_HOT_FIXED_BYTES
    }
}

fn write_options(values: &mut ValueWriter, options: &TaskOptions<'_>) {
    let TaskOptions {
        decompose,
        qa_profile,
        tier,
        domain,
        timeout_seconds,
        max_attempts,
        not_before,
        depends_on,
        on_child_failure,
        inputs,
    } = *options;
    values.push_bool(decompose);
    values.push_word(qa_profile.as_str());
    values.push_optional_word(tier.map(Tier::as_str));
    values.push_optional_word(domain.map(Domain::as_str));
    values.push_number(u64::from(timeout_seconds));
    values.push_number(u64::from(max_attempts));
    values.push_time(not_before);
    write_list(values, depends_on);
    values.push_word(on_child_failure.as_str());
    write_list(values, inputs);
}

fn write_task(values: &mut ValueWriter, fields: TaskFields<'_>) {
    let TaskFields {
        task_id: _,
        project_id,
        status,
        mode,
        domain,
        tier,
        started_at,
        completed_at,
        execution_time_ms,
        artifacts,
        provenance_id,
        phase,
        waiting_for,
        priority,
        attempts,
        max_attempts,
        created_at,
        updated_at,
        parent_id,
        children,
        depends_on,
        rerun_of,
        error,
    } = fields;
    match project_id.as_str() {
        plain if plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) => values.push_word(plain),
        project => values.push_json(project),
    }
    values.push_word(status.as_str());
    values.push_optional_word(mode.map(Mode::as_str));
    values.push_word(domain.as_str());
    values.push_word(tier.as_str());
    values.push_time(started_at);
    values.push_time(completed_at);
    match execution_time_ms {
        Some(millis) => values.push_number(millis),
        None => values.push_null(),
    }
    write_optional(values, artifacts.as_ref());
    values.push_id(provenance_id.map(RecordId::to_bytes));
    values.push_word(phase.as_str());
    write_optional(values, waiting_for.as_ref());
    values.push_word(priority.as_str());
    values.push_number(u64::from(attempts));
    values.push_number(u64::from(max_attempts));
    values.push_time(Some(created_at));
    if completed_at == Some(updated_at) {
        values.push_text(b"");
    } else {
        values.push_time(Some(updated_at));
    }
    values.push_id(parent_id.map(TaskId::to_bytes));
    write_list(values, children);
    write_list(values, depends_on);
    values.push_id(rerun_of.map(TaskId::to_bytes));
    write_optional(values, error.as_ref());
}

fn write_list<T: Serialize>(values: &mut ValueWriter, list: &[T]) {
    if list.is_empty() {
        values.push_empty_list();
    } else {
        values.push_json(list);
    }
}

fn write_optional<T: Serialize>(values: &mut ValueWriter, value: Option<&T>) {
    match value {
        Some(value) => values.push_json(value),
        None => values.push_null(),
    }
}

#[cfg(test)]
mod tests;
