//! The document of the interface: that it is the one that is checked in, that
//! it is sound, and that the server does what it says. Every answer of a
//! transcript is held against it as well (`transcript.rs`).

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::described::{self, DOCUMENT};
use super::{event, served};
use crate::support::client::Client;
use crate::support::process::{BINARY, Setup};

/// Methods in the document.
const METHODS: [&str; 4] = ["get", "post", "patch", "delete"];

/// Method, path and operation of all there are.
fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, item)| {
        METHODS.into_iter().filter_map(move |method| Some((method, path.as_str(), item.get(method)?)))
    });
    all.collect()
}

/// What a reference stands for.
fn resolved(value: &'static Value) -> &'static Value {
    let pointer = value["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
    pointer.map_or(value, |pointer| DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there")))
}

#[test]
fn the_checked_in_document_is_that_of_the_program() {
    let printed = Command::new(BINARY).arg("openapi").output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let kept = std::fs::read_to_string(described::path()).unwrap_or_default();
    assert!(
        kept == String::from_utf8(printed.stdout).unwrap(),
        "contracts/openapi.json is not what the program says; look at what changed, and renew it: \
         cargo run -q -- openapi > contracts/openapi.json"
    );
}

/// Calls `see` with every object of a value.
fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&'a serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            see(fields);
            fields.values().for_each(|each| walk(each, see));
        }
        Value::Array(items) => items.iter().for_each(|each| walk(each, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_is_sound() {
    assert_eq!(DOCUMENT["openapi"], "3.1.0");
    let (mut used, mut ids) = (BTreeSet::new(), BTreeSet::new());
    walk(&DOCUMENT, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
            assert!(DOCUMENT.pointer(pointer).is_some(), "{reference} leads nowhere");
            used.insert(reference.clone());
        }
    });
    let tags: Vec<&Value> = DOCUMENT["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (method, path, operation) in operations() {
        let place = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{place}: its id is there twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{place} has no summary");
        assert!(tags.contains(&&operation["tags"][0]), "{place} has no tag");
        let parameters: Vec<_> = operation["parameters"].as_array().unwrap().iter().map(resolved).collect();
        let in_path = parameters.iter().filter(|each| each["in"] == "path" && each["required"] == true).count();
        assert_eq!(in_path, path.matches('{').count(), "{place}");
        let names: BTreeSet<_> = parameters.iter().map(|each| (each["in"].as_str(), each["name"].as_str())).collect();
        assert_eq!(names.len(), parameters.len(), "{place} has a parameter twice");
        assert!(operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2')), "{place}");
    }
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::validate(schema).is_ok(), "{name} is no schema");
        let reference = format!("#/components/schemas/{name}");
        assert!(used.contains(&reference), "{name} is not used");
    }
}

#[tokio::test]
async fn it_is_served_with_a_tag_and_behind_the_key() {
    let server = Setup::new().with("DATS__SECURITY__API_KEY", "secret").start();
    let client = Client::new(&server.address);
    let key = ("x-api-key", "secret");
    for path in ["/openapi.json", "/api/v1/openapi.json", "/docs", "/api/v1/docs"] {
        let denied = client.ask("GET", path, &[], "").await.unwrap();
        described::check("GET", path, &denied);
        assert_eq!((denied.status, denied.code().as_str()), (401, "unauthorized"), "{path}");
        let answer = client.ask("GET", path, &[key], "").await.unwrap();
        described::check("GET", path, &answer);
        assert_eq!(answer.status, 200, "{path}");
        let known = client.ask("GET", path, &[key, ("if-none-match", answer.header("etag"))], "").await.unwrap();
        described::check("GET", path, &known);
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
    }
    let answer = client.ask("GET", "/openapi.json", &[key], "").await.unwrap();
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json(), *DOCUMENT);
}

