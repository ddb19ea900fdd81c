//! A collector that is one: HTTP, and what it was sent, decoded. Everything
//! else that is asked of it, it refuses and remembers, as an Agent that is away.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dats::task::hex;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(20);
/// Kinds of spans, as numbers of the protocol.
pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;
pub(crate) const CONSUMER: i32 = 5;
/// The status of a span that failed.
pub(crate) const ERROR: i32 = 2;

/// What it does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes it.
    Takes,
    /// Refuses it with this status.
    Refuses(u16),
    /// Never answers.
    Hangs,
}

/// One span, with its attributes as text.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) span: Span,
    /// `service.name`, and whatever else the resource has.
    pub(crate) resource: Vec<(String, String)>,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    spans: Vec<Taken>,
    batches: usize,
    asked: Vec<String>,
}

/// A running collector, on a thread of its own; it ends when dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl Taken {
    /// An attribute of the span as text; empty where it is missing.
    pub(crate) fn attribute(&self, name: &str) -> String {
        let attributes = texts(&self.span.attributes);
        attributes.into_iter().find_map(|(key, value)| (key == name).then_some(value)).unwrap_or_default()
    }

    /// Its status; 0 where none was set.
    pub(crate) fn status(&self) -> i32 {
        self.span.status.as_ref().map_or(0, |status| status.code)
    }

    /// Its trace in hexadecimal digits.
    pub(crate) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its own id.
    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// That of its parent; empty for a root.
    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

impl Collector {
    /// On a free port.
    pub(crate) fn start(mood: Mood) -> Self {
        Self::start_on(Self::reserved(), mood)
    }

    /// A free port, where nobody listens yet and nobody else can.
    pub(crate) fn reserved() -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket
    }

    /// On a port that was reserved.
    pub(crate) fn start_on(socket: TcpSocket, mood: Mood) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            socket.listen(64).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { mood, spans: Vec::new(), batches: 0, asked: Vec::new() }));
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, runtime: Some(runtime) }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a setting.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does from now on.
    pub(crate) fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// How many batches were brought, taken or not.
    pub(crate) fn batches(&self) -> usize {
        self.state.lock().unwrap().batches
    }

    /// The `traceparent` of everything else that was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// What was taken up to now.
    pub(crate) fn spans(&self) -> Vec<Taken> {
        self.state.lock().unwrap().spans.clone()
    }

    /// The first span that fits, once it is here.
    pub(crate) async fn wait_for(&self, fits: impl Fn(&Taken) -> bool) -> Taken {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(taken) = self.spans().into_iter().find(&fits) {
                return taken;
            }
            assert!(Instant::now() < deadline, "no such span among {:?}", self.spans());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The span of that name, once it is here.
    pub(crate) async fn named(&self, name: &str) -> Taken {
        self.wait_for(|taken| taken.span.name == name).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = |status: u16| Response::builder().status(status).body(Full::default()).unwrap();
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(status(400)) };
    if head.uri.path() != "/v1/traces" {
        let traceparent = head.headers.get("traceparent").map_or("", |value| value.to_str().unwrap());
        state.lock().unwrap().asked.push(traceparent.to_owned());
        return Ok(status(503));
    }
    assert_eq!(
        (head.method.as_str(), &head.headers["content-type"]),
        ("POST", &"application/x-protobuf".parse().unwrap())
    );
    let mood = {
        let mut state = state.lock().unwrap();
        state.batches += 1;
        if state.mood == Mood::Takes {
            state.spans.extend(decoded(body.to_bytes()));
        }
        state.mood
    };
    match mood {
        Mood::Takes => Ok(status(200)),
        Mood::Refuses(refusal) => Ok(status(refusal)),
        Mood::Hangs => std::future::pending().await,
    }
}

fn decoded(body: Bytes) -> Vec<Taken> {
    let batch = ExportTraceServiceRequest::decode(body).unwrap();
    let mut all = Vec::new();
    for of_resource in batch.resource_spans {
        let resource = texts(&of_resource.resource.unwrap_or_default().attributes);
        let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        all.extend(spans.map(|span| Taken { span, resource: resource.clone() }));
    }
    all
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
