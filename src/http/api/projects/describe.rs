//! Descriptions of the endpoints of projects for the `OpenAPI` document.

use serde_json::json;

use crate::http::api::projects::project::{
    BodyWire, ConsistencyWire, ListWire, MAX_CONCURRENT, MAX_CONSTITUTION_BYTES, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES,
    ProjectWire, StatusWire,
};
use crate::http::openapi::limits::{self, Limit};
use crate::http::openapi::operation::{Described, operation};
use crate::http::openapi::words::NoFields;
use crate::task::ProjectId;

const TAG: &str = "Projects";

fn field_limits() -> [Limit; 4] {
    [
        limits::text("ProjectFields", "name", 1, MAX_NAME_BYTES),
        limits::text("ProjectFields", "description", 0, MAX_DESCRIPTION_BYTES),
        limits::bytes("ProjectFields", "constitution", MAX_CONSTITUTION_BYTES),
        limits::whole("ProjectFields", "max_concurrent", 1, MAX_CONCURRENT),
    ]
}

/// Starts the description of an endpoint whose path names a project.
fn project_operation(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<ProjectId>("The id of the project.").problem(404, &["project_not_found"])
}

pub(in crate::http) fn list() -> Described {
    operation("listProjects", TAG, "List projects")
        .pages()
        .shared("offset")
        .answer::<ListWire>(200, "A page of projects.")
        .reads()
}

pub(in crate::http) fn create() -> Described {
    let project = json!({"project_id": "website", "name": "The website", "qa_profile": "strict", "max_concurrent": 4});
    operation("createProject", TAG, "Create a project")
        .says("The first task that names a project creates it too.")
        .body::<BodyWire>(true, &field_limits(), &[("project", project)])
        .reads_json()
        .answer::<ProjectWire<'static>>(201, "The project.")
        .header(201, "Location")
        .header(201, "ETag")
        .problem(409, &["project_exists"])
        .problem(429, &["too_many_projects"])
        .writes()
}

pub(in crate::http) fn get() -> Described {
    project_operation("getProject", "Read a project")
        .answer::<ProjectWire<'static>>(200, "The project.")
        .versioned()
        .reads()
}

pub(in crate::http) fn update() -> Described {
    let change = json!({"name": "Another name", "description": null, "max_concurrent": 8});
    project_operation("updateProject", "Change a project")
        .says("A field that is absent keeps its value. A field that is null loses its value.")
        .shared("If-Match")
        .body::<BodyWire>(true, &field_limits(), &[("change", change)])
        .reads_json()
        .answer::<ProjectWire<'static>>(200, "The project.")
        .header(200, "ETag")
        .problem(412, &["version_mismatch"])
        .writes()
}

pub(in crate::http) fn delete() -> Described {
    project_operation("deleteProject", "Archive a project")
        .says("The provenance of the project is kept.")
        .shared("If-Match")
        .empty(204, "The project is archived.")
        .problem(409, &["project_has_open_tasks"])
        .problem(412, &["version_mismatch"])
        .writes()
}

fn switch(id: &str, summary: &str) -> Described {
    project_operation(id, summary)
        .body::<NoFields>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<ProjectWire<'static>>(200, "The project.")
        .header(200, "ETag")
        .writes()
}

pub(in crate::http) fn pause() -> Described {
    switch("pauseProject", "Stop giving tasks of a project to workers")
        .says("Tasks that workers hold already are not affected.")
}

pub(in crate::http) fn resume() -> Described {
    switch("resumeProject", "Give tasks of a paused project to workers again")
}

pub(in crate::http) fn status() -> Described {
    project_operation("getProjectStatus", "Read the task and record counts of a project")
        .answer::<StatusWire<'static>>(200, "The counts.")
        .reads()
}

pub(in crate::http) fn consistency() -> Described {
    project_operation("getProjectConsistency", "Read how many records of a project are tainted or suspect")
        .answer::<ConsistencyWire<'static>>(200, "The record counts and the advice that follows from them.")
        .reads()
}
