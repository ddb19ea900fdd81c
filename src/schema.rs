//! JSON schemas of the ids and enumerations of tasks, for the `OpenAPI` and
//! `AsyncAPI` documents. The limits come from the types of `task`, which do not
//! depend on documents.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

use crate::task::{
    ArtifactId, CheckpointId, Domain, ErrorCode, ExecutionMode, LeaseId, MAX_ID_BYTES, OnChildFailure, Phase, Priority,
    ProjectId, QaProfile, RecordId, ReviewId, Seq, Status, TaskId, Tier, Timestamp, WorkerId,
};

/// Returns the schema of a string.
pub(crate) fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(description))
}

/// Returns the schema of an RFC 3339 time.
pub(crate) fn time(description: &str) -> Object {
    text(description).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
}

/// Returns the schema of an enumeration of words.
pub(crate) fn word<'a>(description: &str, words: impl IntoIterator<Item = &'a str>) -> Object {
    text(description).enum_values(Some(words.into_iter().map(serde_json::Value::from))).build()
}

fn uuid(description: &str) -> Object {
    text(description).format(Some(SchemaFormat::Custom("uuid".to_owned()))).build()
}

/// Returns the schema of an id that a client or another service chooses.
fn id(description: &str) -> Object {
    let description = format!("{description} At most {MAX_ID_BYTES} bytes, without control characters.");
    text(&description).min_length(Some(1)).max_length(Some(MAX_ID_BYTES)).build()
}

/// Returns the schema of a name that is also used in paths and routing keys.
fn name(description: &str) -> Object {
    text(description).min_length(Some(1)).max_length(Some(MAX_ID_BYTES)).pattern(Some("^[a-z][a-z0-9_-]*$")).build()
}

/// Implements `ToSchema` for types, with a name and a schema.
macro_rules! described {
    ($($type:ty, $name:literal: $schema:expr;)*) => {
        $(
            impl utoipa::PartialSchema for $type {
                fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                    utoipa::openapi::RefOr::T(utoipa::openapi::schema::Schema::Object($schema))
                }
            }

            impl utoipa::ToSchema for $type {
                fn name() -> std::borrow::Cow<'static, str> {
                    std::borrow::Cow::Borrowed($name)
                }
            }
        )*
    };
}
pub(crate) use described;

described! {
    Timestamp, "GivenTime": time("A time with its offset from UTC. Digits beyond microseconds are dropped.");
    TaskId, "TaskId": uuid("The id of a task.");
    RecordId, "RecordId": uuid("The id of a provenance record.");
    LeaseId, "LeaseId": uuid("The id of a lease.");
    ProjectId, "ProjectId": id("The id of a project.");
    ArtifactId, "ArtifactId": id("The id of an artifact.");
    CheckpointId, "CheckpointId": id("The id of a checkpoint.");
    ReviewId, "ReviewId": id("The id of a review.");
    WorkerId, "WorkerId": id("The id of a worker.");
    Tier, "Tier": name("A tier of workers.");
    Domain, "Domain": name("A kind of work.");
    QaProfile, "QaProfile": name("A profile of checks for outputs.");
    Seq, "Position": ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .description(Some("A position in the log."))
        .build();
    Status, "Status": word("The status of a task.", Status::ALL.map(Status::as_str));
    Phase, "Phase": word("The phase of a task within its status.", Phase::ALL.map(Phase::as_str));
    ErrorCode, "ErrorCode": word("Why a task failed, for programs.", ErrorCode::ALL.map(ErrorCode::as_str));
    Priority, "Priority": word("The priority of a task.", Priority::ALL.map(Priority::as_str));
    ExecutionMode, "ExecutionMode": word(
        "Whether people take part in the work.",
        [ExecutionMode::Autonomous, ExecutionMode::Collaborative].map(ExecutionMode::as_str),
    );
    OnChildFailure, "OnChildFailure": word(
        "The effect of a failed subtask on the others.",
        [OnChildFailure::Cancel, OnChildFailure::Continue].map(OnChildFailure::as_str),
    );
}

/// Makes the nullable fields of an object required, except for those in `except`. The service always
/// writes a nullable field; an optional field is absent instead of null.
pub(crate) fn require_nulls(schema: &mut RefOr<Schema>, except: &[&str]) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            let nullable = object.properties.iter().filter(|(_, schema)| may_be_null(schema)).map(|(name, _)| name);
            let missing =
                nullable.filter(|field| !object.required.contains(field) && !except.contains(&field.as_str()));
            let missing: Vec<String> = missing.cloned().collect();
            object.required.extend(missing);
        }
        Schema::AllOf(all) => all.items.iter_mut().for_each(|part| require_nulls(part, except)),
        Schema::OneOf(one) => one.items.iter_mut().for_each(|part| require_nulls(part, except)),
        _ => {}
    }
}

fn may_be_null(schema: &RefOr<Schema>) -> bool {
    let has_null = |kind: &SchemaType| match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        SchemaType::AnyValue => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => has_null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => has_null(&array.schema_type),
        RefOr::T(Schema::OneOf(one)) => one.items.iter().any(may_be_null),
        _ => false,
    }
}
