//! Projects, their checkpoints, and going back to one.

use serde_json::json;

use super::limits::{self, Limit};
use super::operation::{Described, operation};
use crate::http::api::checkpoints::resource::{self, MAX_REFERENCE_BYTES};
use crate::http::api::checkpoints::rollbacks;
use crate::http::api::projects::resource::{
    BodyWire, ConsistencyWire, ListWire, MAX_CONCURRENT, MAX_CONSTITUTION_BYTES, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES,
    ProjectWire, StatusWire,
};
use crate::http::api::provenance::flags::{self, MAX_REASON_BYTES};
use crate::http::api::work::leases::ReleaseWire;
use crate::task::{CheckpointId, ProjectId};

const PROJECTS: &str = "Projects";
const CHECKPOINTS: &str = "Checkpoints";

fn limits() -> [Limit; 4] {
    [
        limits::text("ProjectFields", "name", 1, MAX_NAME_BYTES),
        limits::text("ProjectFields", "description", 0, MAX_DESCRIPTION_BYTES),
        limits::bytes("ProjectFields", "constitution", MAX_CONSTITUTION_BYTES),
        limits::whole("ProjectFields", "max_concurrent", 1, MAX_CONCURRENT),
    ]
}

fn of_project(id: &str, tag: &str, summary: &str) -> Described {
    operation(id, tag, summary).id::<ProjectId>("The project.").problem(404, &["project_not_found"])
}

pub(super) fn list() -> Described {
    operation("listProjects", PROJECTS, "List projects")
        .pages()
        .shared("offset")
        .answer::<ListWire>(200, "A page of projects.")
        .reads()
}

pub(super) fn create() -> Described {
    let project = json!({"project_id": "website", "name": "The website", "qa_profile": "strict", "max_concurrent": 4});
    operation("createProject", PROJECTS, "Make a project")
        .says("A project is also made by the first task that names it.")
        .body::<BodyWire>(true, &limits(), &[("project", project)])
        .reads_json()
        .answer::<ProjectWire<'static>>(201, "The project.")
        .header(201, "Location")
        .header(201, "ETag")
        .problem(409, &["project_exists"])
        .problem(429, &["too_many_projects"])
        .writes()
}

pub(super) fn get() -> Described {
    of_project("getProject", PROJECTS, "Read a project")
        .answer::<ProjectWire<'static>>(200, "The project.")
        .versioned()
        .reads()
}

pub(super) fn update() -> Described {
    let change = json!({"name": "Another name", "description": null, "max_concurrent": 8});
    of_project("updateProject", PROJECTS, "Change a project")
        .says("A field that is absent stays as it is, one that is null is emptied.")
        .shared("If-Match")
        .body::<BodyWire>(true, &limits(), &[("change", change)])
        .reads_json()
        .answer::<ProjectWire<'static>>(200, "The project.")
        .header(200, "ETag")
        .problem(412, &["version_mismatch"])
        .writes()
}

pub(super) fn delete() -> Described {
    of_project("deleteProject", PROJECTS, "Archive a project")
        .says("Its provenance stays.")
        .shared("If-Match")
        .empty(204, "It is archived.")
        .problem(409, &["project_has_open_tasks"])
        .problem(412, &["version_mismatch"])
        .writes()
}

fn switch(id: &str, summary: &str) -> Described {
    of_project(id, PROJECTS, summary)
        .body::<ReleaseWire>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<ProjectWire<'static>>(200, "The project.")
        .header(200, "ETag")
        .writes()
}

pub(super) fn pause() -> Described {
    switch("pauseProject", "Give no more tasks of a project to workers").says("What runs goes on.")
}

pub(super) fn resume() -> Described {
    switch("resumeProject", "Give tasks of a project to workers again")
}

pub(super) fn status() -> Described {
    of_project("getProjectStatus", PROJECTS, "Read how a project is doing")
        .answer::<StatusWire<'static>>(200, "Its tasks and records in numbers.")
        .reads()
}

pub(super) fn consistency() -> Described {
    of_project("getProjectConsistency", PROJECTS, "Read how much of a project's provenance is bad")
        .answer::<ConsistencyWire<'static>>(200, "Its records in numbers, and what to do.")
        .reads()
}

pub(super) fn list_checkpoints() -> Described {
    of_project("listCheckpoints", CHECKPOINTS, "List the checkpoints of a project")
        .pages()
        .answer::<resource::ListWire>(200, "A page of checkpoints, the newest first.")
        .reads()
}

pub(super) fn create_checkpoint() -> Described {
    let limits = [
        limits::text("NewCheckpoint", "description", 0, resource::MAX_DESCRIPTION_BYTES),
        limits::text("NewCheckpoint", "git_ref", 1, MAX_REFERENCE_BYTES),
        limits::text("NewCheckpoint", "rag_state_ref", 1, MAX_REFERENCE_BYTES),
        limits::text("NewCheckpoint", "work_product_ref", 1, MAX_REFERENCE_BYTES),
    ];
    let checkpoint = json!({"description": "before the change of models", "git_ref": "v1.4.0"});
    of_project("createCheckpoint", CHECKPOINTS, "Make a checkpoint of a project")
        .body::<resource::BodyWire>(false, &limits, &[("checkpoint", checkpoint)])
        .reads_json()
        .answer::<resource::CheckpointWire<'static>>(201, "The checkpoint.")
        .header(201, "Location")
        .writes()
}

fn of_checkpoint(id: &str, summary: &str) -> Described {
    operation(id, CHECKPOINTS, summary).id::<CheckpointId>("The checkpoint.").problem(404, &["checkpoint_not_found"])
}

pub(super) fn get_checkpoint() -> Described {
    of_checkpoint("getCheckpoint", "Read a checkpoint")
        .answer::<resource::CheckpointWire<'static>>(200, "The checkpoint.")
        .reads()
}

pub(super) fn rollback() -> Described {
    let limits = [limits::text("RollbackRequest", "reason", 1, MAX_REASON_BYTES)];
    let dry = json!({"reason": "the new model is wrong", "dry_run": true});
    of_checkpoint("rollBack", "Take a project back to a checkpoint")
        .says("Records that the project made after it become tainted, and what was made of them suspect. Doing it twice changes nothing.")
        .shared("limit")
        .body::<rollbacks::AskedWire>(true, &limits, &[("dry_run", dry)])
        .reads_json()
        .answer::<rollbacks::RollbackWire<'static>>(200, "What it did, or would do.")
        .problem(409, &["checkpoint_invalid", "checkpoint_of_other_project"])
        .writes()
}

pub(super) fn rolled_back() -> Described {
    of_checkpoint("getRolledBack", "Read the pages behind the answer of a rollback")
        .goes_on()
        .answer::<flags::AffectedWire>(200, "A page of records whose flag changed.")
        .problem(410, &["cursor_expired"])
}
