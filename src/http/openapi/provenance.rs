//! Provenance: records, what depends on what, and what is said of them.

use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::answers::ImportLine;
use super::limits;
use super::operation::{Described, JSON, number, operation};
use crate::http::api::provenance::export::DEFAULT_DEPTH;
use crate::http::api::provenance::flags::{self, MAX_REASON_BYTES};
use crate::http::api::provenance::{artifacts, cascades, path, record, records, taint_events, walks};
use crate::schema::word;
use crate::task::{ArtifactId, Domain, ProjectId, RecordId, RecordStatus, Tier, Timestamp};

const PROVENANCE: &str = "Provenance";
const ARTIFACTS: &str = "Artifacts";
const LINES: &str = "application/x-ndjson";

fn flag() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean))
}

fn of_record(id: &str, summary: &str) -> Described {
    operation(id, PROVENANCE, summary)
        .id::<ArtifactId>("A record, or an artifact, which stands for the record that made it.")
        .problem(404, &["provenance_not_found"])
}

fn depth(described: Described) -> Described {
    described.query_of("depth", "Steps to go. Without it: all.", number(&(1..=u64::from(u32::MAX))))
}

fn how_far(described: Described) -> Described {
    depth(described).query_of("direct", "True: one step.", flag())
}

pub(super) fn list() -> Described {
    operation("listRecords", PROVENANCE, "List provenance records, the newest first")
        .query::<ProjectId>("project_id", "Of this project only.")
        .query::<ArtifactId>("task_id", "Of this task only.")
        .query::<RecordStatus>("status", "With this verdict only.")
        .query_of("tainted", "Tainted ones only, or all others.", flag())
        .query_of("suspect", "Suspect ones only, or all others.", flag())
        .query_of("model", "Made by this model only.", ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)))
        .query::<Tier>("tier", "Made in this tier only.")
        .query::<Domain>("domain", "Of this domain only.")
        .query::<Timestamp>("created_after", "Made after this time.")
        .query::<Timestamp>("created_before", "Made before this time.")
        .pages()
        .answer::<records::ListWire>(200, "A page of records.")
        .reads()
}

pub(super) fn get() -> Described {
    of_record("getRecord", "Read a provenance record")
        .answer::<record::RecordWire<'static>>(200, "The record.")
        .versioned()
        .reads()
}

pub(super) fn path() -> Described {
    let described = operation("getPath", PROVENANCE, "Read how one record depends on another")
        .query_needed::<ArtifactId>("from", "The record or artifact that is used.")
        .query_needed::<ArtifactId>("to", "The record or artifact that depends on it.");
    depth(described)
        .pages()
        .answer::<path::PathWire>(200, "The shortest path.")
        .problem(404, &["provenance_not_found", "no_path"])
        .problem(410, &["cursor_expired"])
}

fn around(id: &str, summary: &str) -> Described {
    how_far(of_record(id, summary))
        .pages()
        .answer::<walks::WalkWire<'static>>(200, "A page of records, the nearest first.")
        .problem(410, &["cursor_expired"])
}

pub(super) fn dependents() -> Described {
    around("getDependents", "Read what depends on a record")
}

pub(super) fn dependencies() -> Described {
    around("getDependencies", "Read what a record depends on")
}

pub(super) fn impact() -> Described {
    how_far(of_record("getImpact", "Read how far a record reaches"))
        .pages()
        .answer::<walks::ImpactWire<'static>>(200, "What it reaches, in numbers and ids.")
        .problem(410, &["cursor_expired"])
        .reads()
}

pub(super) fn root_cause() -> Described {
    depth(of_record("getRootCause", "Read where a taint comes from"))
        .shared("limit")
        .answer::<walks::CausesWire>(200, "The tainted records above it, the nearest first.")
        .reads()
}

pub(super) fn export() -> Described {
    let object = || Some(ObjectBuilder::new().into());
    of_record("exportRecord", "Read a record with what is around it, in the formats of others")
        .query_needed_of(
            "format",
            "`json`: the record alone, as the old program keeps it in a file. `prov`: W3C PROV-JSON. `dot`: a picture \
             for Graphviz.",
            word("A format.", ["json", "prov", "dot"]),
        )
        .query_of(
            "depth",
            &format!("Steps to go in each direction. Without it: {DEFAULT_DEPTH}."),
            number(&(0..=u64::from(u32::MAX))),
        )
        .query_of(
            "direction",
            "What is shown beside the record. Without it: both.",
            word("A direction.", ["dependents", "dependencies", "both"]),
        )
        .answer_of(200, "The document, by `format`.", JSON, object())
        .answer_of(200, "", "text/vnd.graphviz", None)
        .reads()
}

