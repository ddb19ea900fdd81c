//! Descriptions of the endpoints of events and dead letters for the `OpenAPI` document.

use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};

use crate::events;
use crate::http::api::events::intake::{self, MAX_BATCH};
use crate::http::api::events::{dead_letters, follow};
use crate::http::openapi::cloud_event::CloudEvent;
use crate::http::openapi::limits;
use crate::http::openapi::operation::{Described, JSON, number, operation, reference};
use crate::http::openapi::words::NoFields;
use crate::task::{ProjectId, Seq, TaskId, Timestamp};

const EVENTS: &str = "Events";
const DEAD_LETTERS: &str = "Dead letters";

/// Problems of an event that names something unknown.
const UNKNOWN_SUBJECT: &[&str] =
    &["task_not_found", "provenance_not_found", "checkpoint_not_found", "project_not_found"];
/// Problems of an event that conflicts with the state of what it names.
const CONFLICTS: &[&str] = &[
    "task_already_ended",
    "lease_lost",
    "unknown_attempt",
    "task_in_other_phase",
    "checkpoint_invalid",
    "checkpoint_of_other_project",
];

pub(in crate::http) fn follow() -> Described {
    let types = ArrayBuilder::new().items(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)));
    let names = format!(
        "Only events of these types. Repeat the parameter or separate the types by commas; the prefix `dats.` is \
         optional. The types are {}.",
        events::all_names()
    );
    operation("followEvents", EVENTS, "Follow or read the event log")
        .says(
            "The response is a stream of server-sent events, or a page with `Accept: application/json`. In the stream, \
             `id` is the position in the log and `data` the event. The stream starts with the next event, or after \
             `Last-Event-ID` or `after`. Comments keep an idle stream open. `event: reset` says that events before the \
             position `first` in its data are no longer in the log. `limit` and `cursor` apply to pages only.",
        )
        .shared("Last-Event-ID")
        .query_of("types", &names, types)
        .query::<ProjectId>("project_id", "Only events of this project.")
        .query::<TaskId>("task_id", "Only events about this task.")
        .query::<Seq>("after", "Only events after this position.")
        .pages()
        .answer_as::<CloudEvent>(200, "A stream, whose schema describes `data`, or a page.", "text/event-stream")
        .answer::<follow::PageWire>(200, "")
        .problem(406, &["not_acceptable"])
        .reads()
}

pub(in crate::http) fn take() -> Described {
    let event = json!({
        "specversion": "1.0", "type": "dats.task.failed", "source": "/worker/1", "id": "e-1",
        "data": {
            "task_id": "{task_id}", "error": "no compiler here", "worker_id": "worker-1", "lease_id": "{lease_id}",
        },
    });
    let one = || ContentBuilder::new().schema(Some(reference::<CloudEvent>()));
    let many = ArrayBuilder::new().items(reference::<CloudEvent>()).max_items(Some(MAX_BATCH));
    let many =
        ContentBuilder::new().schema(Some(many)).examples_from_iter([("two", limits::example(&json!([event, event])))]);
    let example = [("failed", limits::example(&event))];
    operation("takeEvents", EVENTS, "Report events")
        .says(
            "The request follows the HTTP binding of CloudEvents: structured, binary (attributes in `ce-` headers, \
             `data` as the body) or batched. The effect of an event is on disk before the response is sent. An event \
             that is sent again has no second effect.",
        )
        .asks::<CloudEvent>()
        .content(
            true,
            [
                ("application/cloudevents+json", one().examples_from_iter(example.clone()).build()),
                ("application/cloudevents-batch+json", many.build()),
                (JSON, one().examples_from_iter(example).build()),
            ],
        )
        .reads_json()
        .answer_either::<intake::OutcomeWire<'static>, intake::ResultsWire<'static>>(
            200,
            "The outcome of the event, or the result of each event of a batch.",
        )
        .problem(404, UNKNOWN_SUBJECT)
        .problem(409, CONFLICTS)
        .problem(422, &["unsupported_event_type"])
        .writes()
}

fn filtered(described: Described) -> Described {
    let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    described
        .query_of("reason", "Only dead letters whose reason contains this text; case does not matter.", text())
        .query_of("type", "Only events of this type; the prefix `dats.` is optional.", text())
        .query_of("source", "Only events from this source.", text())
        .query::<TaskId>("task_id", "Only events that name this task.")
        .query::<Timestamp>("created_after", "Only events rejected at this time or later.")
        .query::<Timestamp>("created_before", "Only events rejected before this time.")
        .query_of(
            "older_than_seconds",
            "Only events rejected longer ago than this, in seconds.",
            number(&(0..=u64::from(u32::MAX))),
        )
}

pub(in crate::http) fn letters() -> Described {
    filtered(operation("listDeadLetters", DEAD_LETTERS, "List rejected events"))
        .says("The number and the size of dead letters are limited. Beyond either limit, the oldest are dropped.")
        .pages()
        .answer::<dead_letters::ListWire>(200, "A page of dead letters, newest first.")
        .reads()
}

pub(in crate::http) fn letter_removals() -> Described {
    operation("listDeadLetterRemovals", DEAD_LETTERS, "List removed dead letters with the reason of each removal")
        .says(
            "This is the audit trail of dead letters that were accepted on a second try, discarded or dropped. An \
             entry is kept as long as the log (`events.retention_hours`). There are at most 10,000 entries; beyond \
             that, the oldest are dropped.",
        )
        .pages()
        .answer::<dead_letters::RemovalsWire>(200, "A page of the audit trail, newest first.")
        .reads()
}

pub(in crate::http) fn discard_matching() -> Described {
    let all = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean));
    filtered(operation("discardDeadLetters", DEAD_LETTERS, "Discard the dead letters that match a filter"))
        .says(
            "Discarded dead letters cannot be restored. Each commit discards a few hundred of them, so that a failure \
             in between leaves the rest in place.",
        )
        .query_of("all", "Discards all dead letters. Required without a filter.", all)
        .answer::<dead_letters::DiscardedWire>(200, "The number of discarded dead letters.")
        .writes()
}

pub(in crate::http) fn discard() -> Described {
    letter_operation("discardDeadLetter", "Discard a dead letter").empty(204, "The dead letter is discarded.").writes()
}

/// Starts the description of an endpoint whose path names a dead letter.
fn letter_operation(id: &str, summary: &str) -> Described {
    operation(id, DEAD_LETTERS, summary)
        .id::<Seq>("The number of the dead letter.")
        .problem(404, &["dead_letter_not_found"])
}

pub(in crate::http) fn letter() -> Described {
    letter_operation("getDeadLetter", "Read a dead letter")
        .answer::<dead_letters::DeadLetterWire<'static>>(200, "The dead letter.")
        .reads()
}

pub(in crate::http) fn requeue() -> Described {
    letter_operation("requeueDeadLetter", "Try to accept a rejected event again")
        .body::<NoFields>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<dead_letters::RequeuedWire>(200, "The outcome of the event.")
        .problem(404, UNKNOWN_SUBJECT)
        .problem(409, CONFLICTS)
        .problem(422, &["unsupported_event_type"])
        .writes()
}
