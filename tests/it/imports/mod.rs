//! Provenance of the old program in and out: what was imported comes out with
//! the same values, in whatever order it came, however often, and however the
//! import ended; flags follow the rule.

mod folder;
mod lines;
mod rule;
mod words;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};

/// POST of lines; the results, the last of which is the summary.
async fn import(client: &Client, lines: &[Value]) -> Vec<Value> {
    import_text(client, &lines.iter().map(|line| line.to_string() + "\n").collect::<String>()).await
}

async fn import_text(client: &Client, text: &str) -> Vec<Value> {
    let headers = [("content-type", "application/x-ndjson")];
    let answer = client.ask("POST", "provenance/import", &headers, text.to_owned()).await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    parsed(&answer)
}

async fn export(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("provenance/export{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    parsed(&answer)
}

fn parsed(answer: &Answer) -> Vec<Value> {
    let text = std::str::from_utf8(&answer.body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outcomes(results: &[Value]) -> Vec<&str> {
    results.iter().filter_map(|result| result["outcome"].as_str()).collect()
}

/// A record with a text as its id, made at a second, of artifacts.
fn record(id: &str, second: u32, inputs: &[&str], outputs: &[&str]) -> Value {
    let time = format!("2026-01-09T18:{:02}:{:02}", second / 60, second % 60);
    let output =
        |id: &&str| json!({"artifact_id": id, "type": "code", "location": "", "checksum": "", "size_bytes": 1});
    json!({
        "id": id, "task_id": format!("task of {id}"), "project_id": "old", "inputs_consumed": inputs,
        "outputs": outputs.iter().map(output).collect::<Vec<_>>(), "verification": {"status": "passed"},
        "created_at": time, "started_at": time,
    })
}
