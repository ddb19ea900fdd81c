//! Work queues and leases, events in and out, dead letters.

use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};

use super::answers::CloudEvent;
use super::limits;
use super::operation::{Described, JSON, number, operation, reference};
use crate::events;
use crate::http::api::events::intake::{self, MAX_BATCH};
use crate::http::api::events::{dead_letters, follow};
use crate::http::api::work::leases::{self, MAX_LEASES, MAX_WAIT};
use crate::task::{LeaseId, ProjectId, Seq, TaskId, Tier, Timestamp};

const WORK: &str = "Work queues";
const EVENTS: &str = "Events";
const LETTERS: &str = "Dead letters";

fn of_tier(id: &str, summary: &str) -> Described {
    operation(id, WORK, summary).id::<Tier>("The tier.").problem(404, &["tier_not_found"])
}

pub(super) fn queues() -> Described {
    operation("listQueues", WORK, "Read how many tasks wait for workers")
        .answer::<leases::QueuesWire<'static>>(200, "All work queues.")
        .reads()
}

fn switch(id: &str, summary: &str) -> Described {
    of_tier(id, summary)
        .body::<leases::ReleaseWire>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<leases::QueueWire<'static>>(200, "The work queue.")
        .writes()
}

pub(super) fn pause() -> Described {
    switch("pauseTier", "Give no more tasks to workers of a tier").says("What runs goes on.")
}

pub(super) fn resume() -> Described {
    switch("resumeTier", "Give tasks to workers of a tier again")
}

pub(super) fn lease() -> Described {
    let limits = [
        limits::whole("LeaseRequest", "max", 1, MAX_LEASES),
        limits::at_least("LeaseRequest", "lease_seconds", 1),
        limits::whole("LeaseRequest", "wait_seconds", 0, MAX_WAIT),
    ];
    let worker = json!({"worker_id": "worker-1", "max": 1, "lease_seconds": 60, "wait_seconds": 0});
    of_tier("leaseTasks", "Take tasks as a worker")
        .says(
            "Not with a broker: then workers take tasks from its queues. The answer ends at about 1 MiB, with at least \
             one task where one waits: what it has no room for is given to the next worker that asks.",
        )
        .body::<leases::LeaseWire>(true, &limits, &[("worker", worker)])
        .reads_json()
        .answer::<leases::LeasesWire<'static>>(200, "The tasks that were given.")
        .problem(409, &["leasing_not_available"])
        .writes()
}

fn of_lease(id: &str, summary: &str) -> Described {
    operation(id, WORK, summary).id::<LeaseId>("The lease.").problem(409, &["lease_lost"])
}

pub(super) fn renew() -> Described {
    let limits = [limits::at_least("Renewal", "lease_seconds", 1)];
    of_lease("renewLease", "Hold a task longer")
        .body::<leases::RenewWire>(false, &limits, &[("minute", json!({"lease_seconds": 60}))])
        .reads_json()
        .answer::<leases::RenewedWire>(200, "The lease.")
        .writes()
}

pub(super) fn release() -> Described {
    of_lease("releaseLease", "Give a task back")
        .body::<leases::ReleaseWire>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .empty(204, "It is back in its queue.")
        .writes()
}

pub(super) fn follow() -> Described {
    let types = ArrayBuilder::new().items(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)));
    let names = format!(
        "Of these types only: several times, or with commas, with `dats.` in front or not. There are {}.",
        events::all_names()
    );
    operation("followEvents", EVENTS, "Follow or read the event log")
        .says(
            "Server-sent events, or, with `Accept: application/json`, a page. In the stream `id` is the position in \
             the log and `data` the event; it begins now, or after `Last-Event-ID` or `after`. A comment comes while \
             nothing happens. `event: reset` says that what was before the position `first` of its data can't be read \
             any more. `limit` and `cursor` are for pages only.",
        )
        .shared("Last-Event-ID")
        .query_of("types", &names, types)
        .query::<ProjectId>("project_id", "Of this project only.")
        .query::<TaskId>("task_id", "About this task only.")
        .query::<Seq>("after", "Behind this position.")
        .pages()
        .answer_as::<CloudEvent>(200, "The stream, where the schema is that of `data`, or a page.", "text/event-stream")
        .answer::<follow::PageWire>(200, "")
        .problem(406, &["not_acceptable"])
        .reads()
}

