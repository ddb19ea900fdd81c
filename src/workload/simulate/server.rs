//! The HTTP server of the stand-ins for Agent and RAG. It reads a question, waits for the
//! configured latency, and answers or produces the configured fault.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chance::{Chance, parse_rate};
use super::fault::{AnswerBody, Fault, with_wrong_types};
use crate::clock::Clock;
use crate::workload::console::Console;
use crate::workload::error::Error;

const BASE_PATH: &str = "/api/v1";
/// Largest question, in bytes.
const MAX_QUESTION_BYTES: usize = 1024 * 1024;
/// Most connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 1024;
/// Most distinct questions whose repetitions are counted; at this number all counts are
/// reset.
const MAX_COUNTED_QUESTIONS: usize = 100_000;
/// Pause after a failure to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How a stand-in answers, whichever service it stands in for.
#[derive(Debug, Clone, Args)]
pub struct Behaviour {
    /// Address and port to listen on; port 0 selects a free one.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Latency of an answer, in milliseconds.
    #[arg(long, default_value_t = 100)]
    pub latency_ms: u64,
    /// Largest random addition to the latency, in milliseconds.
    #[arg(long, default_value_t = 50)]
    pub jitter_ms: u64,
    /// Fault of the answers; the last four concern decompositions only.
    #[arg(long, value_enum, default_value = "none")]
    pub fault: Fault,
    /// Share of answers that have the fault, from 0 to 1.
    #[arg(long, default_value_t = 1.0, value_parser = parse_rate)]
    pub fault_rate: f64,
    /// Endpoints whose answers have the fault, separated by commas, such as `estimate`; all
    /// endpoints if not given.
    #[arg(long, value_delimiter = ',')]
    pub fault_on: Vec<String>,
    /// Restrict the fault to questions that contain this text.
    #[arg(long, value_name = "TEXT")]
    pub fault_text: Option<String>,
    /// HTTP status of the fault `error`.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(300..=599))]
    pub error_status: u16,
    /// Seconds in the `Retry-After` header of the fault `error`.
    #[arg(long, value_name = "SECONDS")]
    pub retry_after: Option<u64>,
    /// Delay of the fault `late`, in milliseconds.
    #[arg(long, default_value_t = 120_000)]
    pub late_ms: u64,
    /// Seed of the answers: the same seed gives the same answers to the same questions. Which
    /// answers have the fault also depends on how often a question was asked.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print only the address and errors.
    #[arg(long)]
    pub quiet: bool,
}

impl Behaviour {
    /// Quiet and without faults, on a free port of the loopback address.
    pub(super) fn without_faults(latency_ms: u64, jitter_ms: u64) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            latency_ms,
            jitter_ms,
            fault: Fault::None,
            fault_rate: 0.0,
            fault_on: Vec::new(),
            fault_text: None,
            error_status: 500,
            retry_after: None,
            late_ms: 0,
            seed: 1,
            quiet: true,
        }
    }
}

/// The answers of a stand-in.
pub trait Answers: Send + Sync + 'static {
    /// Name of the stand-in.
    const NAME: &'static str;
    /// Names of its endpoints, without a slash.
    const ENDPOINTS: &'static [&'static str];

    /// Returns the answer to a question, or why the question is invalid. `fault` is a fault
    /// of decompositions that the answer must have.
    fn answer(&self, endpoint: &str, question: &Value, fault: Option<Fault>) -> Result<Value, String>;
}

/// Returns a required text field of a question.
pub(super) fn required_text<'a>(question: &'a Value, field: &str) -> Result<&'a str, String> {
    match question.get(field) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(other) => Err(format!("{field}: expected text that is not blank, got {other}")),
        None => Err(format!("{field}: is required")),
    }
}

/// Returns a required whole number of a question.
pub(super) fn required_number(question: &Value, field: &str) -> Result<u64, String> {
    match question.get(field) {
        Some(value) => value.as_u64().ok_or_else(|| format!("{field}: expected a whole number, got {value}")),
        None => Err(format!("{field}: is required")),
    }
}

