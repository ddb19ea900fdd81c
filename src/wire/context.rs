//! The context of a task, which `task.ready` and leases carry: what may help a
//! worker. Every part of it has a limit in bytes of JSON, since a message has
//! one, and a part that was cut says so.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::store::{self, Record, View};
use crate::task::{End, Findings, OutputArtifact, RecordId, Task, TaskId};

/// Most bytes of JSON of a context.
pub(crate) const MAX_CONTEXT_BYTES: usize = 512 * 1024;
/// Most bytes of its parts. Dependencies have what these leave.
const PREVIOUS_BYTES: usize = 64 * 1024;
const CRITERIA_BYTES: usize = 32 * 1024;
const REASONING_BYTES: usize = 16 * 1024;
/// The text that RAG gives has at most 128 KiB before it is escaped.
const TEXT_BYTES: usize = 160 * 1024;
const SOURCES_BYTES: usize = 32 * 1024;
const PARENT_BYTES: usize = 96 * 1024;
/// Bytes that the keys and ids of the parts take, at most.
const FRAME_BYTES: usize = 1024;
/// Bytes of a dependency without description and artifacts, with its comma.
const DEPENDENCY_BYTES: usize = 128;
/// A dependency for which there is less room is named, and no more of it is read.
const READ_BYTES: usize = 256;
/// Room below which nothing more is put into an array or an object: that of the
/// longest number.
const SMALLEST_BYTES: usize = 32;

type Stored<T> = Result<T, store::Error>;

/// Whether [`context`] can be anything but empty.
pub(crate) fn has_context(task: &Task) -> bool {
    task.parent.is_some() || !task.depends_on.is_empty() || task.has_findings || task.newest_record().is_some()
}

/// Returns where the task comes from, what its dependencies made, what the Agent
/// and RAG found, and what the attempt before left behind: at most
/// [`MAX_CONTEXT_BYTES`] of JSON, with `truncated` where a part was cut or left out.
pub(crate) fn context(view: &View, task: &Task, previous: Option<RecordId>) -> Stored<Value> {
    let (mut context, mut is_cut) = (json!({}), false);
    if let Some(parent) = task.parent
        && let Some(submission) = view.submission(parent)?
    {
        let (description, cut) = cut_text(&submission.description, PARENT_BYTES);
        is_cut |= cut;
        merge(&mut context, json!({ "parent": { "task_id": parent.to_string(), "description": description } }));
    }
    let mut after = json!({});
    if task.has_findings
        && let Some(findings) = view.findings(task.id)?
    {
        is_cut |= add_findings(&mut after, &findings);
    }
    if let Some(record) = previous.map(|id| view.record(id)).transpose()?.flatten() {
        let (previous, cut) = previous_attempt(&record);
        is_cut |= cut;
        merge(&mut after, json!({ "previous_attempt": previous }));
    }
    let ids = dependencies(view, task)?;
    if !ids.is_empty() {
        let used = json_bytes(&context) + json_bytes(&after) + FRAME_BYTES;
        let mut left = MAX_CONTEXT_BYTES.saturating_sub(used);
        let mut described = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            if left < DEPENDENCY_BYTES {
                is_cut = true;
                break;
            }
            // Each has an equal share of what those before it have left.
            let share = (left / (ids.len() - place)).max(DEPENDENCY_BYTES);
            let dependency = dependency(view, *id, share)?;
            is_cut |= dependency.get("truncated").is_some();
            left = left.saturating_sub(json_bytes(&dependency) + 1);
            described.push(dependency);
        }
        merge(&mut context, json!({ "dependencies": described }));
    }
    merge(&mut context, after);
    if is_cut {
        merge(&mut context, json!({ "truncated": true }));
    }
    Ok(context)
}

/// The dependencies of a task and of its ancestors, each once, its own first.
fn dependencies(view: &View, task: &Task) -> Stored<Vec<TaskId>> {
    let mut all = task.depends_on.clone();
    let mut known: BTreeSet<TaskId> = all.iter().copied().collect();
    let mut parent = task.parent;
    while let Some(above) = parent.map(|id| view.task(id)).transpose()?.flatten() {
        all.extend(above.depends_on.iter().copied().filter(|id| known.insert(*id)));
        parent = above.parent;
    }
    Ok(all)
}