pub(super) fn take() -> Described {
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
    operation("takeEvents", EVENTS, "Report what has happened")
        .says(
            "The HTTP binding of CloudEvents: structured, binary (attributes in `ce-` headers, `data` as the body) or \
             a batch. The effect is on disk when the answer leaves. An event that comes again has no second one.",
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
            "What the event did; of a batch, what each of them did.",
        )
        .problem(404, EVENT_NAMES_NOTHING)
        .problem(409, EVENT_CONFLICTS)
        .problem(422, &["unsupported_event_type"])
        .writes()
}

/// What an event names may not be there.
const EVENT_NAMES_NOTHING: &[&str] =
    &["task_not_found", "provenance_not_found", "checkpoint_not_found", "project_not_found"];
/// What an event says may not fit.
const EVENT_CONFLICTS: &[&str] = &[
    "task_already_ended",
    "lease_lost",
    "unknown_attempt",
    "task_in_other_phase",
    "checkpoint_invalid",
    "checkpoint_of_other_project",
];

fn filtered(described: Described) -> Described {
    let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    described
        .query_of("reason", "Whose reason contains this text, whatever the case of its letters.", text())
        .query_of("type", "Of events of this type only, with `dats.` in front or not.", text())
        .query_of("source", "Of events from this source only.", text())
        .query::<TaskId>("task_id", "That name this task only.")
        .query::<Timestamp>("created_after", "Put aside at this time or later.")
        .query::<Timestamp>("created_before", "Put aside before this time.")
        .query_of("older_than_seconds", "Put aside longer ago than this.", number(&(0..=u64::from(u32::MAX))))
}

pub(super) fn letters() -> Described {
    filtered(operation("listDeadLetters", LETTERS, "List events that could not be taken"))
        .says("They are kept within a bound in number and bytes: beyond it the oldest go.")
        .pages()
        .answer::<dead_letters::ListWire>(200, "A page of dead letters, the newest first.")
        .reads()
}

pub(super) fn letter_removals() -> Described {
    operation("listDeadLetterRemovals", LETTERS, "List which dead letters are gone, and why")
        .says(
            "The audit trail of what was taken again, discarded or dropped. It is kept as long as the log \
             (`events.retention_hours`), and has at most 10,000 entries: beyond it the oldest go.",
        )
        .pages()
        .answer::<dead_letters::RemovalsWire>(200, "A page of the trail, the newest first.")
        .reads()
}

pub(super) fn discard_matching() -> Described {
    let all = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean));
    filtered(operation("discardDeadLetters", LETTERS, "Discard the events that a filter fits"))
        .says("For good, in commits of some hundred. A failure in between leaves those that are not discarded yet.")
        .query_of("all", "Discard all of them; needed where there is no filter.", all)
        .answer::<dead_letters::DiscardedWire>(200, "How many were discarded.")
        .writes()
}

pub(super) fn discard() -> Described {
    of_letter("discardDeadLetter", "Discard an event that could not be taken").empty(204, "It is gone.").writes()
}

fn of_letter(id: &str, summary: &str) -> Described {
    operation(id, LETTERS, summary).id::<Seq>("Its number.").problem(404, &["dead_letter_not_found"])
}

pub(super) fn letter() -> Described {
    of_letter("getDeadLetter", "Read an event that could not be taken")
        .answer::<dead_letters::LetterWire<'static>>(200, "The dead letter.")
        .reads()
}

pub(super) fn requeue() -> Described {
    of_letter("requeueDeadLetter", "Try an event again")
        .body::<leases::ReleaseWire>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<dead_letters::RequeuedWire>(200, "What the event did.")
        .problem(404, EVENT_NAMES_NOTHING)
        .problem(409, EVENT_CONFLICTS)
        .problem(422, &["unsupported_event_type"])
        .writes()
}
