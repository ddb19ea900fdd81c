//! What a page of another site can make a browser send to a service on the
//! developer's machine, and what must stay possible.

use serde_json::json;

use super::wire::{Told, Wire};
use crate::support::client::Client;
use crate::support::process::Setup;

async fn send(client: &Client, line: &str, headers: &[&str], body: &str) -> Told {
    let mut wire = Wire::to(client).await;
    let headers = headers.iter().fold(String::new(), |all, header| all + header + "\r\n");
    wire.send(format!("{line} HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())).await;
    wire.answer().await.unwrap()
}

async fn refused(client: &Client, line: &str, headers: &[&str], body: &str, expected: (u16, &str)) {
    let told = send(client, line, headers, body).await;
    assert_eq!((told.status, told.code().as_str()), expected, "{line} {headers:?}: {told:?}");
}

const TASK: &str = r#"{"description":"x"}"#;

#[tokio::test]
async fn pages_of_other_sites_make_nothing() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let own = format!("host: {}", server.address);
    let kept = client.submit(&json!({"description": "x"})).await;
    let cancel = format!("POST /api/v1/tasks/{kept}/cancel");
    let lines =
        ["POST /api/v1/tasks", "POST /api/v1/events", "POST /api/v1/tasks/batch", "POST /api/v1/provenance/import"];
    for line in lines {
        // A form, with and without what browsers say of themselves.
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"] {
            let kind = format!("content-type: {kind}");
            refused(&client, line, &[&own, &kind], TASK, (415, "unsupported_media_type")).await;
            let foreign = [own.as_str(), &kind, "origin: http://evil.example"];
            refused(&client, line, &foreign, TASK, (403, "foreign_origin")).await;
        }
        // Bytes without a type, as of `fetch` with a blob.
        refused(&client, line, &[&own], TASK, (415, "unsupported_media_type")).await;
    }
    let json = "content-type: application/json";
    for (origin, site) in [
        ("origin: http://evil.example", "sec-fetch-site: cross-site"),
        ("origin: null", "sec-fetch-site: cross-site"),
        ("origin: http://127.0.0.1:1", "sec-fetch-site: same-site"),
        ("accept: */*", "sec-fetch-site: cross-site"),
        ("origin: http://evil.example", "accept: */*"),
    ] {
        refused(&client, "POST /api/v1/tasks", &[&own, json, origin, site], TASK, (403, "foreign_origin")).await;
        // A form without fields has no body.
        refused(&client, &cancel, &[&own, origin, site], "", (403, "foreign_origin")).await;
        refused(&client, "DELETE /api/v1/projects/default", &[&own, origin, site], "", (403, "foreign_origin")).await;
    }
    assert_eq!(client.get("tasks").await.json()["total"], 1);
    assert_eq!(client.get(&format!("tasks/{kept}")).await.json()["status"], "pending");
}

#[tokio::test]
async fn the_own_page_and_programs_go_on() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let own = format!("host: {}", server.address);
    let origin = format!("origin: http://{}", server.address);
    let json = "content-type: application/json";
    for headers in [
        vec![own.as_str(), json, &origin, "sec-fetch-site: same-origin"],
        vec![&own, json, "sec-fetch-site: none"],
        vec!["host: x", json],
        vec!["host: orchestrator:8000", json],
        vec!["host: localhost:8000", json, "origin: http://localhost:8000"],
        vec!["host: [::1]:8000", json],
        vec!["host: 10.0.0.1", "content-type: application/json; charset=utf-8"],
    ] {
        let told = send(&client, "POST /api/v1/tasks", &headers, TASK).await;
        assert_eq!(told.status, 201, "{headers:?}: {told:?}");
    }
    // What reads only may come from anywhere: its answer can't be read there.
    let read = ["host: x", "origin: http://evil.example", "sec-fetch-site: cross-site"];
    assert_eq!(send(&client, "GET /api/v1/tasks", &read, "").await.status, 200);
    assert_eq!(send(&client, "POST /api/v1/tasks/no-task/cancel", &["host: x"], "").await.status, 404);
}

#[tokio::test]
async fn a_name_that_points_here_opens_nothing() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    for path in ["/api/v1/tasks", "/metrics", "/health/detailed", "/docs", "/nowhere"] {
        refused(&client, &format!("GET {path}"), &["host: evil.example:8000"], "", (421, "unknown_host")).await;
    }
    for path in ["/livez", "/readyz", "/health", "/api/v1/livez"] {
        for headers in [&["host: evil.example"][..], &[], &["host: x", "host: y"]] {
            assert_eq!(send(&client, &format!("GET {path}"), headers, "").await.status, 200, "{path} {headers:?}");
        }
    }
    for headers in [&[][..], &["host: x", "host: x"], &["host: a b"]] {
        refused(&client, "GET /api/v1/tasks", headers, "", (400, "invalid_host")).await;
    }
    let absolute = "GET http://evil.example/api/v1/tasks";
    refused(&client, absolute, &["host: x"], "", (421, "unknown_host")).await;
}

#[tokio::test]
async fn other_machines_are_served_under_any_name_unless_names_are_given() {
    let any = Setup::new().listen("0.0.0.0:0").start();
    let client = Client::new(&any.address.replace("0.0.0.0", "127.0.0.1"));
    assert_eq!(send(&client, "GET /api/v1/tasks", &["host: dats.example.com"], "").await.status, 200);
    let setup = Setup::new().listen("0.0.0.0:0").with("DATS__SERVER__ALLOWED_HOSTS", "[dats.example.com]");
    let server = setup.start();
    let client = Client::new(&server.address.replace("0.0.0.0", "127.0.0.1"));
    let json = "content-type: application/json";
    let page = ["host: dats.example.com", json, "origin: https://dats.example.com", "sec-fetch-site: same-origin"];
    assert_eq!(send(&client, "POST /api/v1/tasks", &page, TASK).await.status, 201);
    let proxied = ["host: localhost:8000", json, "origin: https://dats.example.com"];
    assert_eq!(send(&client, "POST /api/v1/tasks", &proxied, TASK).await.status, 201);
    refused(&client, "GET /api/v1/tasks", &["host: evil.example"], "", (421, "unknown_host")).await;
}
