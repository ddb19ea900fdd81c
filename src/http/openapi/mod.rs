//! What the interface is, as an `OpenAPI` document: put together once, from
//! the table of endpoints, the types on the wire and the constants of their
//! checks.

pub(in crate::http) mod answers;
pub(in crate::http) mod limits;
pub(in crate::http) mod operation;
mod parts;
mod values;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use utoipa::openapi::path::{HttpMethod, PathItem, PathsBuilder};
use utoipa::openapi::schema::{Components, Schema};
use utoipa::openapi::{OpenApi, OpenApiBuilder, RefOr, ServerBuilder};

pub(super) use answers::{CloudEvent, ReadyTask, TaskLinks};
pub(super) use values::{EventOutcome, HealthStatus, TaintAction, TasksByPhase, TasksByStatus};

use crate::http::api::app::Call;
use crate::http::api::endpoints::{ROWS, Row};
use crate::http::server::endpoint::{Access, BASE, Execution, Verb};
use crate::http::server::headers;
use crate::http::server::reply::{self, Reply};
use crate::schema::require_nulls;
use operation::Named;

/// The document as it is sent, and its tag.
static SENT: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
    let bytes = serde_json::to_vec(&document().0).unwrap_or_default();
    let etag = headers::etag_of(&bytes);
    (bytes.into(), etag)
});

/// `GET /openapi.json`
pub(super) fn get(call: &Call) -> Reply {
    call.require_no_query()?;
    let (bytes, etag) = &*SENT;
    Ok(reply::versioned(etag.clone(), call.if_none_match(), || reply::rendered(StatusCode::OK, bytes.clone())))
}

/// The document as text for people and files, ending with a new line.
#[must_use]
pub fn openapi_text() -> String {
    let mut text = serde_json::to_string_pretty(&document().0).unwrap_or_default();
    text.push('\n');
    text
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
    for Row { endpoint, describe } in &ROWS {
        let Some(describe) = describe else { continue };
        let (verb, path, described) = (endpoint.verb, endpoint.path, describe());
        let mut described = match endpoint.access {
            Access::Probe => described.public(),
            Access::ApiKey => described.guarded(verb != Verb::Get),
        };
        if endpoint.execution == Execution::TimedReadPool {
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
        if endpoint.is_operational {
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
        let rows = ROWS.iter().filter(|row| row.describe.is_some()).map(|row| &row.endpoint);
        let mut rows: Vec<String> = rows.map(|each| format!("{} {}", each.verb.as_str(), each.path)).collect();
        described.sort();
        rows.sort();
        assert_eq!(described, rows);
    }
}
