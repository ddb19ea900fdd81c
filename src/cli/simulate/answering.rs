//! A small HTTP server for the stand-ins that are asked: it reads questions,
//! takes its time, and answers or fails as it was told to.

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

use super::chance::Chance;
use super::fault::{AnswerBody, Fault, with_wrong_types};
use crate::cli::args;
use crate::cli::exit::Failure;
use crate::cli::output::{line, now};

const BASE_PATH: &str = "/api/v1";
/// Largest question, in bytes.
const MAX_QUESTION_BYTES: usize = 1024 * 1024;
/// Connections at once; further ones wait.
const MAX_CONNECTIONS: usize = 1024;
/// Questions whose repetitions are counted; then the count starts anew.
const MAX_COUNTED: usize = 100_000;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How a stand-in behaves, whatever it stands in for.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Behaviour {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    pub(in crate::cli) listen: SocketAddr,
    /// What an answer takes, in milliseconds.
    #[arg(long, default_value_t = 100)]
    pub(in crate::cli) latency_ms: u64,
    /// What it may take on top, in milliseconds.
    #[arg(long, default_value_t = 50)]
    pub(in crate::cli) jitter_ms: u64,
    /// How answers go wrong; the last four concern decompositions alone.
    #[arg(long, value_enum, default_value = "none")]
    pub(in crate::cli) fault: Fault,
    /// Share of answers that go wrong so, from 0 to 1.
    #[arg(long, default_value_t = 1.0, value_parser = args::rate)]
    pub(in crate::cli) fault_rate: f64,
    /// Endpoints whose answers go wrong, by commas, such as `estimate`; all
    /// of them without it.
    #[arg(long, value_delimiter = ',')]
    pub(in crate::cli) fault_on: Vec<String>,
    /// Only answers to questions that contain this text go wrong.
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) fault_text: Option<String>,
    /// Status of the fault `error`.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(300..=599))]
    pub(in crate::cli) error_status: u16,
    /// Seconds that the fault `error` asks to wait, in `Retry-After`.
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) retry_after: Option<u64>,
    /// How late the fault `late` is, in milliseconds.
    #[arg(long, default_value_t = 120_000)]
    pub(in crate::cli) late_ms: u64,
    /// The same seed answers the same to the same questions; what goes wrong
    /// also depends on how often a question was asked.
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Print nothing but the address and errors.
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
}

impl Behaviour {
    /// Quiet and without a fault, on a free port of this machine.
    pub(super) fn sound(latency_ms: u64, jitter_ms: u64) -> Self {
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

/// What a stand-in knows.
pub(in crate::cli) trait Answers: Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
    /// The endpoints it has, without a slash.
    const ENDPOINTS: &'static [&'static str];

    /// The answer to a question, or what is wrong with it. `fault` is one of
    /// those that the answer itself must have.
    fn answer(&self, endpoint: &str, question: &Value, fault: Option<Fault>) -> Result<Value, String>;
}

/// A required text of a question.
pub(super) fn text<'a>(question: &'a Value, field: &str) -> Result<&'a str, String> {
    match question.get(field) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(other) => Err(format!("{field}: expected a text that is not blank, got {other}")),
        None => Err(format!("{field}: is required")),
    }
}

/// A required whole number of a question.
pub(super) fn whole(question: &Value, field: &str) -> Result<u64, String> {
    match question.get(field) {
        Some(value) => value.as_u64().ok_or_else(|| format!("{field}: expected a whole number, got {value}")),
        None => Err(format!("{field}: is required")),
    }
}

/// A stand-in that has its address, and answers as soon as it runs.
pub(in crate::cli) struct Listening<A> {
    listener: TcpListener,
    /// Its address with the base path.
    pub(in crate::cli) url: String,
    server: Arc<Server<A>>,
}

impl<A: Answers> Listening<A> {
    /// Takes the address that the behaviour names.
    pub(super) async fn start(answers: A, behaviour: Behaviour) -> Result<Self, Failure> {
        check(&behaviour, A::ENDPOINTS)?;
        let listen = behaviour.listen;
        let failed = |error| Failure::Failed(format!("can't listen on {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let url = format!("http://{}{BASE_PATH}", listener.local_addr().map_err(failed)?);
        Ok(Self { listener, url, server: Arc::new(Server { answers, behaviour, asked: Mutex::default() }) })
    }

    /// Says where it listens, then answers until `stop`.
    pub(super) async fn announce_and_run(self, stop: CancellationToken) -> Result<(), Failure> {
        line(&format!("{} listening on {}", A::NAME, self.url))?;
        self.run(stop).await;
        Ok(())
    }

    /// Answers until `stop`.
    pub(in crate::cli) async fn run(self, stop: CancellationToken) {
        let Self { listener, server, .. } = self;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((socket, _)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Small answers must not wait for more; without it they are slower.
            let _ = socket.set_nodelay(true);
            let (server, stop) = (Arc::clone(&server), stop.clone());
            connections.spawn(async move {
                let service = service_fn(move |request| Arc::clone(&server).handle(request));
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new());
                let connection = builder.serve_connection(TokioIo::new(socket), service);
                // A client that goes away is its own business.
                tokio::select! {
                    _ = connection => {}
                    () = stop.cancelled() => {}
                }
                drop(place);
            });
        }
        connections.close();
        connections.wait().await;
    }
}

/// Refuses what could never happen, rather than run without it.
fn check(behaviour: &Behaviour, endpoints: &[&str]) -> Result<(), Failure> {
    let unknown = behaviour.fault_on.iter().find(|endpoint| !endpoints.contains(&endpoint.as_str()));
    if let Some(unknown) = unknown {
        let known = endpoints.join(", ");
        return Err(Failure::Usage(format!("there is no endpoint {unknown}: expected one of {known}")));
    }
    if behaviour.fault.is_of_decomposition() && !endpoints.contains(&"decompose") {
        return Err(Failure::Usage("this fault concerns decompositions alone, which the Agent makes".to_owned()));
    }
    Ok(())
}

struct Server<A> {
    answers: A,
    behaviour: Behaviour,
    /// How often each question was asked.
    asked: Mutex<HashMap<(String, String), u64>>,
}

type Answer = Response<AnswerBody>;

impl<A: Answers> Server<A> {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix(BASE_PATH).unwrap_or(&path);
        if path == "/health" {
            return Ok(health(request.method()));
        }
        let Some(endpoint) = A::ENDPOINTS.iter().find(|endpoint| path.strip_prefix('/') == Some(**endpoint)) else {
            return Ok(refusal(StatusCode::NOT_FOUND, &format!("there is nothing at {path}")));
        };
        if request.method() != Method::POST {
            return Ok(not_allowed("POST"));
        }
        let answer = self.reply(endpoint, request).await;
        if !self.behaviour.quiet {
            // A closed stdout must not stop answers that somebody waits for.
            let _ = line(&format!("{endpoint:9}  {}", answer.status().as_u16()));
        }
        Ok(answer)
    }