/// A dependency in at most `most` bytes: artifacts come first, since they name
/// what is to be used, and the description has what they leave.
fn dependency(view: &View, id: TaskId, most: usize) -> Stored<Value> {
    let mut described = json!({ "task_id": id.to_string(), "description": null, "artifacts": [] });
    let room = most.saturating_sub(DEPENDENCY_BYTES);
    if most < READ_BYTES {
        merge(&mut described, json!({ "truncated": true }));
        return Ok(described);
    }
    let made = match view.task(id)?.as_ref().and_then(End::of) {
        Some(End::Completed { artifacts }) => artifacts,
        Some(End::Lost { .. }) | None => Vec::new(),
    };
    let (artifacts, artifacts_cut) = whole_ones(made.iter().map(artifact), room / 4 * 3);
    let left = room.saturating_sub(json_bytes(&artifacts));
    let mut is_cut = artifacts_cut;
    if let Some(submission) = view.submission(id)? {
        let (description, cut) = cut_text(&submission.description, left);
        is_cut |= cut;
        merge(&mut described, json!({ "description": description }));
    }
    merge(&mut described, json!({ "artifacts": artifacts }));
    if is_cut {
        merge(&mut described, json!({ "truncated": true }));
    }
    Ok(described)
}

fn artifact(made: &OutputArtifact) -> Value {
    json!({ "id": made.id, "type": made.kind, "path": made.path })
}

/// Adds what the Agent and RAG found; whether some of it was cut.
fn add_findings(context: &mut Value, findings: &Findings) -> bool {
    let mut is_cut = false;
    if let Some(mut criteria) = findings.acceptance_criteria.as_deref().and_then(parsed) {
        is_cut |= shorten(&mut criteria, &mut { CRITERIA_BYTES });
        merge(context, json!({ "acceptance_criteria": criteria }));
    }
    if let Some(estimate) = &findings.estimate {
        let reasoning = estimate.reasoning.as_deref().map(|text| cut_text(text, REASONING_BYTES));
        is_cut |= reasoning.is_some_and(|(_, cut)| cut);
        let estimate = json!({
            "tokens": estimate.tokens,
            "confidence": estimate.confidence,
            "reasoning": reasoning.map(|(text, _)| text),
        });
        merge(context, json!({ "estimate": estimate }));
    }
    if let Some(found) = &findings.context {
        let (text, text_cut) = cut_text(&found.text, TEXT_BYTES);
        let (sources, sources_cut) = whole_ones(found.sources.iter().map(|source| json!(source)), SOURCES_BYTES);
        is_cut |= text_cut || sources_cut;
        merge(context, json!({ "text": text, "sources": sources }));
    }
    is_cut
}

/// What an attempt left behind; whether some of it was cut.
fn previous_attempt(record: &Record) -> (Value, bool) {
    let artifacts = record.outputs.iter().map(|output| json!(&output.artifact.id));
    let (artifacts, artifacts_cut) = whole_ones(artifacts, PREVIOUS_BYTES / 2);
    let mut verification = record.verification.as_deref().and_then(parsed);
    let verification_cut = verification.as_mut().is_some_and(|value| shorten(value, &mut { PREVIOUS_BYTES / 2 }));
    let previous = json!({
        "attempt": record.attempt,
        "provenance_id": record.id.to_string(),
        "artifacts": artifacts,
        "verification": verification,
    });
    (previous, artifacts_cut || verification_cut)
}

/// The first values that fit into so many bytes, each whole; whether some do not.
fn whole_ones(values: impl Iterator<Item = Value>, most: usize) -> (Value, bool) {
    let (mut left, mut taken) = (most.saturating_sub(2), Vec::new());
    for value in values {
        let bytes = json_bytes(&value) + 1;
        if bytes > left {
            return (Value::Array(taken), true);
        }
        left -= bytes;
        taken.push(value);
    }
    (Value::Array(taken), false)
}

/// The beginning of a text that has at most so many bytes as JSON, cut between two
/// characters; whether it was cut.
fn cut_text(text: &str, most: usize) -> (&str, bool) {
    let mut left = most.saturating_sub(2);
    for (place, character) in text.char_indices() {
        let bytes = escaped_bytes(character);
        if bytes > left {
            return (text.get(..place).unwrap_or_default(), true);
        }
        left -= bytes;
    }
    (text, false)
}

