//! Projects: their settings, pauses and status.

use hyper::header::{ETAG, IF_MATCH};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::engine::{Advice, NewProject, ProjectPatch, ProjectStatus, RecordCounts};
use crate::http::api::app::Call;
use crate::http::api::fields::{new_uuid, object_text};
use crate::http::openapi::words::{TasksByPhase, TasksByStatus};
use crate::http::server::body::Body;
use crate::http::server::cursor;
use crate::http::server::endpoint::BASE;
use crate::http::server::entries::Entries;
use crate::http::server::headers;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::json::Findings;
use crate::store::Project;
use crate::task::{Phase, ProjectId, QaProfile, Status};

pub(in crate::http) const MAX_NAME_BYTES: usize = 255;
pub(in crate::http) const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;
pub(in crate::http) const MAX_CONSTITUTION_BYTES: usize = 64 * 1024;
/// The largest number of slots that a project may have.
pub(in crate::http) const MAX_CONCURRENT: i64 = 1_000_000;

/// A project.
#[derive(Serialize, ToSchema)]
#[schema(as = Project)]
pub(in crate::http) struct ProjectWire<'a> {
    /// The id of the project.
    project_id: &'a ProjectId,
    /// The display name.
    name: &'a str,
    /// A description for people.
    description: Option<&'a str>,
    /// The QA profile of tasks that name none.
    #[schema(value_type = Option<QaProfile>)]
    qa_profile: Option<&'a str>,
    /// The rules for the workers.
    #[schema(value_type = Option<Object>)]
    constitution: Option<&'a RawValue>,
    /// The largest number of tasks that run at once; null for the configured default.
    max_concurrent: Option<u32>,
    /// When the project was created.
    created_at: Time,
    /// When the project was last changed.
    updated_at: Time,
    /// The number of changes, from which the entity tag is made.
    version: u64,
    /// Whether the project is paused, so that its tasks are not given to workers.
    paused: bool,
    /// When the project was paused; null if it is not.
    paused_at: Option<Time>,
}

impl<'a> ProjectWire<'a> {
    fn new(project: &'a Project) -> Self {
        Self {
            project_id: &project.id,
            name: &project.name,
            description: project.description.as_deref(),
            qa_profile: project.qa_profile.as_ref().map(QaProfile::as_str),
            constitution: project.constitution.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            max_concurrent: project.max_concurrent,
            created_at: Time(project.created_at),
            updated_at: Time(project.updated_at),
            version: project.version,
            paused: project.paused_at.is_some(),
            paused_at: project.paused_at.map(Time),
        }
    }
}

/// Deserializes a present field to `Some`, so that null differs from an absent field.
#[expect(clippy::option_option, reason = "absent, null and given are three things in a patch")]
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The fields of a request that creates or changes a project.
#[expect(clippy::option_option, reason = "absent, null and given are three things in a patch")]
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProjectFields)]
pub(in crate::http) struct BodyWire {
    /// The id of the project, which cannot be changed. The default for a new project is a UUID.
    #[schema(value_type = Option<ProjectId>)]
    project_id: Option<String>,
    /// The display name, which cannot be null. The default for a new project is its id.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// A description for people.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// The QA profile of tasks that name none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<QaProfile>)]
    qa_profile: Option<Option<String>>,
    /// The rules for the workers.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    constitution: Option<Option<Map<String, Value>>>,
    /// The largest number of tasks that run at once; null for the configured default.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    max_concurrent: Option<Option<i64>>,
}

/// Checks the fields of a request.
fn check_fields(found: &mut Findings, body: BodyWire) -> ProjectPatch {
    ProjectPatch {
        name: body.name.flatten().and_then(|name| {
            let fits = !name.trim().is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
            if !fits {
                let message = format!("must be 1 to {MAX_NAME_BYTES} bytes, not blank, without control characters");
                found.add("/name", message);
            }
            fits.then_some(name)
        }),
        description: body.description.inspect(|text| {
            let length = text.as_ref().map_or(0, String::len);
            if length > MAX_DESCRIPTION_BYTES {
                found.add("/description", format!("must be at most {MAX_DESCRIPTION_BYTES} bytes, was {length}"));
            }
        }),
        qa_profile: body.qa_profile.map(|name| found.parse("/qa_profile", &name?)),
        constitution: body
            .constitution
            .map(|object| object_text(found, "/constitution", object, MAX_CONSTITUTION_BYTES)),
        max_concurrent: body.max_concurrent.map(|number| {
            let number = number?;
            if !(1..=MAX_CONCURRENT).contains(&number) {
                found.add("/max_concurrent", format!("must be from 1 to {MAX_CONCURRENT}, was {number}"));
            }
            u32::try_from(number).ok()
        }),
    }
}

