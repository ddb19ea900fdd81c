//! The document of the messages on the broker: that it is the one that is
//! checked in, that it is sound, and that it is served. Real messages are held
//! against it in `broker/described.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::described;
use crate::support::client::Client;
use crate::support::process::{BINARY, Setup};
use crate::support::schemas::{strictly_wrong, wrong};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap());

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/asyncapi.json")
}

fn all(kind: &str) -> &'static Map<String, Value> {
    DOCUMENT.pointer(kind).and_then(Value::as_object).unwrap_or_else(|| panic!("there is no {kind}"))
}

fn resolved(value: &'static Value) -> &'static Value {
    let pointer = value["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
    pointer.map_or(value, |pointer| resolved(DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))))
}

#[test]
fn the_checked_in_document_is_that_of_the_program() {
    let printed = Command::new(BINARY).arg("asyncapi").output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let kept = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(
        kept == String::from_utf8(printed.stdout).unwrap(),
        "contracts/asyncapi.json is not what the program says; look at what changed, and renew it: \
         cargo run -q -- asyncapi > contracts/asyncapi.json"
    );
}

fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&'a Map<String, Value>)) {
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
fn every_reference_leads_somewhere_and_everything_is_used() {
    assert_eq!(DOCUMENT["asyncapi"], "3.0.0");
    let mut used = BTreeSet::new();
    walk(&DOCUMENT, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
            assert!(DOCUMENT.pointer(pointer).is_some(), "{reference} leads nowhere");
            assert_eq!(fields.len(), 1, "nothing counts beside {reference}");
            used.insert(pointer.to_owned());
        }
    });
    for kind in all("/components").keys() {
        for name in all(&format!("/components/{kind}")).keys() {
            assert!(used.contains(&format!("/components/{kind}/{name}")), "{name} of {kind} is not used");
        }
    }
    for (name, schema) in all("/components/schemas") {
        assert!(jsonschema::draft7::meta::validate(schema).is_ok(), "{name} is no schema");
    }
}

#[test]
fn channels_and_operations_fit_together() {
    for (name, channel) in all("/channels") {
        let address = channel["address"].as_str().unwrap();
        let places = address.matches('{').count();
        assert_eq!(channel["parameters"].as_object().map_or(0, Map::len), places, "{name}: {address}");
        let amqp = &channel["bindings"]["amqp"];
        let named = if amqp["is"] == "queue" { &amqp["queue"]["name"] } else { &amqp["exchange"]["name"] };
        assert!(!named.as_str().unwrap().is_empty(), "{name}");
        assert!(amqp["is"] != "queue" || *named == channel["address"], "{name}");
        assert!(!channel["messages"].as_object().unwrap().is_empty(), "{name}");
    }
    for (id, operation) in all("/operations") {
        let channel = operation["channel"]["$ref"].as_str().unwrap();
        for message in operation["messages"].as_array().unwrap() {
            let place = message["$ref"].as_str().unwrap();
            assert!(place.starts_with(&format!("{channel}/messages/")), "{id}: {place}");
        }
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{id}");
    }
}

#[test]
fn examples_are_as_described_and_name_nothing_else() {
    for (name, message) in all("/components/messages") {
        let examples = message["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            for part in ["headers", "payload"] {
                let schema = resolved(&message[part]);
                assert_eq!(wrong(&DOCUMENT, schema, &example[part]), [""; 0], "{part} of {name}: {example}");
                // What others send may have more than is named, but not here.
                let is_open = name == "dead-letter" || part == "headers";
                let more = if is_open { Vec::new() } else { strictly_wrong(&DOCUMENT, schema, &example[part]) };
                assert_eq!(more, [""; 0], "{part} of {name}: {example}");
            }
        }
    }
}

#[tokio::test]
async fn it_is_served_with_a_tag_and_behind_the_key() {
    let server = Setup::new().with("DATS__SECURITY__API_KEY", "secret").start();
    let client = Client::new(&server.address);
    let key = ("x-api-key", "secret");
    for path in ["/asyncapi.json", "/api/v1/asyncapi.json"] {
        assert_eq!(client.ask("GET", path, &[], "").await.unwrap().status, 401, "{path}");
        let answer = client.ask("GET", path, &[key], "").await.unwrap();
        described::check("GET", path, &answer);
        assert_eq!((answer.status, answer.json() == *DOCUMENT), (200, true), "{path}");
        let known = client.ask("GET", path, &[key, ("if-none-match", answer.header("etag"))], "").await.unwrap();
        described::check("GET", path, &known);
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
    }
}

/// A service with a broker tells of that one, but not who connects there.
#[tokio::test]
async fn names_are_those_of_the_settings() {
    let server = Setup::new()
        .with("RABBITMQ_HOST", "127.0.0.1")
        .with("RABBITMQ_PORT", "1")
        .with("DATS__EVENTS__RABBITMQ__EXCHANGES", "[t, c, q]")
        .with("DATS__EVENTS__RABBITMQ__QUEUES", "[ours]")
        .with("DATS__EVENTS__RABBITMQ__WORK_QUEUES__NAME", "work-{tier}")
        .with("DATS__EVENTS__RABBITMQ__QUEUE_TYPE", "classic")
        .with("DATS__EVENTS__RABBITMQ__PASSWORD", "very-secret-word")
        .start();
    let answer = Client::new(&server.address).get("asyncapi.json").await;
    assert!(!String::from_utf8_lossy(&answer.body).contains("very-secret-word"));
    let told = answer.json();
    let exchange = |name: &str| &told["channels"][name]["bindings"]["amqp"]["exchange"]["name"];
    let names = ["task.created", "artifact.tainted", "review.completed", "dead-letters"].map(exchange);
    assert_eq!(names, ["t", "c", "q", "ours.dead-letters"]);
    let queues = ["queue", "work-queue", "dead-letter-queue"].map(|name| &told["channels"][name]["address"]);
    assert_eq!(queues, ["ours", "work-{tier}", "ours.dead-letters"]);
    assert_eq!(told["channels"]["queue"]["x-arguments"]["x-queue-type"], "classic");
    let server = &told["servers"]["plain"]["variables"];
    assert_eq!((&server["host"]["default"], &server["port"]["default"]), (&"127.0.0.1".into(), &"1".into()));
}