/// Bytes of a character in JSON text.
const fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

/// Cuts any JSON value to the bytes that are left, from its end: texts are cut, the
/// last entries of arrays and objects left out. Whether something was cut. It
/// recurses as deep as the value, and values from outside have at most 64 levels.
fn shorten(value: &mut Value, left: &mut usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            *left = left.saturating_sub(json_bytes(value));
            false
        }
        Value::String(text) => {
            let (kept, is_cut) = cut_text(text, *left);
            let length = kept.len();
            text.truncate(length);
            *left = left.saturating_sub(json_bytes(value));
            is_cut
        }
        Value::Array(values) => {
            *left = left.saturating_sub(2);
            let (mut kept, mut is_cut) = (Vec::new(), false);
            for mut value in std::mem::take(values) {
                if *left < SMALLEST_BYTES || is_cut {
                    is_cut = true;
                    break;
                }
                *left = left.saturating_sub(1);
                is_cut |= shorten(&mut value, left);
                kept.push(value);
            }
            *values = kept;
            is_cut
        }
        Value::Object(entries) => {
            *left = left.saturating_sub(2);
            let (mut kept, mut is_cut) = (Map::new(), false);
            for (key, mut value) in std::mem::take(entries) {
                let key_bytes = key.chars().map(escaped_bytes).sum::<usize>() + 4;
                if *left < key_bytes + SMALLEST_BYTES || is_cut {
                    is_cut = true;
                    break;
                }
                *left -= key_bytes;
                is_cut |= shorten(&mut value, left);
                kept.insert(key, value);
            }
            *entries = kept;
            is_cut
        }
    }
}

fn json_bytes(value: &Value) -> usize {
    /// Counts what is written.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the value nor the count can fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

pub(crate) fn merge(data: &mut Value, more: Value) {
    if let (Value::Object(data), Value::Object(more)) = (data, more) {
        data.extend(more);
    }
}

pub(crate) fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_by_its_bytes_in_json() {
        assert_eq!(cut_text("abc", 5), ("abc", false));
        assert_eq!(cut_text("abc", 4), ("ab", true));
        assert_eq!(cut_text("a\u{e4}b", 4), ("a", true));
        assert_eq!(cut_text("a\u{e4}b", 5), ("a\u{e4}", true));
        for text in ["\"\\\n\u{1}\u{1f}\u{7f}\u{e4}\u{1f600}", "plain"] {
            let bytes = json_bytes(&json!(text));
            assert_eq!(cut_text(text, bytes), (text, false));
            assert!(cut_text(text, bytes - 1).1);
        }
        assert_eq!(cut_text("x", 0), ("", true));
    }

    #[test]
    fn what_is_shortened_keeps_its_beginning_and_its_form() {
        let whole = json!({"score": 0.5, "issues": ["a", {"line": 7}], "comments": null});
        let mut value = whole.clone();
        assert!(!shorten(&mut value, &mut 1024));
        assert_eq!(value, whole);
        let mut value = json!({"score": 0.5, "issues": vec!["x".repeat(100); 1000], "last": 1});
        assert!(shorten(&mut value, &mut 4096));
        let issues = value["issues"].as_array().map(Vec::len).unwrap();
        assert!((30..=41).contains(&issues) && value["score"] == 0.5 && value.get("last").is_none(), "{issues}");
        assert!(json_bytes(&value) <= 4096, "{}", json_bytes(&value));
        let mut long = json!("\u{1}".repeat(10_000));
        assert!(shorten(&mut long, &mut 602));
        assert_eq!((json_bytes(&long), long.as_str().map(str::len)), (602, Some(100)));
    }

    #[test]
    fn only_whole_values_are_taken() {
        let ids = || ["aa", "bb", "cc"].into_iter().map(|id| json!(id));
        assert_eq!(whole_ones(ids(), 17), (json!(["aa", "bb", "cc"]), false));
        assert_eq!(whole_ones(ids(), 16), (json!(["aa", "bb"]), true));
    }
}