#[tokio::test]
async fn the_reference_loads_nothing_from_elsewhere() {
    let (_server, client) = served();
    for base in ["", "/api/v1"] {
        let answer = client.get(&format!("{base}/docs")).await;
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'"] {
            assert!(policy.split("; ").any(|each| each == part), "{part} in {policy}");
        }
        assert!(!policy.contains("unsafe-eval") && !policy.contains("http"), "{policy}");
        let page = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(!page.contains("://") && !page.contains("<style"), "{page}");
        assert!(page.split("<script").skip(1).all(|script| script.starts_with(" src=")), "{page}");
        let links = ["href=\"", "src=\""].into_iter().flat_map(|name| page.split(name).skip(1));
        let files: Vec<&str> = links.map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(files.len(), 6, "{page}");
        for file in files {
            let path = format!("{base}/{file}");
            let answer = client.get(&path).await;
            assert_eq!((answer.status, answer.header("x-content-type-options")), (200, "nosniff"), "{path}");
            assert!(!answer.body.is_empty(), "{path}");
            let known = client.ask("GET", &path, &[("if-none-match", answer.header("etag"))], "").await.unwrap();
            assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        }
    }
    let initializer = client.get("/docs/swagger-initializer.js").await;
    let text = String::from_utf8(initializer.body.to_vec()).unwrap();
    assert!(text.contains("\"url\": \"openapi.json\"") && !text.contains("://"), "{text}");
    assert_eq!(client.get("/docs/oauth2-redirect.html").await.code(), "not_found");
}

/// Things to ask about.
struct World {
    client: Client,
    open: String,
    ended: String,
    lease: String,
    checkpoint: String,
}

impl World {
    async fn new(client: &Client) -> Self {
        assert_eq!(client.post("projects", &json!({"project_id": "p", "name": "p"})).await.status, 201);
        let task =
            |tier| json!({"description": "x", "project_id": "p", "options": {"tier": tier, "qa_profile": "none"}});
        let made = client.submit(&task("small")).await;
        let output = json!({
            "task_id": made, "artifact_id": "a",
            "output": {"content": "text", "artifacts": [{"id": "a", "type": "code", "path": "a.py"}]},
        });
        assert_eq!(client.post("events", &event("1", "task.output.created", &output)).await.status, 200);
        let ended = client.submit(&task("small")).await;
        assert_eq!(client.post(&format!("tasks/{ended}/cancel"), &json!({})).await.status, 200);
        let (leased, open) = (client.submit(&task("tiny")).await, client.submit(&task("large")).await);
        let lease = client.post("queues/tiny/lease", &json!({"worker_id": "w"})).await.json();
        assert_eq!(lease["leases"][0]["task"]["task_id"], leased, "{lease}");
        let marked = client.post("provenance/a/suspect", &json!({"reason": "r", "cascade_id": "a"})).await;
        assert_eq!(marked.status, 200);
        let checkpoint = client.post("projects/p/checkpoints", &json!({})).await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (lease, checkpoint) = (text(&lease["leases"][0]["lease_id"]), text(&checkpoint["id"]));
        Self { client: client.clone(), open, ended, lease, checkpoint }
    }

    /// A path with something that is there.
    fn path(&self, template: &str) -> String {
        let id = match template.split('/').nth(1).unwrap_or_default() {
            "tasks" if template.ends_with("/rerun") => &self.ended,
            "tasks" => &self.open,
            "projects" => "p",
            "queues" => "small",
            "leases" => &self.lease,
            "checkpoints" => &self.checkpoint,
            "dead-letters" => "1",
            _ => "a",
        };
        template.trim_start_matches('/').replace("{id}", id)
    }
}