    async fn reply(&self, endpoint: &str, request: Request<Incoming>) -> Answer {
        let Ok(body) = Limited::new(request.into_body(), MAX_QUESTION_BYTES).collect().await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the question is too long, or was not whole");
        };
        let question = match serde_json::from_slice::<Value>(&body.to_bytes()) {
            Ok(question @ Value::Object(_)) => question,
            Ok(_) => return refusal(StatusCode::BAD_REQUEST, "expected a JSON object"),
            Err(error) => return refusal(StatusCode::BAD_REQUEST, &format!("not JSON: {error}")),
        };
        let asked = self.count(endpoint, &question);
        let mut chance = Chance::new(self.behaviour.seed, &format!("fault {endpoint}"), &question.to_string(), asked);
        let fault = self.fault(endpoint, &question, &mut chance);
        let of_decomposition = Some(fault).filter(|fault| fault.is_of_decomposition());
        let answer = match self.answers.answer(endpoint, &question, of_decomposition) {
            Ok(answer) => answer,
            Err(reason) => return refusal(StatusCode::BAD_REQUEST, &reason),
        };
        let (latency, jitter) = (self.behaviour.latency_ms, self.behaviour.jitter_ms);
        sleep(chance.delay(Duration::from_millis(latency), Duration::from_millis(jitter))).await;
        self.spoilt(fault, &answer).await
    }

    /// How often the question was asked, this time included.
    fn count(&self, endpoint: &str, question: &Value) -> u64 {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= MAX_COUNTED {
            asked.clear();
        }
        let count = asked.entry((endpoint.to_owned(), question.to_string())).or_default();
        *count += 1;
        *count
    }

    /// How this answer goes wrong.
    fn fault(&self, endpoint: &str, question: &Value, chance: &mut Chance) -> Fault {
        let Behaviour { fault, fault_rate, fault_on, fault_text, .. } = &self.behaviour;
        let is_here = fault_on.is_empty() || fault_on.iter().any(|each| each == endpoint);
        let contains = |text: &String| {
            question
                .as_object()
                .into_iter()
                .flatten()
                .any(|(_, value)| value.as_str().is_some_and(|field| field.contains(text)))
        };
        let is_meant = is_here && fault_text.as_ref().is_none_or(contains);
        if chance.hits(*fault_rate) && is_meant { *fault } else { Fault::None }
    }

    /// The answer with its fault.
    async fn spoilt(&self, fault: Fault, answer: &Value) -> Answer {
        let text = Bytes::from(answer.to_string());
        let body = match fault {
            Fault::Hang => std::future::pending().await,
            Fault::Late => {
                sleep(Duration::from_millis(self.behaviour.late_ms)).await;
                AnswerBody::Whole(text)
            }
            Fault::Error => return self.error(),
            Fault::Cut => AnswerBody::Cut(text.slice(..text.len() / 2)),
            Fault::Garbage => AnswerBody::Whole(Bytes::from_static(b"<html><body>Bad gateway</body></html>")),
            Fault::Endless => {
                let again = Bytes::from_static(&[b' '; 16 * 1024]);
                AnswerBody::Endless { beginning: text.slice(..text.len() - 1), again }
            }
            Fault::WrongTypes => AnswerBody::Whole(Bytes::from(with_wrong_types(answer).to_string())),
            Fault::None | Fault::Cycle | Fault::UnknownSibling | Fault::Duplicate | Fault::TooMany => {
                AnswerBody::Whole(text)
            }
        };
        answered(StatusCode::OK, body)
    }

    fn error(&self) -> Answer {
        let status = StatusCode::from_u16(self.behaviour.error_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = refusal(status, "this failure was asked for");
        if let Some(seconds) = self.behaviour.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

fn health(method: &Method) -> Answer {
    if method != Method::GET {
        return not_allowed("GET");
    }
    let health = json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION"), "timestamp": now().to_string()});
    answered(StatusCode::OK, AnswerBody::Whole(Bytes::from(health.to_string())))
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("expected {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn refusal(status: StatusCode, reason: &str) -> Answer {
    answered(status, AnswerBody::Whole(Bytes::from(json!({"detail": reason}).to_string())))
}

fn answered(status: StatusCode, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}
