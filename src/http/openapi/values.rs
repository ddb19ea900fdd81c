//! How words of the interface look in the document. Those of tasks are in
//! [`crate::schema`].

use serde_json::{Value, json};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::engine::{self, Advice};
use crate::http::server::reply::Time;
use crate::json::FieldError;
use crate::legacy::Action;
use crate::lineage::{Flag, Relationship};
use crate::schema::{described, text, time, word};
use crate::task::{Outcome, Phase, RecordStatus, Stale, Status};

/// One of these values.
fn values(description: &str, values: Value) -> Object {
    let values = if let Value::Array(values) = values { values } else { vec![values] };
    text(description).enum_values(Some(values)).build()
}

/// What an event did.
pub(in crate::http) struct EventOutcome;
/// What was done to a record's flag.
pub(in crate::http) struct TaintAction;
/// How the service is.
pub(in crate::http) struct HealthStatus;

described! {
    Time, "Time": time("A time in UTC, to the microsecond.");
    RecordStatus, "RecordStatus": word("The verdict of a record.", crate::http::api::provenance::records::STATUSES.map(RecordStatus::as_str));
    Flag, "Flag": values("What is known against a record.", json!([Flag::Clean, Flag::Suspect, Flag::Tainted]));
    Relationship, "Relationship": values("How an artifact was used.", json!([Relationship::Consumed, Relationship::Referenced]));
    Advice, "Advice": word(
        "What to do about bad records: go on, look at it, or go back to a checkpoint.",
        [Advice::Continue, Advice::Pause, Advice::Rollback].map(Advice::as_str),
    );
    EventOutcome, "EventOutcome": word(
        "What an event did.",
        [Outcome::Applied, Outcome::Unchanged, Outcome::Stale(Stale::Ended), Outcome::Parked]
            .map(engine::EventOutcome::Taken)
            .into_iter()
            .chain([engine::EventOutcome::Duplicate])
            .map(engine::EventOutcome::as_str),
    );
    TaintAction, "TaintAction": word(
        "What was done to a record's flag.",
        [Action::Taint, Action::Suspect, Action::Clear, Action::Escalate].map(Action::as_str),
    );
    HealthStatus, "HealthStatus": word("How the service is.", ["healthy", "unhealthy"]);
    FieldError, "FieldError": ObjectBuilder::new()
        .description(Some("What is wrong with one field."))
        .property("pointer", text("The field, as a JSON pointer into the body; for a query or a header, its name."))
        .required("pointer")
        .property("message", text("What it was and what is allowed."))
        .required("message")
        .build();
    TasksByStatus, "TasksByStatus": numbers("Tasks by status.", Status::ALL.map(Status::as_str));
    TasksByPhase, "TasksByPhase": numbers("Tasks by phase.", Phase::ALL.map(Phase::as_str));
}

/// How many tasks have each status.
pub(in crate::http) struct TasksByStatus;
/// How many tasks are in each phase.
pub(in crate::http) struct TasksByPhase;

/// A number for each of some words.
fn numbers<'a>(description: &str, words: impl IntoIterator<Item = &'a str>) -> Object {
    let number = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0));
    let all = words.into_iter().fold(ObjectBuilder::new(), |all, word| all.property(word, number()).required(word));
    all.description(Some(description)).build()
}