/// A stand-in whose address is bound. It answers while [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct Listening<A> {
    listener: TcpListener,
    /// URL of the stand-in, with the base path.
    pub url: String,
    server: Arc<Server<A>>,
}

impl<A: Answers> Listening<A> {
    /// Binds the address of the behaviour.
    pub(super) async fn bind(answers: A, behaviour: Behaviour, console: Console) -> Result<Self, Error> {
        check(&behaviour, A::ENDPOINTS)?;
        let listen = behaviour.listen;
        let failed = |error| Error::Failed(format!("can't listen on {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let url = format!("http://{}{BASE_PATH}", listener.local_addr().map_err(failed)?);
        Ok(Self { listener, url, server: Arc::new(Server { answers, behaviour, console, asked: Mutex::default() }) })
    }

    /// Returns the name of the stand-in.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        A::NAME
    }

    /// Answers questions until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, server, .. } = self;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((socket, _)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // A failure only makes small answers slower.
            let _ = socket.set_nodelay(true);
            let (server, stop) = (Arc::clone(&server), stop.clone());
            connections.spawn(async move {
                let service = service_fn(move |request| Arc::clone(&server).handle(request));
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new());
                let connection = builder.serve_connection(TokioIo::new(socket), service);
                // An error means that the client has disconnected.
                tokio::select! {
                    _ = connection => {}
                    () = stop.cancelled() => {}
                }
                drop(permit);
            });
        }
        connections.close();
        connections.wait().await;
    }
}

/// Refuses faults that could never occur.
fn check(behaviour: &Behaviour, endpoints: &[&str]) -> Result<(), Error> {
    let unknown = behaviour.fault_on.iter().find(|endpoint| !endpoints.contains(&endpoint.as_str()));
    if let Some(unknown) = unknown {
        let known = endpoints.join(", ");
        return Err(Error::Usage(format!("there is no endpoint {unknown}: use one of {known} with --fault-on")));
    }
    if behaviour.fault.concerns_decomposition() && !endpoints.contains(&"decompose") {
        let message = "this fault concerns decompositions, which only the Agent makes: use `dats simulate agent`";
        return Err(Error::Usage(message.to_owned()));
    }
    Ok(())
}

#[derive(Debug)]
struct Server<A> {
    answers: A,
    behaviour: Behaviour,
    console: Console,
    /// How often each question was asked.
    asked: Mutex<HashMap<(String, String), u64>>,
}

type HttpAnswer = Response<AnswerBody>;

