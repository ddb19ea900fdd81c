//! From a request to its answer: checks, routing, the handler, the request id,
//! metrics and spans.
//!
//! Reading the status of a task is the hot path. It is answered at once, without
//! a task, a boxed future or a lock of its own.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::{HeaderValue, IF_NONE_MATCH};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio_util::sync::CancellationToken;

use super::auth;
use super::body::Body;
use super::body_reader::MemoryShare;
use super::endpoint::{Access, Execution, Immediate};
use super::exchange::RequestBody;
use super::headers::REQUEST_ID;
use super::problem::Problem;
use super::request::Call;
use super::router::Numbered;
use super::state::ServerState;
use crate::clock::Stopwatch;
use crate::telemetry::Span;

/// Answers the requests of connections to an application with the state `A`.
#[derive(Debug)]
pub(in crate::http) struct Edge<A> {
    app: Arc<A>,
    stopping: CancellationToken,
}

impl<A> Clone for Edge<A> {
    fn clone(&self) -> Self {
        Self { app: Arc::clone(&self.app), stopping: self.stopping.clone() }
    }
}

/// The future of an answer.
pub(in crate::http) enum AnswerFuture {
    /// The answer is known already.
    Ready(Option<Response<Body>>),
    /// A handler is running.
    Running {
        answer: Pin<Box<dyn Future<Output = Response<Body>> + Send>>,
        /// For the answer if the handler panics.
        request_id: HeaderValue,
        /// Ends with the head of the answer, or when the future is dropped.
        span: Option<Box<Span>>,
    },
}

impl Future for AnswerFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(response) => Poll::Ready(Ok(response.take().unwrap_or_else(panicked))),
            Self::Running { answer, request_id, span } => {
                let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
                let polled = polled.unwrap_or_else(|_| Poll::Ready(with_request_id(panicked(), request_id.clone())));
                polled.map(|response| {
                    end_span(span.take(), &response);
                    Ok(response)
                })
            }
        }
    }
}

/// The answer if a handler panicked. The panic hook has logged the panic itself.
fn panicked() -> Response<Body> {
    tracing::error!("a request handler panicked");
    Problem::internal().into_response("")
}

fn with_request_id(mut response: Response<Body>, request_id: HeaderValue) -> Response<Body> {
    response.headers_mut().insert(REQUEST_ID, request_id);
    response
}

fn end_span(span: Option<Box<Span>>, response: &Response<Body>) {
    if let Some(span) = span {
        span.end_with_status(response.status().as_u16());
    }
}

/// A request whose endpoint is known.
struct Routed<'a, A: 'static> {
    to: Numbered<A>,
    raw_id: &'a str,
}

/// The id, the span and the start of a request.
struct Begun {
    request_id: HeaderValue,
    span: Option<Box<Span>>,
    watch: Stopwatch,
}

impl<A> Service<Request<RequestBody>> for Edge<A>
where
    A: AsRef<ServerState<A>> + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn call(&self, request: Request<RequestBody>) -> AnswerFuture {
        let watch = Stopwatch::start();
        let server = self.server();
        let request_id = server.request_ids.id_of(request.headers());
        let start_span = |endpoint| server.spans.as_ref().and_then(|spans| spans.start(&request, endpoint));
        let Routed { to, raw_id } = match self.route(&request) {
            Ok(routed) => routed,
            Err((endpoint, problem)) => {
                let span = start_span(endpoint);
                let response = problem.into_response(request.uri().path());
                server.metrics.record_answer(endpoint, response.status(), Some(watch.elapsed()));
                end_span(span, &response);
                return AnswerFuture::Ready(Some(with_request_id(response, request_id)));
            }
        };
        let begun = Begun { request_id, span: start_span(Some(to.number)), watch };
        if let Some(immediate) = to.endpoint.immediate
            && request.uri().query().is_none()
            && let Some(response) = self.answer_now(immediate, raw_id, &request)
        {
            server.metrics.record_answer(Some(to.number), response.status(), Some(begun.watch.elapsed()));
            end_span(begun.span, &response);
            return AnswerFuture::Ready(Some(with_request_id(response, begun.request_id)));
        }
        let raw_id = raw_id.to_owned();
        self.run_handler(to, raw_id, request, begun)
    }
}