fn check_new_project(mut body: BodyWire, mut found: Findings, clock: &Clock) -> Result<NewProject, Problem> {
    let id: Option<ProjectId> = match body.project_id.take() {
        Some(id) => found.parse("/project_id", &id),
        None => found.parse("/project_id", &new_uuid(clock.wall()).to_string()),
    };
    let patch = check_fields(&mut found, body);
    match id {
        Some(id) if found.is_empty() => Ok(NewProject {
            id,
            name: patch.name,
            description: patch.description.flatten(),
            qa_profile: patch.qa_profile.flatten(),
            constitution: patch.constitution.flatten(),
            max_concurrent: patch.max_concurrent.flatten(),
        }),
        _ => Err(Problem::invalid(found.into_errors())),
    }
}

/// Handles `POST /projects`.
pub(in crate::http) async fn create(mut call: Call) -> Reply {
    call.require_no_query()?;
    let (body, errors) = call.json().await?;
    let project = check_new_project(body, Findings::from_errors(errors), &call.app.clock)?;
    let project = call.app.engine.projects().create(project).await?;
    let id = percent_encoding::utf8_percent_encode(project.id.as_str(), percent_encoding::NON_ALPHANUMERIC);
    let response = reply::created(&format!("{BASE}/projects/{id}"), &ProjectWire::new(&project));
    Ok(reply::with_header(response, ETAG, headers::etag(project.version)))
}

/// Returns the id in the path. A text that is not a valid id names no project.
pub(in crate::http) fn project_id(call: &Call) -> Result<ProjectId, Problem> {
    let id = call.id();
    ProjectId::new(&id).map_err(|_| not_found(&id))
}

fn not_found(id: &str) -> Problem {
    Problem::not_found("project_not_found", "project", id)
}

/// Returns the project in the path.
pub(in crate::http) async fn find_project(call: &Call) -> Result<Project, Problem> {
    let id = project_id(call)?;
    call.app.engine.projects().get(id.clone()).await?.ok_or_else(|| not_found(id.as_str()))
}

/// Handles `GET /projects/{id}`.
pub(in crate::http) async fn get(call: Call) -> Reply {
    call.require_no_query()?;
    let project = find_project(&call).await?;
    Ok(reply::versioned(headers::etag(project.version), call.if_none_match(), || {
        reply::json(StatusCode::OK, &ProjectWire::new(&project))
    }))
}

/// Returns the version that `If-Match` requires. The engine checks it again when it makes the change.
async fn required_version(call: &Call) -> Result<Option<u64>, Problem> {
    let Some(wanted) = call.headers().get(IF_MATCH) else { return Ok(None) };
    let version = find_project(call).await?.version;
    if headers::matches(wanted, &headers::etag(version)) { Ok(Some(version)) } else { Err(Problem::version_mismatch()) }
}

/// Handles `PATCH /projects/{id}`.
pub(in crate::http) async fn update(mut call: Call) -> Reply {
    call.require_no_query()?;
    let id = project_id(&call)?;
    let (body, errors): (BodyWire, _) = call.json().await?;
    let mut found = Findings::from_errors(errors);
    if body.project_id.as_deref().is_some_and(|other| other != id.as_str()) {
        found.add("/project_id", "cannot be changed");
    }
    if body.name == Some(None) {
        found.add("/name", "cannot be null");
    }
    let patch = check_fields(&mut found, body);
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    let if_version = required_version(&call).await?;
    let project = call.app.engine.projects().update(id, patch, if_version).await?;
    Ok(project_response(&project))
}

/// Handles `DELETE /projects/{id}`.
pub(in crate::http) async fn delete(call: Call) -> Reply {
    call.require_no_query()?;
    let id = project_id(&call)?;
    let if_version = required_version(&call).await?;
    call.app.engine.projects().delete(id, if_version).await?;
    Ok(reply::no_content())
}

/// Handles `POST /projects/{id}/pause`.
pub(in crate::http) async fn pause(mut call: Call) -> Reply {
    let id = only_project_id(&mut call).await?;
    Ok(project_response(&call.app.engine.projects().pause(id).await?))
}

