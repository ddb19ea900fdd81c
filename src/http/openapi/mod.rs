//! What the interface is, as an `OpenAPI` document: put together once, from
//! the table of routes, the types on the wire and the constants of their
//! checks. [`describe`] has an arm for every endpoint, so that none can be
//! forgotten.

pub(in crate::http) mod answers;
pub(in crate::http) mod limits;
pub(in crate::http) mod operation;
mod parts;
mod values;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::HeaderValue;
use utoipa::openapi::path::{HttpMethod, PathItem, PathsBuilder};
use utoipa::openapi::schema::{Components, Schema};
use utoipa::openapi::{OpenApi, OpenApiBuilder, RefOr, ServerBuilder};

pub(super) use answers::{CloudEvent, ReadyTask, TaskLinks};
pub(super) use values::{EventOutcome, HealthStatus, TaintAction, TasksByPhase, TasksByStatus};

use super::api::checkpoints::describe as checkpoints;
use super::api::events::describe as events;
use super::api::projects::describe as projects;
use super::api::provenance::describe as provenance;
use super::api::service::describe as service;
use super::api::tasks::describe as tasks;
use super::api::work::describe as work;
use super::headers;
use super::reply::{self, Reply};
use super::request::Call;
use crate::http::api::routes::{BASE, Endpoint, Verb, table};
use crate::schema::require_nulls;
use operation::{Described, Named};

/// The document as it is sent, and its tag.
static SENT: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
    let bytes = serde_json::to_vec(&document().0).unwrap_or_default();
    let etag = headers::etag_of(&bytes);
    (bytes.into(), etag)
});

/// `GET /openapi.json`
pub(super) fn get(call: &Call) -> Reply {
    call.no_query()?;
    let (bytes, etag) = &*SENT;
    Ok(reply::document(call, bytes, etag))
}

/// The document as text for people and files, ending with a new line.
#[must_use]
pub fn openapi_text() -> String {
    let mut text = serde_json::to_string_pretty(&document().0).unwrap_or_default();
    text.push('\n');
    text
}

/// The description of an endpoint. `None`: the endpoint serves the files of the API reference
/// and is no part of the interface.
fn describe(endpoint: Endpoint) -> Option<Described> {
    Some(match endpoint {
        Endpoint::ListTasks => tasks::list(),
        Endpoint::SubmitTask => tasks::submit(),
        Endpoint::SubmitBatch => tasks::submit_batch(),
        Endpoint::GetTask => tasks::get(),
        Endpoint::CancelTask => tasks::cancel(),
        Endpoint::RerunTask => tasks::rerun(),
        Endpoint::TaskHistory => tasks::history(),
        Endpoint::TaskStream => tasks::stream(),
        Endpoint::TaskTree => tasks::tree(),
        Endpoint::ListProjects => projects::list(),
        Endpoint::CreateProject => projects::create(),
        Endpoint::GetProject => projects::get(),
        Endpoint::UpdateProject => projects::update(),
        Endpoint::DeleteProject => projects::delete(),
        Endpoint::ProjectStatus => projects::status(),
        Endpoint::PauseProject => projects::pause(),
        Endpoint::ResumeProject => projects::resume(),
        Endpoint::GetCascade => provenance::cascade(),
        Endpoint::ClearCascade => provenance::clear_cascade(),
        Endpoint::TakenBack => provenance::taken_back(),
        Endpoint::ProjectConsistency => projects::consistency(),
        Endpoint::ListCheckpoints => checkpoints::list(),
        Endpoint::CreateCheckpoint => checkpoints::create(),
        Endpoint::GetCheckpoint => checkpoints::get(),
        Endpoint::Rollback => checkpoints::rollback(),
        Endpoint::RolledBack => checkpoints::rolled_back(),
        Endpoint::ListQueues => work::queues(),
        Endpoint::PauseTier => work::pause(),
        Endpoint::ResumeTier => work::resume(),
        Endpoint::Lease => work::lease(),
        Endpoint::RenewLease => work::renew(),
        Endpoint::ReleaseLease => work::release(),
        Endpoint::FollowEvents => events::follow(),
        Endpoint::TakeEvents => events::take(),
        Endpoint::ListDeadLetters => events::letters(),
        Endpoint::ListLetterRemovals => events::letter_removals(),
        Endpoint::ShowDeadLetter => events::letter(),
        Endpoint::RequeueDeadLetter => events::requeue(),
        Endpoint::DiscardDeadLetter => events::discard(),
        Endpoint::DiscardDeadLetters => events::discard_matching(),
        Endpoint::ListProvenance => provenance::list(),
        Endpoint::GetProvenance => provenance::get(),
        Endpoint::ProvenancePath => provenance::path(),
        Endpoint::ImportLines => provenance::import(),
        Endpoint::ExportLines => provenance::export_lines(),
        Endpoint::Dependents => provenance::dependents(),
        Endpoint::Dependencies => provenance::dependencies(),
        Endpoint::Impact => provenance::impact(),
        Endpoint::Affected => provenance::affected(),
        Endpoint::RootCause => provenance::root_cause(),
        Endpoint::ExportProvenance => provenance::export(),
        Endpoint::Taint => provenance::taint(),
        Endpoint::MarkSuspect => provenance::suspect(),
        Endpoint::Clear => provenance::clear(),
        Endpoint::TaintEvents => provenance::taints(),
        Endpoint::GetArtifact => provenance::artifact(),
        Endpoint::ArtifactContent => provenance::content(),
        Endpoint::Health => service::health(),
        Endpoint::HealthDetailed => service::detailed(),
        Endpoint::Live => service::live(),
        Endpoint::Ready => service::ready(),
        Endpoint::Metrics => service::metrics(),
        Endpoint::OpenApi => service::document(),
        Endpoint::AsyncApi => service::messages(),
        Endpoint::Docs => service::page(),
        Endpoint::DocsFile => return None,
    })
}

const fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

/// Schemas by name, and what does not fit together.
#[derive(Default)]
struct Gathered {
    schemas: BTreeMap<String, RefOr<Schema>>,
    asked: BTreeMap<String, RefOr<Schema>>,
    defects: Vec<String>,
}

impl Gathered {
    fn answered(&mut self, all: Vec<Named>) {
        for (name, mut schema) in all {
            require_nulls(&mut schema, may_be_absent(&name));
            if self.schemas.get(&name).is_some_and(|known| *known != schema) {
                self.defects.push(format!("two schemas are called {name}"));
            }
            self.schemas.insert(name, schema);
        }
    }

    /// Schemas of bodies are the same wherever they are used but for limits,
    /// so the one that has them counts.
    fn asked(&mut self, all: Vec<Named>) {
        self.asked.extend(all);
    }

    fn all(mut self) -> (BTreeMap<String, RefOr<Schema>>, Vec<String>) {
        for (name, schema) in self.asked {
            self.schemas.entry(name).or_insert(schema);
        }
        (self.schemas, self.defects)
    }
}

/// Fields of an answer that may be null and may be left out.
fn may_be_absent(name: &str) -> &'static [&'static str] {
    if name == "TaskError" { &["attempt"] } else { &[] }
}

/// The document, and what does not fit together in it.
fn document() -> (OpenApi, Vec<String>) {
    let mut items: Vec<(&str, PathItem)> = Vec::new();
    let mut gathered = Gathered::default();
    gathered.answered(parts::problem());
    for (verb, path, endpoint) in table() {
        let Some(described) = describe(endpoint) else { continue };
        let mut described =
            if endpoint.is_public() { described.public() } else { described.guarded(verb != Verb::Get) };
        if endpoint.is_walk() {
            described = described.walks();
        }
        gathered.answered(std::mem::take(&mut described.answered));
        gathered.asked(std::mem::take(&mut described.asked));
        gathered.defects.append(&mut described.missed);
        let mut item = PathItem::new(method(verb), described.finish());
        if let Some((_, known)) = items.iter_mut().find(|(known, _)| *known == path) {
            known.merge_operations(item);
            continue;
        }
        if endpoint.is_operational() {
            item.servers = Some([BASE, "/"].map(|url| ServerBuilder::new().url(url).build()).to_vec());
        }
        items.push((path, item));
    }
    let paths = items.into_iter().fold(PathsBuilder::new(), |paths, (path, item)| paths.path(path, item));
    let (schemas, defects) = gathered.all();
    let mut components = Components::new();
    components.schemas = schemas;
    parts::shared(&mut components);
    let document = OpenApiBuilder::new()
        .info(parts::info())
        .servers(Some([ServerBuilder::new().url(BASE).build()]))
        .tags(Some(parts::tags()))
        .paths(paths.build())
        .components(Some(components))
        .security(Some(parts::security()))
        .build();
    (document, defects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::routes::labels;

    #[test]
    fn everything_fits_together() {
        assert_eq!(document().1, Vec::<String>::new());
    }

    #[test]
    fn every_row_of_the_table_is_there_and_nothing_else() {
        let document = serde_json::to_value(document().0).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let mut described: Vec<String> = paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().iter().filter(|(_, said)| said["operationId"].is_string());
                methods.map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let rows = labels().filter(|(_, path)| *path != "/docs/{id}");
        let mut rows: Vec<String> = rows.map(|(method, path)| format!("{method} {path}")).collect();
        described.sort();
        rows.sort();
        assert_eq!(described, rows);
    }
}
