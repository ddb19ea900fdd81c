//! How ids, times and words look in the document. What may be in them comes
//! from the types that check them, which know nothing of documents.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::engine::{self, Advice};
use crate::http::reply::Time;
use crate::json::FieldError;
use crate::legacy::Action;
use crate::lineage::{Flag, Relationship};
use crate::task::{
    ArtifactId, CheckpointId, Domain, ExecutionMode, LeaseId, MAX_ID_BYTES, OnChildFailure, Outcome, Phase, Priority,
    ProjectId, QaProfile, RecordId, RecordStatus, Seq, Stale, Status, TaskId, Tier, Timestamp, WorkerId,
};

/// A text without more to say of it.
fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(description))
}

fn uuid(description: &str) -> Object {
    text(description).format(Some(SchemaFormat::Custom("uuid".to_owned()))).build()
}

fn time(description: &str) -> Object {
    text(description).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
}

/// An id that others bring.
fn id(description: &str) -> Object {
    let description = format!("{description} At most {MAX_ID_BYTES} bytes, without control characters.");
    text(&description).min_length(Some(1)).max_length(Some(MAX_ID_BYTES)).build()
}

/// A name that also stands in paths and routing keys.
fn name(description: &str) -> Object {
    text(description).min_length(Some(1)).max_length(Some(MAX_ID_BYTES)).pattern(Some("^[a-z][a-z0-9_-]*$")).build()
}

/// One of these values.
fn values(description: &str, values: Value) -> Object {
    let values = if let Value::Array(values) = values { values } else { vec![values] };
    text(description).enum_values(Some(values)).build()
}

/// One of these words.
pub(super) fn word<'a>(description: &str, words: impl IntoIterator<Item = &'a str>) -> Object {
    text(description).enum_values(Some(words.into_iter().map(Value::from))).build()
}

macro_rules! described {
    ($($type:ty, $name:literal: $schema:expr;)*) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    RefOr::T(Schema::Object($schema))
                }
            }

            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($name)
                }
            }
        )*
    };
}

/// What an event did.
pub(in crate::http) struct EventOutcome;
/// What was done to a record's flag.
pub(in crate::http) struct TaintAction;
/// How the service is.
pub(in crate::http) struct HealthStatus;

described! {
    Time, "Time": time("A time in UTC, to the microsecond.");
    Timestamp, "GivenTime": time("A time with its offset from UTC; what is finer than a microsecond is cut.");
    TaskId, "TaskId": uuid("The id of a task.");
    RecordId, "RecordId": uuid("The id of a provenance record.");
    LeaseId, "LeaseId": uuid("The id of a lease.");
    ProjectId, "ProjectId": id("The id of a project.");
    ArtifactId, "ArtifactId": id("An id that others bring, such as that of an artifact.");
    CheckpointId, "CheckpointId": id("The id of a checkpoint.");
    WorkerId, "WorkerId": id("What a worker calls itself.");
    Tier, "Tier": name("A tier of workers.");
    Domain, "Domain": name("A kind of work.");
    QaProfile, "QaProfile": name("A set of checks.");
    Seq, "Position": ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .description(Some("A position in the log."))
        .build();
    Status, "Status": word("What the outside sees first of a task.", Status::ALL.map(Status::as_str));
    Phase, "Phase": word("Where inside its status a task is.", Phase::ALL.map(Phase::as_str));
    Priority, "Priority": word("How urgent a task is.", Priority::ALL.map(Priority::as_str));
    ExecutionMode, "ExecutionMode": word(
        "Whether people take part.",
        [ExecutionMode::Autonomous, ExecutionMode::Collaborative].map(ExecutionMode::as_str),
    );
    OnChildFailure, "OnChildFailure": word(
        "What a failing subtask does to the others.",
        [OnChildFailure::Cancel, OnChildFailure::Continue].map(OnChildFailure::as_str),
    );
    RecordStatus, "RecordStatus": word("The verdict of a record.", super::super::records::STATUSES.map(RecordStatus::as_str));
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