/// Handles `POST /projects/{id}/resume`.
pub(in crate::http) async fn resume(mut call: Call) -> Reply {
    let id = only_project_id(&mut call).await?;
    Ok(project_response(&call.app.engine.projects().resume(id).await?))
}

/// Returns the id in the path of a request without a query and without a body.
async fn only_project_id(call: &mut Call) -> Result<ProjectId, Problem> {
    call.require_no_query()?;
    let id = project_id(call)?;
    call.require_no_fields().await?;
    Ok(id)
}

fn project_response(project: &Project) -> Response<Body> {
    reply::versioned(headers::etag(project.version), None, || reply::json(StatusCode::OK, &ProjectWire::new(project)))
}

/// A page of projects, ordered by id.
#[expect(clippy::option_option, reason = "absent with a cursor, null on the last page")]
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectList)]
pub(in crate::http) struct ListWire {
    /// The projects.
    #[schema(value_type = Vec<ProjectWire<'static>>)]
    projects: Entries,
    /// The number of projects.
    total: u64,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// The number of skipped entries; absent with a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    offset: Option<usize>,
    /// The `offset` of the next page; null on the last page, absent with a cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<Option<usize>>,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

/// Handles `GET /projects`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    const SCOPE: &str = "projects";
    let mut query = call.query(&["limit", "offset", "cursor"]);
    let limit = query.limit();
    let offset = query.number("offset", 0..=u64::MAX);
    let has_cursor = query.has("cursor");
    if has_cursor && offset.is_some() {
        query.reject("offset", "cannot be combined with a cursor");
    }
    let after = query.cursor(SCOPE, |place| ProjectId::new(std::str::from_utf8(&place).ok()?).ok());
    query.finish()?;
    let skip = usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX);
    let (page, total) = call.app.engine.projects().list(skip, after, limit).await?;
    let mut projects = Entries::new(limit);
    let shown = projects.fill(page.entries.iter().map(ProjectWire::new));
    let next_cursor = page.after(shown).map(|project| cursor::encode(SCOPE, project.id.as_str().as_bytes()));
    let offset = (!has_cursor).then_some(skip);
    let next_offset = offset.map(|offset| next_cursor.as_ref().map(|_| offset.saturating_add(shown)));
    let truncated = page.is_truncated || projects.is_truncated();
    Ok(reply::json(StatusCode::OK, &ListWire { projects, total, next_cursor, limit, offset, next_offset, truncated }))
}

/// Recent counts.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Recent {
    /// The count of the last hour.
    last_hour: u64,
    /// The count of the last day.
    last_day: u64,
}

/// The task and record counts of a project.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectStatus)]
pub(in crate::http) struct StatusWire<'a> {
    /// The id of the project.
    project_id: &'a ProjectId,
    /// The number of tasks.
    total: u64,
    /// Tasks by status.
    #[schema(value_type = TasksByStatus)]
    by_status: Map<String, Value>,
    /// Tasks by phase.
    #[schema(value_type = TasksByPhase)]
    by_phase: Map<String, Value>,
    /// The number of tasks with the status `running`: tasks that workers hold, or that wait for their outputs or
    /// subtasks.
    running: u64,
    /// The number of slots in use.
    slots_in_use: u32,
    /// The number of slots.
    limit: u32,
    /// When the longest waiting task began to wait.
    oldest_pending_at: Option<Time>,
    /// Tasks that completed.
    completed: Recent,
    /// Tasks that failed.
    failed: Recent,
    /// Whether the project is paused, so that its tasks are not given to workers.
    paused: bool,
    /// When the project was paused; null if it is not.
    paused_at: Option<Time>,
    /// The number of tainted records.
    tainted: u64,
    /// The number of suspect records.
    suspect: u64,
    /// The advice that follows from these counts.
    #[schema(value_type = Advice)]
    advice: &'static str,
}

impl<'a> StatusWire<'a> {
    fn new(status: &'a ProjectStatus) -> Self {
        let counters = &status.counters;
        let recent = |(last_hour, last_day)| Recent { last_hour, last_day };
        Self {
            project_id: &status.project.id,
            total: counters.total(),
            by_status: Status::ALL
                .map(|each| (each.as_str().to_owned(), counters.status(each).into()))
                .into_iter()
                .collect(),
            by_phase: Phase::ALL
                .map(|each| (each.as_str().to_owned(), counters.phase(each).into()))
                .into_iter()
                .collect(),
            running: counters.status(Status::Running),
            slots_in_use: status.slots_in_use,
            limit: status.limit,
            oldest_pending_at: status.oldest_pending_at.map(Time),
            completed: recent(status.completed),
            failed: recent(status.failed),
            paused: status.project.paused_at.is_some(),
            paused_at: status.project.paused_at.map(Time),
            tainted: status.records.tainted,
            suspect: status.records.suspect,
            advice: status.records.advice().as_str(),
        }
    }
}

