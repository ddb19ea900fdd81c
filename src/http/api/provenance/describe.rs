//! Descriptions of the endpoints of provenance and artifacts for the `OpenAPI` document.

use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::http::api::fields::MAX_REASON_BYTES;
use crate::http::api::provenance::export::DEFAULT_DEPTH;
use crate::http::api::provenance::flags;
use crate::http::api::provenance::transfer::ImportLine;
use crate::http::api::provenance::{artifacts, cascades, path, record, records, taint_events, walks};
use crate::http::openapi::limits;
use crate::http::openapi::operation::{Described, JSON, number, operation};
use crate::schema::word;
use crate::task::{ArtifactId, Domain, ProjectId, RecordId, RecordStatus, Tier, Timestamp};

const PROVENANCE: &str = "Provenance";
const ARTIFACTS: &str = "Artifacts";
const NDJSON: &str = "application/x-ndjson";

fn boolean() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

fn any_object() -> Object {
    Object::new()
}

/// Starts the description of an endpoint whose path names a record.
fn record_operation(id: &str, summary: &str) -> Described {
    operation(id, PROVENANCE, summary)
        .id::<ArtifactId>("The id of a record, or of an artifact, which stands for the record that made it.")
        .problem(404, &["provenance_not_found"])
}

fn depth(described: Described) -> Described {
    described.query_of(
        "depth",
        "The largest number of steps. The default is no limit.",
        number(&(1..=u64::from(u32::MAX))),
    )
}

fn depth_or_direct(described: Described) -> Described {
    depth(described).query_of("direct", "`true` limits the answer to one step.", boolean())
}

pub(in crate::http) fn list() -> Described {
    operation("listRecords", PROVENANCE, "List provenance records, newest first")
        .query::<ProjectId>("project_id", "Only records of this project.")
        .query::<ArtifactId>("task_id", "Only records of this task.")
        .query::<RecordStatus>("status", "Only records with this verdict.")
        .query_of("tainted", "Only records that are tainted (`true`) or not tainted (`false`).", boolean())
        .query_of("suspect", "Only records that are suspect (`true`) or not suspect (`false`).", boolean())
        .query_of("model", "Only records made with this model.", text())
        .query::<Tier>("tier", "Only records made in this tier.")
        .query::<Domain>("domain", "Only records of this domain.")
        .query::<Timestamp>("created_after", "Only records made after this time.")
        .query::<Timestamp>("created_before", "Only records made before this time.")
        .pages()
        .answer::<records::ListWire>(200, "A page of records.")
        .reads()
}

pub(in crate::http) fn get() -> Described {
    record_operation("getRecord", "Read a provenance record")
        .answer::<record::RecordWire<'static>>(200, "The record.")
        .versioned()
        .reads()
}

pub(in crate::http) fn path() -> Described {
    let described = operation("getPath", PROVENANCE, "Read the shortest path between two records")
        .query_needed::<ArtifactId>("from", "The record or artifact that is used.")
        .query_needed::<ArtifactId>("to", "The record or artifact that depends on it.");
    depth(described)
        .pages()
        .answer::<path::PathWire>(200, "The shortest path.")
        .problem(404, &["provenance_not_found", "no_path"])
        .problem(410, &["cursor_expired"])
}

fn related(id: &str, summary: &str) -> Described {
    depth_or_direct(record_operation(id, summary))
        .pages()
        .answer::<walks::WalkWire<'static>>(200, "A page of records, nearest first.")
        .problem(410, &["cursor_expired"])
}

pub(in crate::http) fn dependents() -> Described {
    related("getDependents", "Read the records that depend on a record")
}

pub(in crate::http) fn dependencies() -> Described {
    related("getDependencies", "Read the records that a record depends on")
}

pub(in crate::http) fn impact() -> Described {
    depth_or_direct(record_operation("getImpact", "Read the tasks and projects that depend on a record"))
        .pages()
        .answer::<walks::ImpactWire<'static>>(200, "The counts, and a page of each list.")
        .problem(410, &["cursor_expired"])
        .reads()
}

pub(in crate::http) fn root_cause() -> Described {
    depth(record_operation("getRootCause", "Read the tainted records that a record depends on"))
        .shared("limit")
        .answer::<walks::CausesWire>(200, "The tainted records, nearest first.")
        .reads()
}

pub(in crate::http) fn export() -> Described {
    record_operation("exportRecord", "Export a record and its surroundings to another format")
        .query_needed_of(
            "format",
            "`json`: the record alone, in the file format of the old program. `prov`: W3C PROV-JSON. `dot`: a graph \
             for Graphviz.",
            word("The format of an exported document.", ["json", "prov", "dot"]),
        )
        .query_of(
            "depth",
            &format!("The largest number of steps in each direction. The default is {DEFAULT_DEPTH}."),
            number(&(0..=u64::from(u32::MAX))),
        )
        .query_of(
            "direction",
            "Which related records the document includes. The default is both.",
            word("A direction in the provenance graph.", ["dependents", "dependencies", "both"]),
        )
        .answer_of(200, "The document in the requested format.", JSON, Some(any_object().into()))
        .answer_of(200, "", "text/vnd.graphviz", None)
        .reads()
}

pub(in crate::http) fn import() -> Described {
    let line = ContentBuilder::new().schema(Some(ObjectBuilder::new())).build();
    operation("importLines", PROVENANCE, "Import provenance of the old program")
        .says(
            "Each line of the request is a record, a taint event or a checkpoint as the old program writes it. The \
             number of lines is not limited. The response is sent while the lines arrive: one result for each line, \
             then a summary. A line is on disk before its result is sent.",
        )
        .content(true, [(NDJSON, line)])
        .answer_as::<ImportLine>(200, "The schema describes one line.", NDJSON)
        .writes()
}

