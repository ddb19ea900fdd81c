//! Conversion of records between the old program's form and the store's.

use serde_json::{Map, Value};

use super::causes::{Cause, Causes};
use crate::engine::{Engine, Error};
use crate::legacy::{self, Line, Taint};
use crate::lineage::{Fact, Flag, Graph, RecordState, Relationship};
use crate::store::{Imported, ImportedTaint, Record, RecordInput, RecordOutput};
use crate::task::{TaskId, WorkerId};

/// Converts a parsed record to the engine's form; `original` is the object that it was parsed from.
pub(super) fn to_stored(old: legacy::Record, original: &Map<String, Value>) -> Record {
    let verification = verification(&old.verification);
    let created_at = old.made_at();
    let taint = &old.taint;
    let imported = Imported {
        digest: legacy::digest(original),
        was_suspect: taint.is_suspect,
        taint: taint.is_tainted.then(|| ImportedTaint {
            at: taint.tainted_at,
            reason: taint.tainted_reason.clone(),
            by: taint.tainted_by.clone(),
        }),
        tainted_in: None,
        original: Value::Object(original.clone()).to_string(),
        id: old.name,
        task: old.task,
    };
    let relationship = |consumed| if consumed { Relationship::Consumed } else { Relationship::Referenced };
    let input =
        |input: legacy::Input| RecordInput { artifact: input.artifact, relationship: relationship(input.consumed) };
    Record {
        id: old.id,
        task: TaskId::of_text(&imported.task),
        project: old.project,
        attempt: old.attempt,
        status: old.status,
        model_used: old.model,
        // A name that is not a valid worker id stays only in the original.
        worker: old.worker.and_then(|worker| WorkerId::new(&worker).ok()),
        tier: old.tier,
        domain: old.domain,
        created_at,
        started_at: old.started_at,
        completed_at: old.completed_at,
        tokens_input: old.tokens_input,
        tokens_output: old.tokens_output,
        execution_time_ms: old.execution_time_ms,
        confidence: old.confidence,
        outputs: old.outputs.into_iter().map(|artifact| RecordOutput { artifact, content: None }).collect(),
        inputs: old.inputs.into_iter().map(input).collect(),
        verification,
        imported: Some(Box::new(imported)),
    }
}

/// Renders how the verdict was reached as JSON, as far as known.
fn verification(old: &legacy::Verification) -> Option<String> {
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let members = [
        ("qa_profile", text(&old.qa_profile)),
        ("qa_result_id", text(&old.qa_result_id)),
        ("verified_at", old.verified_at.map(|at| Value::from(at.to_string()))),
        ("verified_by", text(&old.verified_by)),
        ("details", (!old.details.is_null()).then(|| old.details.clone())),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let members: Map<String, Value> = members.collect();
    (!members.is_empty()).then(|| Value::Object(members).to_string())
}

/// Renders a record in the form of the old program, with its present verdict and flags.
pub(super) async fn to_json(
    engine: &Engine,
    graph: &Graph,
    record: &Record,
    causes: &mut Causes,
) -> Result<Value, Error> {
    let old = old_record(record);
    let known = graph.find(record.id).and_then(|node| graph.record(node));
    let taint = match known {
        Some(known) => taint(engine, graph, (record, &known), &old.taint, causes).await?,
        None => old.taint.clone(),
    };
    Ok(old.to_json(record.status, &taint))
}

/// Returns the present flags with their times and reasons.
async fn taint(
    engine: &Engine,
    graph: &Graph,
    (record, known): (&Record, &RecordState),
    before: &Taint,
    causes: &mut Causes,
) -> Result<Taint, Error> {
    let imported_in = record.imported.as_ref().and_then(|imported| imported.tainted_in);
    Ok(match (known.flag, known.fact) {
        (Flag::Tainted, Some(Fact::Tainted(step))) if imported_in == Some(step) => {
            Taint { is_suspect: false, suspect_since: None, suspect_source: None, ..before.clone() }
        }
        (Flag::Tainted, Some(Fact::Tainted(step))) => {
            let (at, reason, by) = causes.of(engine, step).await?.map(Cause::into_parts).unwrap_or_default();
            Taint { is_tainted: true, tainted_at: at, tainted_reason: reason, tainted_by: by, ..Taint::default() }
        }
        (Flag::Suspect, fact) => {
            let step = match fact {
                Some(Fact::Marked(step)) => Some(step),
                _ => graph.find(record.id).and_then(|node| graph.exposed_at(node)),
            };
            let cause = match step {
                Some(step) => causes.of(engine, step).await?,
                None => None,
            };
            let (at, _, by) = cause.map(Cause::into_parts).unwrap_or_default();
            // A mark that was imported with the record keeps its original values.
            let is_known = before.is_suspect && at.is_some() && before.suspect_since == at;
            let by = if is_known { before.suspect_source.clone() } else { by };
            Taint { is_suspect: true, suspect_since: at, suspect_source: by, ..Taint::default() }
        }
        (Flag::Tainted | Flag::Clean, _) => Taint::default(),
    })
}

fn old_record(record: &Record) -> legacy::Record {
    let original = record.imported.as_ref().map(|imported| imported.original.as_bytes());
    if let Some(Ok(Line::Record(old))) = original.map(Line::parse) {
        return *old;
    }
    let input = |input: &RecordInput| legacy::Input {
        artifact: input.artifact.clone(),
        consumed: input.relationship == Relationship::Consumed,
    };
    let details = record.verification.as_deref().and_then(|text| serde_json::from_str(text).ok());
    legacy::Record {
        id: record.id,
        name: record.id.to_string(),
        task: record.task.to_string(),
        project: record.project.clone(),
        status: record.status,
        taint: Taint::default(),
        model: record.model_used.clone(),
        worker: record.worker.as_ref().map(ToString::to_string),
        tier: record.tier.clone(),
        domain: record.domain.clone(),
        attempt: record.attempt,
        outputs: record.outputs.iter().map(|output| output.artifact.clone()).collect(),
        inputs: record.inputs.iter().map(input).collect(),
        confidence: record.confidence,
        tokens_input: record.tokens_input,
        tokens_output: record.tokens_output,
        execution_time_ms: record.execution_time_ms,
        verification: legacy::Verification { details: details.unwrap_or_default(), ..Default::default() },
        created_at: Some(record.created_at),
        started_at: record.started_at,
        completed_at: record.completed_at,
        original: None,
    }
}
