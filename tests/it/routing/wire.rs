//! What goes over the wire, seen from the other side.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dats::routing::{Error, Service};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{agent, domain, project, rag, service, task};

/// What was asked of a server that keeps everything.
#[derive(Debug, Default)]
struct Kept {
    questions: Vec<(String, HeaderMap, Value)>,
    connections: usize,
    now: usize,
    at_once: usize,
}

/// A server that keeps what it is asked and gives everybody the same answer.
async fn keeping(answer: Value) -> (String, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (shared, text) = (kept.clone(), Bytes::from(answer.to_string()));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            shared.lock().unwrap().connections += 1;
            let (shared, text) = (shared.clone(), text.clone());
            let service = service_fn(move |request| keep(request, shared.clone(), text.clone()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    (url, kept)
}

async fn keep(
    request: Request<Incoming>,
    kept: Arc<Mutex<Kept>>,
    text: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    {
        let mut kept = kept.lock().unwrap();
        kept.now += 1;
        kept.at_once = kept.at_once.max(kept.now);
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut kept = kept.lock().unwrap();
    kept.now -= 1;
    let question = serde_json::from_slice(&body).unwrap();
    kept.questions.push((format!("{} {}", head.method, head.uri), head.headers, question));
    Ok(Response::new(Full::new(text)))
}

/// An answer that fits every endpoint.
fn answer() -> Value {
    json!({
        "mode": "modify", "domain": "code-general", "needs_decomposition": false, "estimated_complexity": "small",
        "subtasks": [], "recommended_tier": "small", "context": "some", "sources": [],
    })
}

#[tokio::test]
async fn questions_are_as_agreed() {
    let (url, kept) = keeping(answer()).await;
    let (agent, rag) = (agent(service(&url)), rag(service(&url)));
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    agent.analyze("do \"it\"\n", &project(), None, trace).await.unwrap();
    agent.analyze("part", &project(), Some("the whole"), trace).await.unwrap();
    agent.decompose(task(), "split", 4, trace).await.unwrap();
    agent.decompose(task(), "split", 9, trace).await.unwrap();
    agent.estimate(task(), "weigh", &domain(), trace).await.unwrap();
    rag.query("find", &project(), trace).await.unwrap();
    let kept = kept.lock().unwrap();
    let asked: Vec<_> = kept.questions.iter().map(|(line, _, question)| (line.as_str(), question.clone())).collect();
    let id = task().to_string();
    assert_eq!(
        asked,
        [
            ("POST /api/v1/analyze", json!({"request": "do \"it\"\n", "project_id": "p-1"})),
            ("POST /api/v1/analyze", json!({"request": "part", "project_id": "p-1", "context": "the whole"})),
            ("POST /api/v1/decompose", json!({"task_id": id, "description": "split", "max_depth": 4})),
            ("POST /api/v1/decompose", json!({"task_id": id, "description": "split", "max_depth": 5})),
            ("POST /api/v1/estimate", json!({"task_id": id, "description": "weigh", "domain": "code-general"})),
            (
                "POST /api/v1/query",
                json!({"query": "find", "project_id": "p-1", "max_tokens": 4000, "search_mode": "hybrid"})
            ),
        ]
    );
    for (line, headers, _) in &kept.questions {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("traceparent"), trace, "{line}");
        assert_eq!(header("content-type"), Some("application/json"), "{line}");
        assert_eq!(header("accept"), Some("application/json"), "{line}");
        assert_eq!(header("user-agent"), Some(concat!("dats/", env!("CARGO_PKG_VERSION"))), "{line}");
        assert!(header("host").unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    assert_eq!(kept.connections, 2, "one for each service");
}

#[tokio::test]
async fn what_is_no_header_is_not_sent() {
    let (url, kept) = keeping(answer()).await;
    agent(service(&url)).estimate(task(), "x", &domain(), Some("a\r\nevil: 1")).await.unwrap();
    let kept = kept.lock().unwrap();
    let (_, headers, _) = &kept.questions[0];
    assert!(!headers.contains_key("traceparent") && !headers.contains_key("evil"));
}

#[tokio::test]
async fn calls_at_once_are_limited_and_connections_used_again() {
    let (url, kept) = keeping(answer()).await;
    let agent = Arc::new(agent(Service { concurrency: 3, ..service(&url) }));
    let mut calls = JoinSet::new();
    for number in 0..12 {
        let agent = agent.clone();
        calls.spawn(async move { agent.estimate(task(), &number.to_string(), &domain(), None).await });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap().unwrap();
    }
    let kept = kept.lock().unwrap();
    assert_eq!((kept.questions.len(), kept.at_once), (12, 3));
    assert!(kept.connections <= 6, "{} connections for 12 calls", kept.connections);
}

#[tokio::test]
async fn waiting_for_a_place_counts_as_time_too() {
    let (url, _) = keeping(answer()).await;
    let one = Service { concurrency: 1, call_timeout: Duration::from_millis(100), ..service(&url) };
    let agent = Arc::new(agent(one));
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let agent = agent.clone();
        calls.spawn(async move { agent.estimate(task(), &number.to_string(), &domain(), None).await });
    }
    let (mut answered, mut late) = (0, 0);
    while let Some(ended) = calls.join_next().await {
        match ended.unwrap() {
            Ok(_) => answered += 1,
            Err(failed) if matches!(failed.error, Error::Timeout(_)) => late += 1,
            Err(failed) => panic!("{failed:?}"),
        }
    }
    assert!(answered >= 1 && late >= 10, "{answered} answered, {late} too late");
}
