//! Parses the members of a record's object into typed fields.

use std::collections::HashMap;

use serde_json::Value;

use super::checkpoint::project;
use super::event::required_id;
use super::fields::{Fields, Found};
use super::invalid::Fault;
use super::record::{Input, Record, Taint, Verification};
use crate::task::{OutputArtifact, RecordId, RecordStatus};

/// A verification status of the old program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Verdict(RecordStatus),
    Tainted,
    Suspect,
}

impl Record {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let execution = fields.inside("execution")?;
        let metrics = fields.inside("metrics")?;
        let count = |key| Ok::<_, Fault>(twin(metrics.count(key)?, fields.count(key)?, |count| *count == 0));
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (status, taint) = standing(fields)?;
        let name = required_id(fields)?;
        Ok(Self {
            id: RecordId::of_text(&name),
            name,
            task: fields.id("task_id")?.map_or_else(String::new, |id| id.to_string()),
            project: project(fields)?,
            status,
            taint,
            model: owned(twin(execution.text("model")?, fields.text("model_used")?, |text| text.is_empty())),
            worker: owned(twin(execution.text("worker_id")?, fields.text("worker_id")?, |text| text.is_empty())),
            // Only files of this service have these members; in other files they may have any type.
            tier: fields.any("tier").and_then(Value::as_str).and_then(|text| text.parse().ok()),
            domain: fields.any("domain").and_then(Value::as_str).and_then(|text| text.parse().ok()),
            attempt: fields.any("attempt").and_then(Value::as_u64).and_then(|number| number.try_into().ok()),
            outputs: outputs(fields)?,
            inputs: inputs(fields)?,
            confidence: confidence(fields)?,
            tokens_input: count("tokens_input")?,
            tokens_output: count("tokens_output")?,
            execution_time_ms: count("execution_time_ms")?,
            verification: verification(fields)?,
            created_at: fields.time("created_at")?,
            started_at: fields.time("started_at")?,
            completed_at: fields.time("completed_at")?,
            original: None,
        })
    }
}

/// Returns the value that counts of a nested field and its flat duplicate.
fn twin<T>(structured: Option<T>, flat: Option<T>, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    match structured {
        Some(value) if !is_empty(&value) => Some(value),
        empty => flat.or(empty),
    }
}

/// Parses the verdict and the flags.
fn standing(fields: &Fields<'_>) -> Result<(RecordStatus, Taint), Fault> {
    let structured = word(&fields.inside("verification")?, "status")?;
    let flat = word(fields, "verification_status")?;
    let mut taint = taint(&fields.inside("taint")?)?;
    let is_pending = |word: &Word| *word == Word::Verdict(RecordStatus::Pending);
    let status = match twin(structured, flat, is_pending) {
        None => RecordStatus::Pending,
        Some(Word::Verdict(status)) => status,
        Some(mark) => {
            taint.is_tainted |= mark == Word::Tainted;
            taint.is_suspect |= mark == Word::Suspect;
            // The flag replaced the verdict in this member; the flat member may still have the
            // verdict.
            match flat {
                Some(Word::Verdict(status)) => status,
                Some(Word::Tainted | Word::Suspect) | None => RecordStatus::Pending,
            }
        }
    };
    Ok((status, taint))
}

fn word(fields: &Fields<'_>, key: &str) -> Found<Word> {
    let Some(text) = fields.text(key)? else { return Ok(None) };
    let word = match text {
        "pending" => Word::Verdict(RecordStatus::Pending),
        "passed" => Word::Verdict(RecordStatus::Passed),
        "failed" => Word::Verdict(RecordStatus::Failed),
        "human_approved" => Word::Verdict(RecordStatus::HumanApproved),
        "tainted" => Word::Tainted,
        "suspect" => Word::Suspect,
        _ => return Err(fields.fault(key, "must be pending, passed, failed, human_approved, tainted or suspect")),
    };
    Ok(Some(word))
}

fn taint(fields: &Fields<'_>) -> Result<Taint, Fault> {
    let text = |key| Ok::<_, Fault>(fields.text(key)?.map(str::to_owned));
    Ok(Taint {
        is_tainted: fields.flag("is_tainted")?.unwrap_or(false),
        tainted_at: fields.time("tainted_at")?,
        tainted_reason: text("tainted_reason")?,
        tainted_by: text("tainted_by")?,
        is_suspect: fields.flag("is_suspect")?.unwrap_or(false),
        suspect_since: fields.time("suspect_since")?,
        suspect_source: text("suspect_source")?,
    })
}

fn verification(fields: &Fields<'_>) -> Result<Verification, Fault> {
    let structured = fields.inside("verification")?;
    let text = |key| Ok::<_, Fault>(structured.text(key)?.map(str::to_owned));
    let is_empty = |value: &&Value| match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    Ok(Verification {
        qa_profile: text("qa_profile")?,
        qa_result_id: text("qa_result_id")?,
        verified_at: structured.time("verified_at")?,
        verified_by: text("verified_by")?,
        // Details are only shown to people and may have any type.
        details: twin(structured.any("details"), fields.any("verification_details"), is_empty)
            .cloned()
            .unwrap_or_default(),
    })
}

/// Parses the confidence, a number from 0 to 1. The nested one stands among the free details, so a
/// value there that is not such a number is ignored.
fn confidence(fields: &Fields<'_>) -> Found<f64> {
    let is_share = |number: &f64| (0.0..=1.0).contains(number);
    let details = fields.inside("verification")?.any("details");
    let structured = details.and_then(|details| details.get("confidence")?.as_f64()).filter(is_share);
    let flat = fields.number("confidence")?;
    if flat.is_some_and(|number| !is_share(&number)) {
        return Err(fields.fault("confidence", "must be a number from 0 to 1"));
    }
    Ok(twin(structured, flat, |number| *number <= 0.0))
}

/// Parses the outputs that name an artifact. Of duplicates the first counts.
fn outputs(fields: &Fields<'_>) -> Result<Vec<OutputArtifact>, Fault> {
    let mut outputs = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for output in fields.objects("outputs")? {
        let Some(id) = output.id("artifact_id")? else { continue };
        let text = |key| Ok::<_, Fault>(output.text(key)?.map(str::to_owned));
        let artifact = OutputArtifact {
            id: id.clone(),
            kind: text("type")?,
            path: text("location")?,
            language: output.any("language").and_then(Value::as_str).map(str::to_owned),
            checksum: text("checksum")?,
            size_bytes: output.count("size_bytes")?,
        };
        if seen.insert(id) {
            outputs.push(artifact);
        }
    }
    Ok(outputs)
}

/// Parses the artifacts of `inputs` and `inputs_consumed` without duplicates. An artifact that is
/// consumed in any place counts as consumed.
fn inputs(fields: &Fields<'_>) -> Result<Vec<Input>, Fault> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut places = HashMap::new();
    let mut add = |artifact: crate::task::ArtifactId, consumed: bool| {
        let place = *places.entry(artifact.clone()).or_insert(inputs.len());
        match inputs.get_mut(place) {
            Some(known) => known.consumed |= consumed,
            None => inputs.push(Input { artifact, consumed }),
        }
    };
    for input in fields.objects("inputs")? {
        let consumed = match input.text("relationship")? {
            None | Some("consumed") => true,
            Some("referenced") => false,
            Some(_) => return Err(input.fault("relationship", "must be consumed or referenced")),
        };
        if let Some(artifact) = input.id("artifact_id")? {
            add(artifact, consumed);
        }
    }
    for artifact in fields.ids("inputs_consumed")? {
        add(artifact, true);
    }
    Ok(inputs)
}