pub(super) fn import() -> Described {
    let line = ContentBuilder::new().schema(Some(ObjectBuilder::new())).build();
    operation("importLines", PROVENANCE, "Import provenance of the old program")
        .says(
            "One record, taint event or checkpoint a line, as the old program writes them, as many as there are. The \
             answer comes meanwhile: a line for each, and a summary at its end. What was told of is on disk.",
        )
        .content(true, [(LINES, line)])
        .answer_as::<ImportLine>(200, "The schema is that of a line.", LINES)
        .writes()
}

pub(super) fn export_lines() -> Described {
    operation("exportLines", PROVENANCE, "Export provenance for the old program")
        .says("One record, taint event or checkpoint a line. An answer that breaks off is not whole.")
        .query::<ProjectId>("project_id", "Of this project only.")
        .answer_of(200, "The schema is that of a line.", LINES, Some(ObjectBuilder::new().into()))
}

fn said(id: &str, summary: &str) -> Described {
    let limits = [
        limits::text("FlagRequest", "reason", 1, MAX_REASON_BYTES),
        limits::whole("FlagRequest", "max_depth", 0, i64::from(u32::MAX)),
    ];
    let dry = json!({"reason": "made with a broken model", "dry_run": true, "max_depth": 3});
    of_record(id, summary)
        .shared("limit")
        .body::<flags::AskedWire>(
            true,
            &limits,
            &[("reason", json!({"reason": "made with a broken model"})), ("dry_run", dry)],
        )
        .reads_json()
        .answer::<flags::CascadeWire<'static>>(200, "What followed, or would follow.")
        .walks()
        .writes()
}

pub(super) fn taint() -> Described {
    said("taintRecord", "Say that a record is bad").says("What was made out of it becomes suspect.")
}

pub(super) fn suspect() -> Described {
    said("markSuspect", "Say that a record may be bad")
}

pub(super) fn clear() -> Described {
    said("clearRecord", "Say that a record is good after all")
}

pub(super) fn affected() -> Described {
    operation("getAffected", PROVENANCE, "Read the pages behind the answer of a taint, a mark or a clear")
        .id::<ArtifactId>("The record or artifact that it was said of.")
        .goes_on()
        .answer::<flags::AffectedWire>(200, "A page of records whose flag changed.")
        .problem(410, &["cursor_expired"])
}

pub(super) fn taints() -> Described {
    operation("listTaintEvents", PROVENANCE, "Read the audit trail of taints, marks and clears")
        .query::<ArtifactId>("artifact_id", "About this artifact only.")
        .query::<ArtifactId>("provenance_id", "About this record only.")
        .query_of("cascade_id", "With this id only.", ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)))
        .pages()
        .answer::<taint_events::ListWire>(200, "A page of the trail.")
        .reads()
}

fn of_cascade(id: &str, summary: &str) -> Described {
    operation(id, PROVENANCE, summary).id::<ArtifactId>("The id of a cascade or rollback.")
}

pub(super) fn cascade() -> Described {
    of_cascade("getCascade", "Read what one taint, mark or rollback did")
        .pages()
        .answer::<cascades::CascadeWire>(200, "The cascade.")
        .problem(404, &["cascade_not_found"])
        .reads()
}

pub(super) fn clear_cascade() -> Described {
    let limits = [limits::text("UndoRequest", "reason", 1, MAX_REASON_BYTES)];
    of_cascade("clearCascade", "Take a cascade or rollback back as a whole")
        .says(
            "Exactly its facts go, in one durable step. Verdicts, clears and checkpoints that it changed are as \
             before, where nothing has changed them since; tasks stay as they are. Again it changes nothing.",
        )
        .shared("limit")
        .body::<cascades::AskedWire>(
            false,
            &limits,
            &[("empty", json!({})), ("dry_run", json!({"reason": "a false alarm", "dry_run": true}))],
        )
        .reads_json()
        .answer::<cascades::UndoneWire<'static>>(200, "What changed, or would change.")
        .problem(404, &["cascade_not_found"])
        .writes()
}

pub(super) fn taken_back() -> Described {
    of_cascade("getTakenBack", "Read the pages behind the answer of taking a cascade back")
        .goes_on()
        .answer::<flags::AffectedWire>(200, "A page of records whose flag changed.")
        .problem(410, &["cursor_expired"])
}

fn of_artifact(id: &str, summary: &str) -> Described {
    operation(id, ARTIFACTS, summary).id::<ArtifactId>("The artifact.").problem(404, &["artifact_not_found"])
}

pub(super) fn artifact() -> Described {
    of_artifact("getArtifact", "Read what is known of an artifact, and who has made it")
        .pages()
        .answer::<artifacts::ArtifactWire<'static>>(200, "The artifact.")
        .versioned()
        .reads()
}

pub(super) fn content() -> Described {
    of_artifact("getArtifactContent", "Read the content of an artifact, where it is kept here")
        .says("Its media type follows from the language and the path that the worker gave. One range can be asked for.")
        .query::<RecordId>("provenance_id", "As this record made it. Without it: as the newest one did.")
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
