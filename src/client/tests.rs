//! The client against the fake server.

use http::Method;
use serde_json::json;
use tokio::net::TcpListener;

use super::fake_server::{ReceivedRequest, serve};
use super::{Call, Client, Error, Follower, segment, with_query};

/// Answers by path. The default answer repeats the request.
fn respond(request: &ReceivedRequest) -> (u16, String) {
    let last_id = request.header("last-event-id");
    let path = request.uri.split('?').next().unwrap_or_default();
    match path {
        "/api/v1/refuse" => (
            422,
            json!({"title": "Bad", "status": 422, "detail": "one field is wrong", "code": "validation_failed",
                   "errors": [{"pointer": "/priority", "message": "was \"x\": expected low, normal or high"}]})
            .to_string(),
        ),
        "/api/v1/html" => (200, "<html>".to_owned()),
        "/api/v1/gone" => (502, "<html>".to_owned()),
        "/api/v1/stream" if last_id.is_empty() => (200, "id: 1\nevent: a\ndata: {}\n\n: beat\n\n".to_owned()),
        "/api/v1/stream" => (200, format!("id: 2\nevent: b\ndata: after {last_id}\n\n")),
        _ => (
            200,
            json!({"method": request.method, "uri": request.uri, "authorization": request.header("authorization"),
                   "key": request.header("idempotency-key"), "body": request.body})
            .to_string(),
        ),
    }
}

async fn client() -> Client {
    Client::new(&format!("{}/", serve(respond).await), Some("k")).unwrap()
}

#[tokio::test]
async fn calls_carry_method_path_key_and_body() {
    let client = client().await;
    let call = Call::new(Method::POST, with_query("/tasks", &[("a", Some("b c&d".into())), ("e", None)]))
        .json(&json!({"x": 1}))
        .header(http::HeaderName::from_static("idempotency-key"), "once");
    let answer = client.call(call).await.unwrap().json;
    assert_eq!(answer["method"], "POST");
    assert_eq!(answer["uri"], "/api/v1/tasks?a=b+c%26d");
    assert_eq!(answer["authorization"], "Bearer k");
    assert_eq!(answer["key"], "once");
    assert_eq!(answer["body"], "{\"x\":1}");
    assert_eq!(segment("a/b ü"), "a%2Fb%20%C3%BC");
}

#[tokio::test]
async fn refusals_are_read_with_their_fields() {
    let error = client().await.get("/refuse").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "one field is wrong (validation_failed, status 422)\n  /priority: was \"x\": expected low, normal or high"
    );
}

#[tokio::test]
async fn answers_of_other_programs_are_recognised() {
    let client = client().await;
    assert!(matches!(client.get("/html").await, Err(Error::Protocol(_))));
    let error = client.get("/gone").await.unwrap_err();
    assert_eq!(error.to_string(), "bad gateway (status 502)");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&address.to_string(), None).unwrap();
    let error = client.get("/health").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(error.to_string().starts_with(&format!("can't reach http://{address}: ")), "{error}");
}

#[tokio::test]
async fn streams_resume_after_the_last_event() {
    let client = client().await;
    let mut follower = Follower::new(client, "/stream", None, std::time::Duration::from_secs(5));
    let first = follower.next().await.unwrap().unwrap();
    assert_eq!((first.id.as_deref(), first.event.as_str()), (Some("1"), "a"));
    assert!(follower.next().await.unwrap().is_none());
    let second = follower.next().await.unwrap().unwrap();
    assert_eq!(second.data, "after 1");
}

#[test]
fn addresses_are_accepted_in_their_usual_forms() {
    for url in ["http://h:1", "h:1", "http://h:1/", "http://h:1/api/v1/"] {
        assert_eq!(Client::new(url, None).unwrap().base(), "http://h:1/api/v1", "{url}");
    }
    for url in ["https://h", "ftp://h", "http://", "a b"] {
        assert!(Client::new(url, None).is_err(), "{url}");
    }
}
