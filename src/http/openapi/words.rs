//! The schemas of words in the HTTP interface. Those of tasks are in [`crate::schema`].

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::engine::{Advice, EventOutcome};
use crate::json::FieldError;
use crate::legacy::Action;
use crate::lineage::{Flag, Relationship};
use crate::schema::{described, text, word};
use crate::task::{Outcome, Phase, RecordStatus, Stale, Status};

/// The verdicts of records.
pub(in crate::http) const RECORD_STATUSES: [RecordStatus; 4] =
    [RecordStatus::Pending, RecordStatus::Passed, RecordStatus::Failed, RecordStatus::HumanApproved];

/// Returns the schema of one of these values.
fn values(description: &str, values: Value) -> Object {
    let values = if let Value::Array(values) = values { values } else { vec![values] };
    text(description).enum_values(Some(values)).build()
}

/// A body without fields.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NoFields {}
/// The schema of the state of the service.
pub(in crate::http) struct HealthStatus;

described! {
    RecordStatus, "RecordStatus": word("The verdict on a record.", RECORD_STATUSES.map(RecordStatus::as_str));
    Flag, "Flag": values("The flag of a record.", json!([Flag::Clean, Flag::Suspect, Flag::Tainted]));
    Relationship, "Relationship": values("How an artifact was used.", json!([Relationship::Consumed, Relationship::Referenced]));
    Advice, "Advice": word(
        "The advice on tainted and suspect records: continue, pause to look at them, or roll back to a checkpoint.",
        [Advice::Continue, Advice::Pause, Advice::Rollback].map(Advice::as_str),
    );
    EventOutcome, "EventOutcome": word(
        "The outcome of an event.",
        [Outcome::Applied, Outcome::Unchanged, Outcome::Stale(Stale::Ended), Outcome::Parked]
            .map(EventOutcome::Taken)
            .into_iter()
            .chain([EventOutcome::Duplicate])
            .map(EventOutcome::as_str),
    );
    Action, "TaintAction": word(
        "An action on the flag of a record.",
        [Action::Taint, Action::Suspect, Action::Clear, Action::Escalate].map(Action::as_str),
    );
    HealthStatus, "HealthStatus": word("The state of the service.", ["healthy", "unhealthy"]);
    FieldError, "FieldError": ObjectBuilder::new()
        .description(Some("An invalid field."))
        .property("pointer", text("The field as a JSON pointer into the body, or the name of a query parameter or header."))
        .required("pointer")
        .property("message", text("The value and what is allowed."))
        .required("message")
        .build();
    TasksByStatus, "TasksByStatus": counts("The number of tasks with each status.", Status::ALL.map(Status::as_str));
    TasksByPhase, "TasksByPhase": counts("The number of tasks in each phase.", Phase::ALL.map(Phase::as_str));
}

/// The schema of task counts by status.
pub(in crate::http) struct TasksByStatus;
/// The schema of task counts by phase.
pub(in crate::http) struct TasksByPhase;

/// Returns the schema of an object with a count for each word.
fn counts<'a>(description: &str, words: impl IntoIterator<Item = &'a str>) -> Object {
    let number = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0));
    let all = words.into_iter().fold(ObjectBuilder::new(), |all, word| all.property(word, number()).required(word));
    all.description(Some(description)).build()
}