#[tokio::test]
async fn examples_of_bodies_are_taken() {
    let (_server, client) = served();
    let world = World::new(&client).await;
    let mut tried = 0;
    // Who ends a task or a lease comes last.
    let last = ["cancelTask", "releaseLease", "takeEvents"];
    let mut all = operations();
    all.sort_by_key(|(_, _, operation)| last.contains(&operation["operationId"].as_str().unwrap()));
    for (method, template, operation) in all {
        for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            for (name, example) in content["examples"].as_object().into_iter().flatten() {
                let task = client.submit(&json!({"description": "x", "project_id": "other"})).await;
                let body = example["value"].to_string().replace("{task_id}", &task).replace("{lease_id}", &world.lease);
                let path = world.path(template);
                let method = method.to_uppercase();
                let answer = world.client.ask(&method, &path, &[("content-type", kind)], body.clone()).await.unwrap();
                let place = format!("{method} {path} {name}: {body}: {answer:?}");
                described::check(&method, &path, &answer);
                // There is no dead letter; what asks for one is understood.
                let understood = answer.status < 300 || answer.code() == "dead_letter_not_found";
                assert!(understood, "{place}");
                if kind == "application/json" {
                    assert_eq!(described::wrong(&content["schema"], &example["value"]), [""; 0], "{place}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");
}

#[tokio::test]
async fn queries_have_the_parameters_that_are_described() {
    let (_server, client) = served();
    let world = World::new(&client).await;
    for (method, template, operation) in operations() {
        let parameters = operation["parameters"].as_array().unwrap().iter().map(resolved);
        let described: BTreeSet<&str> =
            parameters.filter(|each| each["in"] == "query").map(|each| each["name"].as_str().unwrap()).collect();
        let path = format!("{}?no_such_parameter=1", world.path(template));
        let headers = [("accept", "application/json")];
        let answer = client.ask(&method.to_uppercase(), &path, &headers, "").await.unwrap();
        described::check(&method.to_uppercase(), &path, &answer);
        let told = answer.json();
        if template.starts_with("/dead-letters/") && answer.status == 404 {
            continue;
        }
        let errors = told["errors"].as_array().unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        let error = errors.iter().find(|error| error["pointer"] == "no_such_parameter");
        let message = error.unwrap_or_else(|| panic!("{method} {path}: {told}"))["message"].as_str().unwrap();
        let allowed = message.split("allowed: ").nth(1).unwrap().split(';').next().unwrap();
        let allowed: BTreeSet<&str> = allowed.split(", ").filter(|name| *name != "none").collect();
        assert_eq!(described, allowed, "{method} {template}");
    }
}

#[tokio::test]
async fn answers_of_a_journey_are_as_described() {
    let (_server, client) = served();
    let world = World::new(&client).await;
    for (path, body) in [
        ("provenance/a/taint", json!({"reason": "bad"})),
        ("provenance/a/taint?limit=1", json!({"reason": "bad", "dry_run": true})),
        ("provenance/a/clear", json!({"reason": "good"})),
        ("events", json!([])),
    ] {
        described::check("POST", path, &client.post(path, &body).await);
    }
    let lines = client.ask("GET", "provenance/export", &[], "").await.unwrap();
    described::check("GET", "provenance/export", &lines);
    let import = [("content-type", "application/x-ndjson")];
    let told = client.ask("POST", "provenance/import", &import, [&lines.body[..], b"{}\n"].concat()).await.unwrap();
    described::check("POST", "provenance/import", &told);
    let queries = [
        ("/provenance/path", "from=a&to=a"),
        ("/provenance/{id}/export", "format=prov"),
        ("/provenance/{id}/affected", "cursor=x"),
        ("/checkpoints/{id}/affected", "cursor=x"),
        ("/cascades/{id}/affected", "cursor=x"),
    ];
    for (_, template, _) in operations().into_iter().filter(|(method, ..)| *method == "get") {
        let query = queries.iter().find(|(each, _)| *each == template).map_or("", |(_, query)| query);
        let path = format!("{}?{query}", world.path(template));
        if template == "/tasks/{id}/stream" {
            continue;
        }
        let answer = client.get(&path).await;
        described::check("GET", &path, &answer);
        let expected = if query.starts_with("cursor") { 422 } else { 200 };
        assert!(answer.status == expected || template.starts_with("/dead-letters/"), "{path}: {answer:?}");
    }
    let stream = format!("tasks/{}/stream", world.ended);
    described::check("GET", &stream, &client.ask("GET", &stream, &[], "").await.unwrap());
    let picture = "provenance/a/export?format=dot";
    described::check("GET", picture, &client.get(picture).await);
}
