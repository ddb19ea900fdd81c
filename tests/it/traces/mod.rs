//! Traces reach a collector as they happened, and a collector that is away,
//! refuses or hangs costs nothing but them.

mod away;

use serde_json::json;

use crate::support::client::Client;
use crate::support::collector::{CLIENT, Collector, ERROR, Mood, SERVER};
use crate::support::process::{Setup, run};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A server whose spans leave soon.
fn setup(endpoint: &str) -> Setup {
    Setup::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).with("OTEL_BSP_SCHEDULE_DELAY", "50")
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

#[tokio::test]
async fn a_request_is_a_span_below_its_caller() {
    let collector = Collector::start(Mood::Takes);
    let server = setup(&collector.url()).with("OTEL_SERVICE_NAME", "dats-here").start();
    let client = Client::new(&server.address);
    let body = json!({"description": "x"});
    let answer = client.try_post("tasks", &body, &[("traceparent", &traceparent("01"))]).await.unwrap();
    assert_eq!(answer.status, 201);
    let span = collector.named("POST /api/v1/tasks").await;
    assert_eq!((span.trace().as_str(), span.parent().as_str()), (TRACE, CALLER));
    assert_eq!((span.span.kind, span.status()), (SERVER, 0));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/tasks"),
        ("http.response.status_code", "201"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
    ] {
        assert_eq!(span.attribute(name), value, "{name} of {span:?}");
    }
    assert!(span.span.end_time_unix_nano >= span.span.start_time_unix_nano);
    for (name, value) in [("service.name", "dats-here"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        assert!(span.resource.contains(&(name.to_owned(), value.to_owned())), "{span:?}");
    }
    // What begins with the request is below its span.
    let page = client.get("events").await.json();
    let passed_on = format!("00-{TRACE}-{}-01", span.id());
    assert_eq!(page["events"][0]["event"]["traceparent"], passed_on, "{page}");
}

#[tokio::test]
async fn a_request_of_nobody_s_trace_begins_one() {
    let collector = Collector::start(Mood::Takes);
    let server = setup(&collector.url()).start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x"})).await;
    assert_eq!(client.get(&format!("tasks/{task}")).await.status, 200);
    let read = collector.named("GET /api/v1/tasks/{id}").await;
    let submission = collector.named("POST /api/v1/tasks").await;
    assert_eq!((read.parent(), submission.parent()), (String::new(), String::new()));
    assert_ne!(read.trace(), submission.trace());
    let page = client.get("events").await.json();
    let passed_on = format!("00-{}-{}-01", submission.trace(), submission.id());
    assert_eq!(page["events"][0]["event"]["traceparent"], passed_on, "{page}");
    assert!(!format!("{read:?}").contains(&task), "ids stay out of traces: {read:?}");
}

#[tokio::test]
async fn refusals_have_spans_and_questions_about_health_have_none() {
    let collector = Collector::start(Mood::Takes);
    let server = setup(&collector.url()).start();
    let client = Client::new(&server.address);
    for path in ["/livez", "/readyz", "/metrics", "health", "health/detailed", "openapi.json", "/docs"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    assert_eq!(client.get("tasks/none").await.status, 404);
    let read = collector.named("GET /api/v1/tasks/{id}").await;
    assert_eq!((read.attribute("http.response.status_code").as_str(), read.status()), ("404", 0));
    assert_eq!(client.ask("BREW", "tasks", &[], "").await.unwrap().status, 405);
    let brew = collector.named("HTTP").await;
    assert_eq!(
        (brew.attribute("http.request.method").as_str(), brew.attribute("http.route")),
        ("_OTHER", String::new())
    );
    assert_eq!(client.ask("HEAD", "tasks", &[], "").await.unwrap().status, 200);
    assert_eq!(collector.named("HEAD /api/v1/tasks").await.attribute("http.request.method"), "HEAD");
    assert_eq!(client.get("nowhere").await.status, 404);
    assert_eq!(collector.named("GET").await.attribute("http.response.status_code"), "404");
    assert_eq!(collector.spans().len(), 4, "{:?}", collector.spans());
}

/// Spans leave in their order: when a later one is there, an earlier one was
/// not made.
#[tokio::test]
async fn a_caller_that_is_not_sampled_has_no_span() {
    let collector = Collector::start(Mood::Takes);
    let server = setup(&collector.url()).start();
    let client = Client::new(&server.address);
    let (body, caller) = (json!({"description": "x"}), traceparent("00"));
    assert_eq!(client.try_post("tasks", &body, &[("traceparent", &caller)]).await.unwrap().status, 201);
    let page = client.get("events").await.json();
    collector.named("GET /api/v1/events").await;
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());
    let passed_on = page["events"][0]["event"]["traceparent"].as_str().unwrap().to_owned();
    assert!(passed_on.starts_with(&format!("00-{TRACE}-")) && passed_on.ends_with("-00"), "{passed_on}");
}

#[tokio::test]
async fn a_stream_s_span_ends_with_the_head_of_its_answer() {
    let collector = Collector::start(Mood::Takes);
    let server = setup(&collector.url()).start();
    let client = Client::new(&server.address);
    let mut stream = client.connect().await;
    let request = b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.unwrap();
    let span = collector.named("GET /api/v1/events").await;
    assert_eq!(span.attribute("http.response.status_code"), "200");
}

/// A client that goes away looks like one that has closed its direction: its wait
/// ends at once, with an answer.
#[tokio::test]
async fn a_wait_that_nobody_waits_for_ends_its_span() {
    let collector = Collector::start(Mood::Takes);
    let server = setup(&collector.url()).start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x"})).await;
    let mut stream = client.connect().await;
    let request = format!("GET /api/v1/tasks/{task}?wait=60 HTTP/1.1\r\nhost: x\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    // Beside the question itself.
    while !String::from_utf8_lossy(&client.get("/metrics").await.body).contains("dats_http_requests_in_flight 2") {}
    drop(stream);
    let span = collector.named("GET /api/v1/tasks/{id}").await;
    assert_eq!(span.attribute("http.response.status_code"), "200");
}

#[tokio::test]
async fn questions_to_the_agent_are_spans_below_the_request() {
    let collector = Collector::start(Mood::Takes);
    let agent = format!("{}/agent", collector.url());
    let server = setup(&collector.url()).with("DATS__ROUTING__AGENT_SERVICE_URL", &agent).start();
    let client = Client::new(&server.address);
    client.submit(&json!({"description": "x"})).await;
    let submission = collector.named("POST /api/v1/tasks").await;
    let again = collector.wait_for(|taken| taken.attribute("http.request.resend_count") == "1").await;
    let first = collector.named("POST /analyze").await;
    for question in [&first, &again] {
        assert_eq!((question.trace(), question.parent()), (submission.trace(), submission.id()), "{question:?}");
        assert_eq!((question.span.kind, question.status()), (CLIENT, ERROR));
        assert_eq!(question.attribute("http.response.status_code"), "503");
        assert_eq!(question.attribute("error.type"), "503");
        assert_eq!(question.attribute("url.full"), format!("{agent}/analyze"));
        assert_eq!(question.attribute("server.address"), "127.0.0.1");
        assert_eq!(question.attribute("server.port"), collector.address().port().to_string());
        let told = format!("00-{}-{}-01", question.trace(), question.id());
        assert!(collector.asked().contains(&told), "the Agent is told of each: {:?}", collector.asked());
    }
    assert_eq!(first.attribute("http.request.resend_count"), "");
}

#[test]
fn an_address_that_can_not_be_used_is_refused() {
    for (url, names) in [
        ("https://-collector:4318", "must have a host that a certificate can be issued for"),
        ("http://dats:hunter2@collector:4318", "must not contain a user name or password"),
        ("collector:4317", "must begin with http://"),
    ] {
        for command in [&["config", "check"][..], &["serve"]] {
            let ran = run("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", url)], command);
            assert_eq!(ran.code, 2, "{url}: {}", ran.stderr);
            assert!(ran.stderr.contains(names) && ran.stderr.contains("telemetry.otlp_endpoint"), "{}", ran.stderr);
            assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        }
    }
    let shown = run("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://dats:hunter2@collector:4318")], &["config", "show"]);
    assert!(!shown.stdout.contains("hunter2") && !shown.stderr.contains("hunter2"), "{}", shown.stdout);
}