/// Handles `GET /projects/{id}/status`.
pub(in crate::http) async fn status(call: Call) -> Reply {
    call.require_no_query()?;
    let status = call.app.engine.projects().status(project_id(&call)?).await?;
    Ok(reply::json(StatusCode::OK, &StatusWire::new(&status)))
}

/// The counts of tainted and suspect records of a project.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectConsistency)]
pub(in crate::http) struct ConsistencyWire<'a> {
    /// The id of the project.
    project_id: &'a ProjectId,
    /// The number of records.
    records: u64,
    /// The number of tainted records.
    tainted: u64,
    /// The number of suspect records.
    suspect: u64,
    /// The advice that follows from these counts.
    #[schema(value_type = Advice)]
    advice: &'static str,
}

/// Handles `GET /projects/{id}/consistency`.
pub(in crate::http) async fn consistency(call: Call) -> Reply {
    call.require_no_query()?;
    let status = call.app.engine.projects().status(project_id(&call)?).await?;
    let RecordCounts { records, tainted, suspect } = status.records;
    let advice = status.records.advice().as_str();
    let project_id = &status.project.id;
    Ok(reply::json(StatusCode::OK, &ConsistencyWire { project_id, records, tainted, suspect, advice }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use uuid::Uuid;

    use super::*;
    use crate::json;
    use crate::task::Timestamp;

    fn checked(text: &str) -> Result<ProjectPatch, Vec<String>> {
        let (body, errors): (BodyWire, _) = json::decode_all(text.as_bytes(), 1_000_000).unwrap();
        let mut found = Findings::from_errors(errors);
        let patch = check_fields(&mut found, body);
        let errors = found.into_errors();
        if errors.is_empty() { Ok(patch) } else { Err(errors.into_iter().map(|error| error.pointer).collect()) }
    }

    #[test]
    fn null_removes_a_value_and_absence_keeps_it() {
        let patch = checked(r#"{"name":"n","description":null,"constitution":{"a":1},"max_concurrent":3}"#).unwrap();
        assert_eq!(patch.name.as_deref(), Some("n"));
        assert_eq!(patch.description, Some(None));
        assert_eq!(patch.qa_profile, None);
        assert_eq!(patch.constitution, Some(Some(r#"{"a":1}"#.to_owned())));
        assert_eq!(patch.max_concurrent, Some(Some(3)));
    }

    #[test]
    fn invalid_fields_are_reported() {
        let found = checked(r#"{"name":" ","qa_profile":"A","max_concurrent":0}"#).unwrap_err();
        assert_eq!(found, ["/name", "/qa_profile", "/max_concurrent"]);
        assert_eq!(checked(r#"{"names":"x"}"#).unwrap_err(), ["/names"]);
    }

    #[test]
    fn a_project_without_an_id_gets_one() {
        let (body, _): (BodyWire, _) = json::decode_all(br#"{"name":"n"}"#, 100).unwrap();
        let project = check_new_project(body, Findings::default(), &Clock::new()).unwrap();
        assert_eq!(Uuid::try_parse(project.id.as_str()).unwrap().get_version_num(), 7);
    }

    #[test]
    fn the_wire_form_has_every_field() {
        let at = Timestamp::from_micros(1_767_981_600_000_000);
        let project = Project {
            id: ProjectId::new("p").unwrap(),
            name: "n".to_owned(),
            description: None,
            qa_profile: None,
            constitution: Some("{\"a\":1}".to_owned()),
            max_concurrent: None,
            created_at: at,
            updated_at: at,
            version: 2,
            archived_at: None,
            paused_at: None,
            resumed_at: None,
        };
        assert_eq!(
            serde_json::to_value(ProjectWire::new(&project)).unwrap(),
            json!({
                "project_id": "p", "name": "n", "description": null, "qa_profile": null, "constitution": {"a": 1},
                "max_concurrent": null, "created_at": "2026-01-09T18:00:00Z", "updated_at": "2026-01-09T18:00:00Z",
                "version": 2, "paused": false, "paused_at": null,
            })
        );
    }
}
