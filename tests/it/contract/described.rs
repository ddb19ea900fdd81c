//! Holds answers against the checked-in document of the interface: that they
//! are as it says, and have nothing that it does not tell of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::schemas::strict;

/// Headers that the document tells of where an answer has them.
const HEADERS: [&str; 5] = ["etag", "location", "retry-after", "idempotent-replayed", "content-range"];

/// The document that is checked in.
pub(super) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap());
/// Its schemas, with nothing allowed that they do not name.
static STRICT: LazyLock<Value> = LazyLock::new(|| {
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap().iter();
    let both = schemas.flat_map(|(name, schema)| {
        [(name.clone(), strict(schema, false)), (format!("{name}.open"), strict(schema, true))]
    });
    json!({ "schemas": both.collect::<serde_json::Map<_, _>>() })
});
static VALIDATORS: LazyLock<Mutex<BTreeMap<String, &'static Validator>>> = LazyLock::new(Mutex::default);

/// Where it is.
pub(super) fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/openapi.json")
}

/// Compiled once, however many answers have it.
fn validator(schema: &Value) -> &'static Validator {
    let mut known = VALIDATORS.lock().unwrap();
    known.entry(schema.to_string()).or_insert_with(|| {
        let whole = json!({ "allOf": [strict(schema, false)], "components": *STRICT });
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Box::leak(Box::new(options.build(&whole).unwrap()))
    })
}

/// What is wrong with a value.
pub(super) fn wrong(schema: &Value, value: &Value) -> Vec<String> {
    validator(schema).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The operation that a request asks for; `None`: there is none.
pub(super) fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_start_matches('/');
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.trim_start_matches('/').split('/').collect();
        let same = |(part, word): (&&str, &&str)| part == word || part.starts_with('{') && !word.is_empty();
        parts.len() == asked.len() && parts.iter().zip(&asked).all(same)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    // A name goes before a place for one.
    let found =
        paths.iter().filter(|(template, _)| fits(template)).min_by_key(|(template, _)| template.matches('{').count());
    let method = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
    found.and_then(|(_, item)| item.get(method))
}

/// Panics where an answer is not as the document says.
pub(super) fn check(method: &str, path: &str, answer: &Answer) {
    let place = || format!("{method} {path}: {} {:?}", answer.status, String::from_utf8_lossy(&answer.body));
    let Some(operation) = operation(method, path) else {
        let none = ["not_found", "method_not_allowed"];
        return assert!(none.contains(&answer.code().as_str()), "not in the document: {}", place());
    };
    let said = &operation["responses"][answer.status.to_string()];
    assert!(said.is_object(), "this status is not in the document: {}", place());
    for name in HEADERS.into_iter().filter(|name| !answer.header(name).is_empty()) {
        let named =
            said["headers"].as_object().is_some_and(|all| all.keys().any(|each| each.eq_ignore_ascii_case(name)));
        assert!(named, "the header {name} is not in the document: {}", place());
    }
    let kind = answer.header("content-type").split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || method == "HEAD" {
        return assert!(said["content"].is_null() || method == "HEAD", "there is no body: {}", place());
    }
    let content = said["content"].get(kind).or_else(|| said["content"].get("*/*"));
    let content = content.unwrap_or_else(|| panic!("this media type is not in the document: {}", place()));
    if kind == "application/problem+json" {
        let code = format!("`{}`", answer.code());
        let text = said["description"].as_str().unwrap_or_default();
        assert!(text.contains(&code), "this code is not in the document: {}", place());
    }
    let Some(schema) = content.get("schema") else { return };
    for value in values(kind, answer) {
        let wrong = wrong(schema, &value);
        assert!(wrong.is_empty(), "{}\nis not as the document says:\n{}", place(), wrong.join("\n"));
    }
}

/// The JSON of an answer: one value, or one for each line or event.
fn values(kind: &str, answer: &Answer) -> Vec<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    let each = |lines: Vec<&str>| lines.into_iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    match kind {
        "text/event-stream" => each(text.lines().filter_map(|line| line.strip_prefix("data: ")).collect()),
        "application/x-ndjson" => each(text.lines().filter(|line| !line.is_empty()).collect()),
        "application/json" | "application/problem+json" => vec![answer.json()],
        _ => Vec::new(),
    }
}
