//! Descriptions of all events: the JSON schemas of their data, with examples.
//! [`describe`] has an arm for each name of the catalogue.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::attributes::MAX_IDENTITY_BYTES;
use super::catalogue::{ACCEPTED, PUBLISHED};
use super::data::{
    CompletedData, FailedData, OutputData, RejectedData, RequestedData, RollbackData, StartedData, SuspectData,
    TaintedData, ValidatedData,
};
use super::envelope::SOURCE;
use crate::schema::require_nulls;
use crate::task::{ErrorCode, Status};
use crate::wire::{TaskCancelled, TaskCreated, TaskFinished, TaskReady};

// Ids in examples.
const TASK: &str = "01a204b0-4fa3-7360-8ccf-d910346c28ac";
const PARENT: &str = "01a204b0-3e81-7d42-9c1b-7f0a55b2c0de";
const RECORD: &str = "01a204b0-500c-7787-ab8f-85ec697c0591";
const LEASE: &str = "01a204b0-4fe3-71bb-a423-b881c1018ea9";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The description of an event.
pub(crate) struct Described {
    /// The name of the event.
    pub(crate) name: &'static str,
    /// The meaning of the event, in a sentence.
    pub(crate) summary: &'static str,
    /// The name of the schema of the data.
    pub(crate) data: String,
    /// That schema and all schemas to which it refers, by name.
    pub(crate) schemas: BTreeMap<String, Value>,
    /// Examples of the data.
    pub(crate) examples: Vec<Value>,
}

/// Returns the events that the service publishes.
pub(crate) fn published() -> Vec<Described> {
    PUBLISHED.into_iter().map(describe).collect()
}

/// Returns the events that the service accepts.
pub(crate) fn accepted() -> Vec<Described> {
    ACCEPTED.into_iter().map(describe).collect()
}

fn describe(name: &'static str) -> Described {
    match name {
        "task.created" => own::<TaskCreated<'_>>(name, "A task was submitted", created()),
        "task.ready" => own::<TaskReady<'_>>(name, "An attempt is ready for a worker", ready()),
        "task.cancelled" => own::<TaskCancelled<'_>>(name, "A task was cancelled", cancelled()),
        "task.finished" => own::<TaskFinished<'_>>(name, "A task has ended", finished()),
        "task.started" => given::<StartedData>(name, "A worker has started an attempt", started()),
        "task.output.created" => given::<OutputData>(name, "A worker has produced an output", output()),
        "task.validated" => given::<ValidatedData>(name, "QA has accepted an output", validated()),
        "task.rejected" => given::<RejectedData>(name, "QA has rejected an output", rejected()),
        "task.failed" => given::<FailedData>(name, "An attempt has failed", failed()),
        "review.requested" => given::<RequestedData>(name, "A person is asked to review an output", requested()),
        "review.completed" => given::<CompletedData>(name, "A person has reviewed an output", completed()),
        "artifact.tainted" => given::<TaintedData>(name, "An artifact is tainted", tainted()),
        "artifact.suspect" => given::<SuspectData>(name, "An artifact is suspect", suspect()),
        _ => given::<RollbackData>(name, "A project is to be rolled back to a checkpoint", rollback()),
    }
}

fn own<T: ToSchema>(name: &'static str, summary: &'static str, examples: Vec<Value>) -> Described {
    described::<T>(name, summary, examples, |schema| require_nulls(schema, &[]))
}

fn given<T: ToSchema>(name: &'static str, summary: &'static str, example: Value) -> Described {
    described::<T>(name, summary, vec![example], |_| {})
}

fn described<T: ToSchema>(
    name: &'static str,
    summary: &'static str,
    examples: Vec<Value>,
    complete: impl Fn(&mut RefOr<Schema>),
) -> Described {
    let mut all = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut all);
    let schemas = all.into_iter().map(|(name, mut schema)| {
        complete(&mut schema);
        (name, wrap_references(serde_json::to_value(schema).unwrap_or_default()))
    });
    Described { name, summary, data: T::name().into_owned(), schemas: schemas.collect(), examples }
}