impl<A> Edge<A>
where
    A: AsRef<ServerState<A>> + Send + Sync + 'static,
{
    /// From the cancellation of `stopping` on, waits end and readiness fails.
    pub(in crate::http) const fn new(app: Arc<A>, stopping: CancellationToken) -> Self {
        Self { app, stopping }
    }

    fn server(&self) -> &ServerState<A> {
        (*self.app).as_ref()
    }

    /// Finds the endpoint of a request, and checks that the caller may call it.
    /// The check comes first, so that callers without the key do not learn which
    /// paths exist.
    fn route<'a>(&self, request: &'a Request<RequestBody>) -> Result<Routed<'a, A>, (Option<usize>, Problem)> {
        let server = self.server();
        let found = server.router.find(request.uri().path());
        let to = found.and_then(|(route, _)| route.endpoint(request.method()));
        let number = to.map(|to| to.number);
        if !to.is_some_and(|to| to.endpoint.access == Access::Probe) {
            server.guard.check(request).map_err(|problem| (number, problem))?;
            auth::check(server.api_key.as_ref(), request.headers()).map_err(|problem| (number, problem))?;
        }
        match (found, to) {
            (Some((_, raw_id)), Some(to)) => Ok(Routed { to, raw_id }),
            (Some((route, _)), None) => Err((None, Problem::method_not_allowed(route.allow()))),
            (None, _) => Err((None, Problem::no_such_path())),
        }
    }

    /// Answers from memory; `None` if the handler has to answer.
    fn answer_now(
        &self,
        immediate: Immediate<A>,
        raw_id: &str,
        request: &Request<RequestBody>,
    ) -> Option<Response<Body>> {
        let known = request.headers().get(IF_NONE_MATCH);
        match catch_unwind(AssertUnwindSafe(|| immediate(&self.app, raw_id, known))) {
            Ok(Ok(response)) => response,
            Ok(Err(problem)) => Some(problem.into_response(request.uri().path())),
            Err(_) => Some(panicked()),
        }
    }

    fn run_handler(
        &self,
        to: Numbered<A>,
        raw_id: String,
        request: Request<RequestBody>,
        begun: Begun,
    ) -> AnswerFuture {
        let (head, body) = request.into_parts();
        let (app, stopping) = (Arc::clone(&self.app), self.stopping.clone());
        let Begun { request_id, span, watch } = begun;
        let later_id = request_id.clone();
        let own_span = span.as_ref().and_then(|span| span.trace_parent());
        let answer = async move {
            let server: &ServerState<A> = (*app).as_ref();
            let _in_flight = server.metrics.count_request();
            let uri = head.uri.clone();
            let memory_share = MemoryShare::default();
            let call = Call { app: Arc::clone(&app), stopping, head, body, raw_id, span: own_span, memory_share };
            let reply = (to.endpoint.handler)(call);
            let answered = match to.endpoint.execution {
                Execution::Inline => reply.await,
                // Boxed, so that the future of every request does not have to hold them.
                Execution::ReadPool => Box::pin(server.reads.run(reply)).await,
                Execution::TimedReadPool => server.with_walk_timeout(Box::pin(server.reads.run(reply))).await,
            };
            let response = answered.unwrap_or_else(|problem| answer_problem(problem, uri.path()));
            let latency = (!to.endpoint.may_wait).then(|| watch.elapsed());
            server.metrics.record_answer(Some(to.number), response.status(), latency);
            with_request_id(response, later_id)
        };
        AnswerFuture::Running { answer: Box::pin(answer), request_id, span }
    }
}

/// Makes the answer of a problem, and logs the problem if it is the service's fault.
fn answer_problem(problem: Problem, path: &str) -> Response<Body> {
    if problem.status().is_server_error() {
        tracing::warn!(code = problem.code(), path, "request not answered");
    }
    problem.into_response(path)
}
