//! The HTTP contract against the real binary: the shape of every answer and
//! every problem, and what hostile clients get.

mod artifacts;
mod asyncapi;
mod cascades;
mod checkpoints;
mod conditions;
mod crowds;
mod dead_letters;
mod described;
mod golden;
mod hostile;
mod openapi;
mod provenance;
mod transcript;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::{Server, Setup};

/// A server with the default settings and a client for it.
fn served() -> (Server, Client) {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    (server, client)
}

/// An event in structured mode.
fn event(id: &str, name: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "type": format!("dats.{name}"), "source": "/test", "id": id, "data": data})
}

/// How many tasks there are.
async fn count(client: &Client) -> u64 {
    client.get("tasks?limit=1").await.json()["total"].as_u64().unwrap()
}
