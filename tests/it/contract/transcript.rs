//! A conversation with the server as text, with what differs from run to run
//! made alike.

use std::fmt::Write;

use serde_json::Value;

use super::described;
use crate::support::client::{Answer, Client};

/// Numbers that depend on time or machine.
const VARYING: [&str; 7] =
    ["execution_time_ms", "oldest_age_seconds", "size_bytes", "free_mib", "commits", "commands", "queued_commands"];
/// Headers that are part of the contract.
const HEADERS: [&str; 8] = [
    "content-type",
    "location",
    "etag",
    "allow",
    "retry-after",
    "idempotent-replayed",
    "www-authenticate",
    "content-range",
];

/// A conversation.
pub(super) struct Transcript {
    client: Client,
    text: String,
    ids: Vec<String>,
}

impl Transcript {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone(), text: String::new(), ids: Vec::new() }
    }

    pub(super) async fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, &[("accept", "application/json")], "").await.json()
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, &[("content-type", "application/json")], &body.to_string()).await.json()
    }

    pub(super) async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let answer = self.client.ask(method, path, headers, body.to_owned()).await.unwrap();
        assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
        described::check(method, path, &answer);
        let mut entry = format!("{method} {path}\n");
        for (name, value) in headers.iter().filter(|(name, _)| !["accept", "content-type"].contains(name)) {
            let _ = writeln!(entry, "> {name}: {value}");
        }
        let shown: String = body.chars().take(400).collect();
        let _ = writeln!(entry, "{shown}\n{}", answer.status);
        for name in HEADERS.into_iter().filter(|name| !answer.header(name).is_empty()) {
            // A hash over what has ids and times in it.
            let is_hash = name == "etag"
                && (path.starts_with("provenance/") || path.starts_with("artifacts/") && !path.contains("/content"));
            let _ = writeln!(entry, "< {name}: {}", if is_hash { "<hash>" } else { answer.header(name) });
        }
        entry.push_str(&pretty(&answer));
        let entry = self.alike(&entry);
        self.text.push_str(&entry);
        self.text.push_str("\n\n");
        answer
    }

    /// The conversation goes on with another server.
    pub(super) fn turn_to(&mut self, client: &Client) {
        self.client = client.clone();
    }

    /// Ids by the order in which they appear, times as such.
    fn alike(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(id) = rest.get(..36).filter(|id| is_uuid(id)) {
                let known = self.ids.iter().position(|known| known == id);
                let number = known.unwrap_or_else(|| {
                    self.ids.push(id.to_owned());
                    self.ids.len() - 1
                });
                let _ = write!(out, "<id {number}>");
                rest = &rest[36..];
            } else if let Some(length) = time_length(rest) {
                out.push_str("<time>");
                rest = &rest[length..];
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        out
    }

    /// The whole conversation.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

fn pretty(answer: &Answer) -> String {
    let mut json = answer.json();
    if json.is_null() {
        return String::from_utf8_lossy(&answer.body).into_owned();
    }
    blur(&mut json);
    serde_json::to_string_pretty(&json).unwrap()
}

fn blur(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if VARYING.contains(&name.as_str()) && value.is_number() {
                    *value = Value::from("<number>");
                } else if name == "next_cursor" && value.is_string() {
                    *value = Value::from("<cursor>");
                } else {
                    blur(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blur),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The length of a time in RFC 3339, if one stands here.
fn time_length(text: &str) -> Option<usize> {
    let head = text.as_bytes().get(..19)?;
    let fits = head.iter().enumerate().all(|(place, byte)| match place {
        4 | 7 => *byte == b'-',
        10 => *byte == b'T',
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let end = text.find('Z').filter(|end| *end <= 30)?;
    fits.then_some(end + 1)
}
