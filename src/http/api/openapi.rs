//! The `OpenAPI` document, made from the tables of endpoints.

use std::collections::BTreeMap;

use utoipa::openapi::path::{HttpMethod, PathItem, PathsBuilder};
use utoipa::openapi::schema::{Components, Schema};
use utoipa::openapi::{OpenApi, OpenApiBuilder, RefOr, ServerBuilder};

use crate::http::api::row::Row;
use crate::http::api::service::document::RenderedDocument;
use crate::http::api::tables;
use crate::http::openapi::limits::Named;
use crate::http::openapi::parts;
use crate::http::server::endpoint::{Access, BASE, Execution, Verb};
use crate::schema::require_nulls;

/// Renders the document as it is served.
pub(in crate::http) fn render() -> RenderedDocument {
    RenderedDocument::new(serde_json::to_vec(&document().0).unwrap_or_default())
}

/// Returns the document as indented text that ends with a newline.
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

/// The schemas of all operations by name, and the defects of the descriptions.
#[derive(Default)]
struct Gathered {
    schemas: BTreeMap<String, RefOr<Schema>>,
    requests: BTreeMap<String, RefOr<Schema>>,
    defects: Vec<String>,
}

impl Gathered {
    fn add_responses(&mut self, all: Vec<Named>) {
        for (name, mut schema) in all {
            require_nulls(&mut schema, optional_nullable_fields(&name));
            if self.schemas.get(&name).is_some_and(|known| *known != schema) {
                self.defects.push(format!("two schemas are called {name}"));
            }
            self.schemas.insert(name, schema);
        }
    }

    /// Schemas of request bodies are equal wherever they are used, except for limits. The last one counts, because
    /// only operations with a body set limits.
    fn add_requests(&mut self, all: Vec<Named>) {
        self.requests.extend(all);
    }

    fn finish(mut self) -> (BTreeMap<String, RefOr<Schema>>, Vec<String>) {
        for (name, schema) in self.requests {
            self.schemas.entry(name).or_insert(schema);
        }
        (self.schemas, self.defects)
    }
}

/// Returns the fields of a response that may be null and may be absent.
fn optional_nullable_fields(name: &str) -> &'static [&'static str] {
    if name == "TaskError" { &["attempt"] } else { &[] }
}

/// Returns the document and the defects of the descriptions.
fn document() -> (OpenApi, Vec<String>) {
    let mut items: Vec<(&str, PathItem)> = Vec::new();
    let mut gathered = Gathered::default();
    gathered.add_responses(parts::problem());
    for Row { endpoint, describe } in tables::rows() {
        let Some(describe) = describe else { continue };
        let (verb, path, described) = (endpoint.verb, endpoint.path, describe());
        let mut described = match endpoint.access {
            Access::Probe => described.public(),
            Access::ApiKey => described.guarded(verb != Verb::Get),
        };
        if endpoint.execution == Execution::TimedReadPool {
            described = described.walks();
        }
        gathered.add_responses(std::mem::take(&mut described.responses));
        gathered.add_requests(std::mem::take(&mut described.requests));
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
    let (schemas, defects) = gathered.finish();
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
    fn the_descriptions_have_no_defects() {
        assert_eq!(document().1, Vec::<String>::new());
    }

    #[test]
    fn the_document_has_exactly_the_described_endpoints() {
        let document = serde_json::to_value(document().0).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let mut described: Vec<String> = paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().iter().filter(|(_, said)| said["operationId"].is_string());
                methods.map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let rows = tables::rows().filter(|row| row.describe.is_some()).map(|row| &row.endpoint);
        let mut rows: Vec<String> = rows.map(|each| format!("{} {}", each.verb.as_str(), each.path)).collect();
        described.sort();
        rows.sort();
        assert_eq!(described, rows);
    }
}
