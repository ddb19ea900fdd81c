//! Lists and streams over the real server, at every size and every position:
//! pages end by their bytes and together are the whole, whatever their limit
//! and however many keys are equal; a stream goes on exactly where it ended.

mod equal_keys;
mod every_list;
mod pages;
mod streams;

use serde_json::{Value, json};

use crate::support::client::Client;

/// Bytes after which a page ends, with some room for what is around its entries.
const PAGE_BYTES: usize = (1 << 20) + 4096;

/// An event in structured mode.
fn event(id: &str, name: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "type": format!("dats.{name}"), "source": "/reads", "id": id, "data": data})
}

/// POST of lines in the form of the old program.
async fn import(client: &Client, lines: &[Value]) {
    let text: String = lines.iter().map(|line| line.to_string() + "\n").collect();
    let headers = [("content-type", "application/x-ndjson")];
    let answer = client.ask("POST", "provenance/import", &headers, text).await.unwrap();
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 200 && told.contains("\"refused\":0"), "{told}");
}

/// A record in the form of the old program, made at one and the same second.
fn record(id: &str, inputs: &[&str], outputs: &[String]) -> Value {
    let output =
        |id: &String| json!({"artifact_id": id, "type": "code", "location": "", "checksum": "", "size_bytes": 1});
    json!({
        "id": id, "task_id": "task", "project_id": "old", "inputs_consumed": inputs,
        "outputs": outputs.iter().map(output).collect::<Vec<_>>(), "verification": {"status": "passed"},
        "created_at": "2026-01-09T18:00:00", "started_at": "2026-01-09T18:00:00",
    })
}

/// A path with one more parameter.
fn with(path: &str, parameter: &str) -> String {
    format!("{path}{}{parameter}", if path.contains('?') { '&' } else { '?' })
}

/// A page, checked against what each page promises.
async fn page(client: &Client, path: &str, name: &str, limit: usize) -> (Vec<Value>, Value) {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let body = answer.json();
    let entries = body[name].as_array().unwrap_or_else(|| panic!("no {name} in {body}")).clone();
    let is_larger = answer.body.len() > PAGE_BYTES;
    assert!(!is_larger || entries.len() == 1, "{path}: {} bytes in {} entries", answer.body.len(), entries.len());
    assert!(entries.len() <= limit, "{path}: {} entries", entries.len());
    let ends_early = entries.len() < limit && !body["next_cursor"].is_null();
    assert_eq!(body["truncated"], json!(ends_early), "{path}: {} entries, {}", entries.len(), body["next_cursor"]);
    (entries, body)
}

/// All entries of a list, page by page with the cursor, and how many pages
/// there are.
async fn whole(client: &Client, path: &str, name: &str, limit: usize) -> (Vec<Value>, usize) {
    let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let asked = with(path, &format!("limit={limit}{cursor}"));
        let (entries, body) = page(client, &asked, name, limit).await;
        pages += 1;
        assert!(pages <= 1000, "{path} has no end");
        assert!(!entries.is_empty() || body["next_cursor"].is_null(), "{asked}: an empty page goes on");
        all.extend(entries);
        let Some(next) = body["next_cursor"].as_str() else { return (all, pages) };
        cursor = format!("&cursor={next}");
    }
}

/// The same with offsets.
async fn whole_by_offset(client: &Client, path: &str, name: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let asked = with(path, &format!("limit={limit}&offset={offset}"));
        let (entries, body) = page(client, &asked, name, limit).await;
        all.extend(entries);
        let Some(next) = body["next_offset"].as_u64() else { return all };
        assert!(next > offset, "{asked}: goes on at {next}");
        offset = next;
    }
}
