//! What leaves this service in the formats of others, read by their own
//! tools: PROV-JSON by the Python package `prov`, pictures by Graphviz, the
//! `OpenAPI` document by `openapi-spec-validator`, events by the official
//! package `cloudevents`.
//!
//! Where a tool is missing its test says that it is skipped; with `CI=true`,
//! where `.ci/run` installs them, it fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::{Server, Setup};

/// Names that mean something in one of the formats.
const NAMES: [&str; 8] = [
    "plain",
    "with space/and slash",
    "quo\"ted \\N \\G \\l \\\\ end\\",
    "9:c;d,e=f(g)[h]'i'",
    "&lt;b&gt; & <b>bold</b> &#65;",
    "%41 %% #x {a|b} $y -> --",
    "größe 尺寸 🙂",
    "_:blank @type //not a comment/* */",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a tool works; without it the caller has nothing to do.
fn has(tool: &Path, tried: &[&str]) -> bool {
    let works = Command::new(tool).args(tried).output().is_ok_and(|output| output.status.success());
    if !works {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} does not work", tool.display());
        println!("skipped: {} does not work; .ci/run installs it", tool.display());
    }
    works
}

/// Python with `tests/interop/requirements.txt`.
fn python() -> PathBuf {
    root().join("target/interop/bin/python")
}

/// Artifacts one after the other, each made out of all before it; the third
/// was made twice.
async fn served() -> (Server, Client) {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    for (number, name) in NAMES.iter().enumerate() {
        make(&client, name, &NAMES[..number]).await;
    }
    make(&client, NAMES[2], &[NAMES[0], "from elsewhere"]).await;
    let taint = json!({"reason": "for a test"});
    assert_eq!(client.post("provenance/plain/taint", &taint).await.status, 200);
    (server, client)
}

async fn make(client: &Client, artifact: &str, inputs: &[&str]) {
    let body = json!({
        "description": artifact, "project_id": "p \"1\" & <2>", "options": {"tier": "small", "qa_profile": "none"},
    });
    let task = client.submit(&body).await;
    let data = json!({
        "task_id": task, "artifact_id": artifact, "model_used": "m \"7\" \\ é", "worker_id": "w & <1>",
        "inputs_consumed": inputs, "output": {"content": artifact, "artifacts": [{"id": artifact, "type": "code"}]},
    });
    let event = json!({
        "specversion": "1.0", "type": "dats.task.output.created", "source": "/test", "id": task, "data": data,
    });
    let answer = client.post("events", &event).await;
    assert_eq!(answer.json()["outcome"], "applied", "{answer:?}");
}

fn ran(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn prov_documents_are_read_by_the_prov_package() {
    let python = python();
    if !has(&python, &["-c", "import prov"]) {
        return;
    }
    let (_server, client) = served().await;
    let folder = tempfile::tempdir().unwrap();
    for (depth, activities) in [("0", 1), ("1", 9), ("9", 9)] {
        let document = client.get(&format!("provenance/plain/export?format=prov&depth={depth}")).await;
        let file = folder.path().join("document.json");
        std::fs::write(&file, &document.body).unwrap();
        let script = root().join("tests/interop/prov_check.py");
        let summary = ran(&Command::new(&python).arg("-W").arg("error").arg(script).arg(&file).output().unwrap());
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["activities"], activities, "depth {depth}: {summary}");
        assert_eq!(summary["agents"], json!(["w & <1>"]));
        if depth == "9" {
            let labels: BTreeSet<_> =
                summary["entities"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let expected = NAMES.into_iter().chain(["from elsewhere"]).collect();
            assert_eq!(labels, expected);
            // Each of 8 out of all before it, and the third out of two once more.
            assert_eq!(summary["derived"].as_array().unwrap().len(), 7 * 8 / 2 + 2);
        }
    }
}

#[tokio::test]
async fn events_are_read_by_the_official_library() {
    let python = python();
    if !has(&python, &["-c", "import cloudevents.core"]) {
        return;
    }
    let (_server, client) = served().await;
    let task = client.submit(&json!({"description": "to be cancelled", "project_id": "größe"})).await;
    client.post(&format!("tasks/{task}/cancel"), &json!({"reason": "no \"use\""})).await;
    // One with all that an event may have, which readers get as it came.
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    let event = json!({
        "specversion": "1.0", "type": "dats.task.started", "source": "urn:worker:7", "id": "größe 尺寸",
        "subject": "a b", "time": null, "dataschema": "https://example.com/schema", "datacontenttype": "text/json",
        "flag": true, "count": -7, "nothing": null, "word": "é", "averylongattributename": "x",
        "data": {"task_id": task, "attempt": 1.0},
    });
    let answer = client.post("events", &event).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = client.ask("GET", "events?limit=1000", &[("accept", "application/json")], String::new()).await.unwrap();
    let page = page.json();
    let events: Vec<&Value> = page["events"].as_array().unwrap().iter().map(|item| &item["event"]).collect();
    assert!(events.len() > 20, "{page}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.json");
    std::fs::write(&file, serde_json::to_vec(&events).unwrap()).unwrap();
    let script = root().join("tests/interop/cloudevents_check.py");
    let summary = ran(&Command::new(&python).arg("-W").arg("error").arg(script).arg(&file).output().unwrap());
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["events"], events.len());
    let types = summary["types"].as_array().unwrap();
    for kind in ["task.created", "task.ready", "task.cancelled", "task.finished", "task.output.created", "task.started"]
    {
        assert!(types.contains(&json!(format!("dats.{kind}"))), "{kind} in {summary}");
    }
}

#[tokio::test]
async fn pictures_are_drawn_by_graphviz() {
    if !has(Path::new("dot"), &["-V"]) {
        return;
    }
    let (_server, client) = served().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.dot");
    let picture = client.get("provenance/plain/export?format=dot&depth=9").await;
    assert_eq!(picture.header("content-type"), "text/vnd.graphviz");
    std::fs::write(&file, &picture.body).unwrap();
    let svg = ran(&Command::new("dot").arg("-Tsvg").arg(&file).output().unwrap());
    assert_eq!((svg.matches("class=\"node\"").count(), svg.matches("class=\"edge\"").count()), (9, 7 * 8 / 2 + 1));
    // What people see are the names.
    let texts: BTreeSet<String> = svg.split("<text ").skip(1).map(|text| shown(text).unwrap()).collect();
    assert_eq!(texts, NAMES.map(str::to_owned).into());
}

#[test]
fn the_document_of_the_interface_is_valid() {
    let python = python();
    if !has(&python, &["-c", "import openapi_spec_validator"]) {
        return;
    }
    let document = root().join("contracts/openapi.json");
    let told = ran(&Command::new(&python).args(["-m", "openapi_spec_validator"]).arg(document).output().unwrap());
    assert!(told.trim_end().ends_with(": OK"), "{told}");
}

/// The text of an element of an SVG, from within its tag on.
fn shown(element: &str) -> Option<String> {
    let text = element.split_once('>')?.1.split_once("</text>")?.0;
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#45;", "-"), ("&#160;", " ")];
    let text = entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character));
    Some(text.replace("&amp;", "&"))
}