impl<A: Answers> Server<A> {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<HttpAnswer, Infallible> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix(BASE_PATH).unwrap_or(&path);
        if path == "/health" {
            return Ok(health(request.method()));
        }
        let Some(endpoint) = A::ENDPOINTS.iter().find(|endpoint| path.strip_prefix('/') == Some(**endpoint)) else {
            return Ok(refusal(StatusCode::NOT_FOUND, &format!("there is nothing at {path}")));
        };
        if request.method() != Method::POST {
            return Ok(method_not_allowed("POST"));
        }
        let answer = self.reply(endpoint, request).await;
        if !self.behaviour.quiet {
            (self.console.line)(&format!("{endpoint:9}  {}", answer.status().as_u16()));
        }
        Ok(answer)
    }

    async fn reply(&self, endpoint: &str, request: Request<Incoming>) -> HttpAnswer {
        let Ok(body) = Limited::new(request.into_body(), MAX_QUESTION_BYTES).collect().await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the question is incomplete, or longer than 1 MiB");
        };
        let question = match serde_json::from_slice::<Value>(&body.to_bytes()) {
            Ok(question @ Value::Object(_)) => question,
            Ok(_) => return refusal(StatusCode::BAD_REQUEST, "expected a JSON object"),
            Err(error) => return refusal(StatusCode::BAD_REQUEST, &format!("not JSON: {error}")),
        };
        let asked = self.count_question(endpoint, &question);
        let mut chance = Chance::new(self.behaviour.seed, &format!("fault {endpoint}"), &question.to_string(), asked);
        let fault = self.choose_fault(endpoint, &question, &mut chance);
        let of_decomposition = Some(fault).filter(|fault| fault.concerns_decomposition());
        let answer = match self.answers.answer(endpoint, &question, of_decomposition) {
            Ok(answer) => answer,
            Err(reason) => return refusal(StatusCode::BAD_REQUEST, &reason),
        };
        let (latency, jitter) = (self.behaviour.latency_ms, self.behaviour.jitter_ms);
        sleep(chance.delay(Duration::from_millis(latency), Duration::from_millis(jitter))).await;
        self.with_fault(fault, &answer).await
    }

    /// Counts a question and returns how often it was asked, this time included.
    fn count_question(&self, endpoint: &str, question: &Value) -> u64 {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= MAX_COUNTED_QUESTIONS {
            asked.clear();
        }
        let count = asked.entry((endpoint.to_owned(), question.to_string())).or_default();
        *count += 1;
        *count
    }

    /// Chooses the fault of an answer.
    fn choose_fault(&self, endpoint: &str, question: &Value, chance: &mut Chance) -> Fault {
        let Behaviour { fault, fault_rate, fault_on, fault_text, .. } = &self.behaviour;
        let concerns_endpoint = fault_on.is_empty() || fault_on.iter().any(|each| each == endpoint);
        let contains = |text: &String| {
            question
                .as_object()
                .into_iter()
                .flatten()
                .any(|(_, value)| value.as_str().is_some_and(|field| field.contains(text)))
        };
        let applies = concerns_endpoint && fault_text.as_ref().is_none_or(contains);
        if chance.hits(*fault_rate) && applies { *fault } else { Fault::None }
    }

    /// Returns the answer with its fault.
    async fn with_fault(&self, fault: Fault, answer: &Value) -> HttpAnswer {
        let text = Bytes::from(answer.to_string());
        let body = match fault {
            Fault::Hang => std::future::pending().await,
            Fault::Late => {
                sleep(Duration::from_millis(self.behaviour.late_ms)).await;
                AnswerBody::Whole(text)
            }
            Fault::Error => return self.error_answer(),
            Fault::Cut => AnswerBody::Cut(text.slice(..text.len() / 2)),
            Fault::Garbage => AnswerBody::Whole(Bytes::from_static(b"<html><body>Bad gateway</body></html>")),
            Fault::Endless => {
                let repeated = Bytes::from_static(&[b' '; 16 * 1024]);
                AnswerBody::Endless { beginning: text.slice(..text.len() - 1), repeated }
            }
            Fault::WrongTypes => AnswerBody::Whole(Bytes::from(with_wrong_types(answer).to_string())),
            Fault::None | Fault::Cycle | Fault::UnknownSibling | Fault::Duplicate | Fault::TooMany => {
                AnswerBody::Whole(text)
            }
        };
        http_answer(StatusCode::OK, body)
    }

    fn error_answer(&self) -> HttpAnswer {
        let status = StatusCode::from_u16(self.behaviour.error_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = refusal(status, "this failure was requested with --fault error");
        if let Some(seconds) = self.behaviour.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

fn health(method: &Method) -> HttpAnswer {
    if method != Method::GET {
        return method_not_allowed("GET");
    }
    let health = json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION"), "timestamp": Clock::new().wall().to_string()});
    http_answer(StatusCode::OK, AnswerBody::Whole(Bytes::from(health.to_string())))
}

fn method_not_allowed(allowed: &'static str) -> HttpAnswer {
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("expected {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn refusal(status: StatusCode, reason: &str) -> HttpAnswer {
    http_answer(status, AnswerBody::Whole(Bytes::from(json!({"detail": reason}).to_string())))
}

fn http_answer(status: StatusCode, body: AnswerBody) -> HttpAnswer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}