pub(in crate::http) fn export_lines() -> Described {
    operation("exportLines", PROVENANCE, "Export provenance for the old program")
        .says("Each line is a record, a taint event or a checkpoint. A response that is cut off is incomplete.")
        .query::<ProjectId>("project_id", "Only provenance of this project.")
        .answer_of(200, "The schema describes one line.", NDJSON, Some(ObjectBuilder::new().into()))
}

/// Describes an endpoint that changes the flag of a record.
fn flag_operation(id: &str, summary: &str) -> Described {
    let limits = [
        limits::text("FlagRequest", "reason", 1, MAX_REASON_BYTES),
        limits::whole("FlagRequest", "max_depth", 0, i64::from(u32::MAX)),
    ];
    let dry = json!({"reason": "made with a broken model", "dry_run": true, "max_depth": 3});
    record_operation(id, summary)
        .shared("limit")
        .body::<flags::FlagRequestWire>(
            true,
            &limits,
            &[("reason", json!({"reason": "made with a broken model"})), ("dry_run", dry)],
        )
        .reads_json()
        .answer::<flags::CascadeWire<'static>>(200, "What the request changed, or would change.")
        .walks()
        .writes()
}

pub(in crate::http) fn taint() -> Described {
    flag_operation("taintRecord", "Mark a record as tainted").says("The records that depend on it become suspect.")
}

pub(in crate::http) fn suspect() -> Described {
    flag_operation("markSuspect", "Mark a record as suspect")
}

pub(in crate::http) fn clear() -> Described {
    flag_operation("clearRecord", "Clear the taint or suspicion of a record")
}

pub(in crate::http) fn affected() -> Described {
    operation("getAffected", PROVENANCE, "Read further pages of the response to a taint, suspect or clear request")
        .id::<ArtifactId>("The record or artifact that the request named.")
        .goes_on()
        .answer::<flags::AffectedWire>(200, "A page of records whose flag changed.")
        .problem(410, &["cursor_expired"])
}

pub(in crate::http) fn taints() -> Described {
    operation("listTaintEvents", PROVENANCE, "Read the audit trail of taint, suspect and clear requests")
        .query::<ArtifactId>("artifact_id", "Only entries about this artifact.")
        .query::<ArtifactId>("provenance_id", "Only entries about this record.")
        .query_of("cascade_id", "Only entries of this cascade.", text())
        .pages()
        .answer::<taint_events::ListWire>(200, "A page of the audit trail.")
        .reads()
}

/// Starts the description of an endpoint whose path names a cascade.
fn cascade_operation(id: &str, summary: &str) -> Described {
    operation(id, PROVENANCE, summary).id::<ArtifactId>("The id of a cascade or of a rollback.")
}

pub(in crate::http) fn cascade() -> Described {
    cascade_operation("getCascade", "Read the effects of a taint, suspect or clear request or of a rollback")
        .pages()
        .answer::<cascades::CascadeWire>(200, "The cascade.")
        .problem(404, &["cascade_not_found"])
        .reads()
}

pub(in crate::http) fn clear_cascade() -> Described {
    let limits = [limits::text("UndoRequest", "reason", 1, MAX_REASON_BYTES)];
    cascade_operation("clearCascade", "Undo a cascade or a rollback")
        .says(
            "One commit removes exactly the facts of the cascade. Verdicts, clears and checkpoints that it changed \
             return to their earlier state unless they were changed again since. Tasks keep their state. A second \
             request changes nothing.",
        )
        .shared("limit")
        .body::<cascades::UndoRequestWire>(
            false,
            &limits,
            &[("empty", json!({})), ("dry_run", json!({"reason": "a false alarm", "dry_run": true}))],
        )
        .reads_json()
        .answer::<cascades::UndoneWire<'static>>(200, "What the request changed, or would change.")
        .problem(404, &["cascade_not_found"])
        .writes()
}

pub(in crate::http) fn taken_back() -> Described {
    cascade_operation("getTakenBack", "Read further pages of the response to an undo request")
        .goes_on()
        .answer::<flags::AffectedWire>(200, "A page of records whose flag changed.")
        .problem(410, &["cursor_expired"])
}

/// Starts the description of an endpoint whose path names an artifact.
fn artifact_operation(id: &str, summary: &str) -> Described {
    operation(id, ARTIFACTS, summary).id::<ArtifactId>("The id of the artifact.").problem(404, &["artifact_not_found"])
}

pub(in crate::http) fn artifact() -> Described {
    artifact_operation("getArtifact", "Read an artifact and the records that made it")
        .pages()
        .answer::<artifacts::ArtifactWire<'static>>(200, "The artifact.")
        .versioned()
        .reads()
}

pub(in crate::http) fn content() -> Described {
    artifact_operation("getArtifactContent", "Read the content of an artifact, if it is stored here")
        .says(
            "The media type follows from the language and the path that the worker gave. A request may name one range.",
        )
        .query::<RecordId>(
            "provenance_id",
            "The record whose version of the artifact to read. The default is the newest.",
        )
        .shared("Range")
        .shared("If-Range")
        .answer_of(200, "The content.", "*/*", None)
        .versioned()
        .answer_of(206, "A part of the content.", "*/*", None)
        .header(206, "ETag")
        .header(206, "Content-Range")
        .problem(404, &["content_not_found"])
        .problem(416, &["range_not_satisfiable"])
        .problem(503, &["content_damaged"])
        .reads()
}