/// Wraps references that have other keywords beside them, because readers of older drafts of JSON
/// Schema ignore those keywords.
fn wrap_references(schema: Value) -> Value {
    match schema {
        Value::Object(mut fields) => {
            if fields.len() > 1
                && let Some(reference) = fields.shift_remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
            fields.into_iter().map(|(key, value)| (key, wrap_references(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(wrap_references).collect(),
        other => other,
    }
}

/// Returns the schemas of the envelopes of published and of accepted events, by name.
pub(crate) fn envelopes() -> [(&'static str, Value); 2] {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let identity = |description: &str| {
        let description = format!("{description} At most {MAX_IDENTITY_BYTES} bytes.");
        json!({ "type": "string", "minLength": 1, "maxLength": MAX_IDENTITY_BYTES, "description": description })
    };
    let own = json!({
        "type": "object",
        "description": "An event of this service, in the structured mode of CloudEvents 1.0.",
        "required": ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "format": "uuid",
                "description": "The id of the event, which is the same for each publication." },
            "source": { "const": SOURCE },
            "type": text("The type of the event."),
            "time": { "type": "string", "format": "date-time", "description": "The time of the event, in UTC with microseconds." },
            "subject": { "type": "string", "format": "uuid", "description": "The id of the task." },
            "datacontenttype": { "const": "application/json" },
            "traceparent": text("The W3C trace context of the submission; absent if the submission had none."),
            "data": { "type": "object" },
        },
    });
    let given = json!({
        "type": "object",
        "description": "An event of another service, in the structured mode of CloudEvents 1.0. Other attributes are \
            allowed.",
        "required": ["specversion", "id", "source", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": identity("Unique within the source. A repeated event has no second effect."),
            "source": identity("The sender of the event."),
            "type": text("The type of the event, with or without the prefix `dats.`. Default: the routing key."),
            "time": { "type": ["string", "null"], "format": "date-time", "description": "The time of the event (RFC 3339)." },
            "datacontenttype": { "type": ["string", "null"], "pattern": "^[^;]*(/|[+])[Jj][Ss][Oo][Nn] *(;.*)?$",
                "description": "`application/json` or another media type of JSON." },
            "data_base64": { "type": "null", "description": "Not accepted." },
            "traceparent": { "description": "The W3C trace context. An invalid value is ignored." },
            "data": { "type": "object", "description": "Other fields are allowed." },
        },
    });
    [("OwnEvent", own), ("GivenEvent", given)]
}

fn created() -> Vec<Value> {
    vec![json!({ "task_id": TASK, "project_id": "proj-123", "description": "Write a haiku" })]
}

fn ready() -> Vec<Value> {
    let first = json!({
        "task_id": TASK, "project_id": "proj-123", "description": "Write a haiku", "attempt": 1,
        "execution_mode": "autonomous", "inputs": [], "context": {}, "parent_id": null, "constitution": null,
        "tier": "small", "domain": "documentation", "qa_profile": "consensus", "timeout_seconds": 600,
    });
    let second = json!({
        "task_id": TASK, "project_id": "proj-123", "description": "Write the tests", "attempt": 2,
        "execution_mode": "autonomous", "inputs": ["art-parser"],
        "context": {
            "parent": { "task_id": PARENT, "description": "Write a parser with tests" },
            "dependencies": [{
                "task_id": "01a204b0-4f01-7b6a-8e55-0d4c3b2a1908", "description": "Write the parser",
                "artifacts": [{ "id": "art-parser", "type": "code", "path": "src/parser.rs" }],
            }],
            "acceptance_criteria": ["the tests pass"],
            "estimate": { "tokens": 1800, "confidence": 0.8, "reasoning": null },
            "text": "fn parse(text: &str)", "sources": ["art-grammar"],
            "previous_attempt": {
                "attempt": 1, "provenance_id": RECORD, "artifacts": ["art-tests-1"],
                "verification": { "score": 0.3, "issues": ["no test of empty input"] },
            },
        },
        "parent_id": PARENT, "constitution": { "style": "plain words" }, "traceparent": TRACE,
        "tier": "large", "domain": "code-general", "qa_profile": "strict", "timeout_seconds": 600,
    });
    vec![first, second]
}

fn cancelled() -> Vec<Value> {
    vec![json!({ "task_id": TASK, "reason": "no longer needed" }), json!({ "task_id": TASK, "reason": null })]
}

fn finished() -> Vec<Value> {
    let of = |status: Status, error: Value, record: Value| {
        json!({
            "task_id": TASK, "project_id": "proj-123", "status": status.as_str(), "error": error,
            "provenance_id": record,
        })
    };
    let error = json!({ "code": ErrorCode::Rejected.as_str(), "message": "no tests", "attempt": 3 });
    vec![of(Status::Completed, Value::Null, json!(RECORD)), of(Status::Failed, error, Value::Null)]
}

fn started() -> Value {
    json!({ "task_id": TASK, "attempt": 1, "worker_id": "worker-1", "lease_id": LEASE })
}

fn output() -> Value {
    json!({
        "task_id": TASK, "artifact_id": "art-1", "attempt": 1,
        "output": {
            "content": "print('hello')",
            "artifacts": [{ "id": "art-1", "type": "code", "path": "hello.py", "language": "python", "size_bytes": 14 }],
        },
        "inputs_consumed": ["art-0"], "model_used": "model-7b", "worker_id": "worker-1", "lease_id": LEASE,
        "tokens_input": 1200, "tokens_output": 300, "execution_time_ms": 4200, "confidence": 0.87,
        "started_at": "2026-01-09T17:59:55Z",
    })
}

fn validated() -> Value {
    json!({
        "task_id": TASK, "artifact_id": "art-1", "score": 0.93, "validation_id": "val-1", "validators": ["qa-1", "qa-2"],
        "profile": "consensus",
    })
}

fn rejected() -> Value {
    json!({
        "task_id": TASK, "artifact_id": "art-1", "issues": [{ "message": "no tests", "severity": "major" }],
        "score": 0.3, "reason": "it has no tests",
    })
}

fn failed() -> Value {
    json!({
        "task_id": TASK, "error": "out of memory", "retryable": true, "attempt": 1, "worker_id": "worker-1",
        "lease_id": LEASE,
    })
}

fn requested() -> Value {
    json!({
        "review_id": "review-1", "reason": "the validators disagree", "priority": "high", "task_id": TASK,
        "artifact_id": "art-1",
    })
}

fn completed() -> Value {
    json!({
        "review_id": "review-1", "decision": "approved", "reviewer_id": "ann", "task_id": TASK, "artifact_id": "art-1",
        "comments": "good",
    })
}

fn tainted() -> Value {
    json!({ "artifact_id": "art-1", "cascade_id": "cascade-1", "reason": "wrong units", "source_id": "art-0" })
}

fn suspect() -> Value {
    json!({ "artifact_id": "art-1", "cascade_id": "cascade-1", "source_id": "art-0", "reason": "made of art-0" })
}

fn rollback() -> Value {
    json!({
        "checkpoint_id": "01a204b0-6b1e-7c20-8a7d-4f5e6d7c8b9a", "reason": "a library was replaced",
        "project_id": "proj-123", "dry_run": false, "requeue": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that a field may get by mistake.
    fn values() -> [Value; 10] {
        [
            Value::Null,
            json!(7),
            json!(-1),
            json!(1.5),
            json!(true),
            json!("text"),
            json!(""),
            json!([]),
            json!([7]),
            json!({}),
        ]
    }

    /// Collects the places of the fields of a schema that the value has.
    fn places(schemas: &BTreeMap<String, Value>, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let named = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/components/schemas/"));
        if let Some(named) = named {
            return places(schemas, &schemas[named], value, at, found);
        }
        for part in ["allOf", "oneOf"].into_iter().filter_map(|word| schema[word].as_array()).flatten() {
            places(schemas, part, value, at, found);
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{at}/{name}");
            if value[name].is_object() || value[name].is_array() {
                places(schemas, inner, &value[name], &place, found);
            }
            found.push(place);
        }
        if value[0].is_object() {
            places(schemas, &schema["items"], &value[0], &format!("{at}/0"), found);
        }
    }

    /// Replaces the value at a place, or removes it.
    fn changed(data: &Value, place: &str, value: Option<Value>) -> Value {
        let mut data = data.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        let parent = data.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => drop(parent.insert(name.to_owned(), value)),
            None => drop(parent.remove(name)),
        }
        data
    }

    #[test]
    fn the_schema_accepts_what_the_reader_accepts() {
        let mut tried = 0;
        for event in accepted() {
            let whole = json!({
                "allOf": [{ "$ref": format!("#/components/schemas/{}", event.data) }],
                "components": { "schemas": event.schemas },
            });
            // The draft must know the format of UUIDs.
            let options = jsonschema::draft202012::options().should_validate_formats(true);
            let validator = options.build(&whole).unwrap();
            let accepted = |data: &Value| {
                let event = json!({"specversion": "1.0", "type": event.name, "source": "/s", "id": "1", "data": data});
                super::super::read(event.to_string().as_bytes()).map_err(|error| format!("{error:?}"))
            };
            let example = &event.examples[0];
            assert!(accepted(example).is_ok() && validator.is_valid(example), "{example}: {:?}", accepted(example));
            let mut all = Vec::new();
            places(&event.schemas, &event.schemas[&event.data], example, "", &mut all);
            assert!(all.len() >= 3, "{all:?}");
            for place in all {
                for value in values().map(Some).into_iter().chain([None]) {
                    let data = changed(example, &place, value);
                    let (accepted, valid) = (accepted(&data), validator.is_valid(&data));
                    // The example has another content of the same artifact, which a schema can't express.
                    let agree = valid == accepted.is_ok() || (valid && place == "/output/artifacts/0/content");
                    assert!(agree, "{place} of {}: {data}: {accepted:?}", event.name);
                    tried += 1;
                }
            }
        }
        assert!(tried > 500, "{tried}");
    }

    /// Reports are bound to the holder of the task, so the examples name the worker and its lease.
    #[test]
    fn events_of_workers_name_the_worker_and_its_lease() {
        let mut named = 0;
        for event in accepted() {
            for field in ["worker_id", "lease_id"] {
                let is_described = !event.schemas[&event.data]["properties"][field].is_null();
                assert_eq!(is_described, event.examples[0][field].is_string(), "{field} of {}", event.name);
                named += usize::from(is_described);
            }
        }
        assert_eq!(named, 6);
    }

    #[test]
    fn every_name_has_a_description_of_its_own() {
        let all = published().into_iter().chain(accepted());
        let names: std::collections::BTreeSet<String> = all.map(|event| event.data).collect();
        assert_eq!(names.len(), PUBLISHED.len() + ACCEPTED.len());
    }
}
