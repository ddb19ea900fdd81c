//! From a request to its answer: routing, the key, the handler, the request
//! id, the measurements.

use std::convert::Infallible;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::{HeaderValue, IF_NONE_MATCH};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::decoding::Share;
use super::exchange::RequestBody;
use super::headers::REQUEST_ID;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Call;
use super::{auth, spans};
use crate::clock::Stopwatch;
use crate::http::api::app::App;
use crate::http::api::checkpoints::{resource as checkpoints, rollbacks};
use crate::http::api::events::{dead_letters, follow as events_out, intake as events_in};
use crate::http::api::projects::resource as projects;
use crate::http::api::provenance::{
    artifacts, cascades as undo, export, flags as cascades, path, record as provenance, records, taint_events,
    transfer, walks as lineage,
};
use crate::http::api::routes::Endpoint;
use crate::http::api::service::{asyncapi, docs, health};
use crate::http::api::tasks::{history, list as task_list, submit as tasks, tree};
use crate::http::api::work::leases;
use crate::http::openapi;
use crate::telemetry::Span;

/// Answers the requests of connections.
#[derive(Debug, Clone)]
pub(in crate::http) struct Edge {
    app: Arc<App>,
    stopping: CancellationToken,
}

/// An answer, now or later.
pub(in crate::http) enum Answering {
    /// Nothing had to be waited for.
    Now(Option<Response<Body>>),
    /// A handler is at it.
    Later {
        /// What it is doing.
        answer: Pin<Box<dyn Future<Output = Response<Body>> + Send>>,
        /// For the answer, should the handler panic.
        request_id: HeaderValue,
        /// Ends with the head of the answer, or when nobody waits for it.
        span: Option<Box<Span>>,
    },
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => Poll::Ready(Ok(response.take().unwrap_or_else(defect))),
            Self::Later { answer, request_id, span } => {
                let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
                let polled = polled.unwrap_or_else(|_| Poll::Ready(identified(defect(), request_id.clone())));
                polled.map(|response| {
                    end(span.take(), &response);
                    Ok(response)
                })
            }
        }
    }
}

/// The last resort: the panic itself is logged by the panic hook.
fn defect() -> Response<Body> {
    tracing::error!("a request handler panicked");
    Problem::internal().into_response("")
}

fn identified(mut response: Response<Body>, request_id: HeaderValue) -> Response<Body> {
    response.headers_mut().insert(REQUEST_ID, request_id);
    response
}

/// Ends the request's span, if it has one.
fn end(span: Option<Box<Span>>, response: &Response<Body>) {
    if let Some(span) = span {
        span.answered(response.status().as_u16());
    }
}

impl Service<Request<RequestBody>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<RequestBody>) -> Answering {
        let watch = Stopwatch::start();
        let request_id = self.app.request_ids.of(request.headers());
        let routed = match self.route(&request) {
            Ok(routed) => routed,
            Err((endpoint, problem)) => {
                let span = spans::begin(&self.app, &request, endpoint);
                let response = problem.into_response(request.uri().path());
                self.app.metrics.answered(endpoint, response.status(), Some(watch.elapsed()));
                end(span, &response);
                return Answering::Now(Some(identified(response, request_id)));
            }
        };
        let span = spans::begin(&self.app, &request, Some(routed.number));
        if routed.endpoint == Endpoint::GetTask
            && request.uri().query().is_none()
            && let Some(response) = self.read_task(&routed, &request, &request_id, watch)
        {
            end(span, &response);
            return Answering::Now(Some(response));
        }
        let Routed { endpoint, number, id } = routed;
        let raw_id = id.to_owned();
        self.handle((endpoint, number), raw_id, request, (request_id, span), watch)
    }
}

/// A request whose endpoint is known.
struct Routed<'a> {
    endpoint: Endpoint,
    number: usize,
    id: &'a str,
}

impl Edge {
    /// Until `stopping`, all is as usual; then waits end and readiness fails.
    pub(in crate::http) const fn new(app: Arc<App>, stopping: CancellationToken) -> Self {
        Self { app, stopping }
    }

    /// Callers without the key don't learn which paths exist.
    fn route<'a>(&self, request: &'a Request<RequestBody>) -> Result<Routed<'a>, (Option<usize>, Problem)> {
        let found = self.app.routes.find(request.uri().path());
        let asked = found.and_then(|(route, _)| route.endpoint(request.method()));
        let number = asked.map(|(_, number)| number);
        if !asked.is_some_and(|(endpoint, _)| endpoint.is_public()) {
            self.app.guard.check(request).map_err(|problem| (number, problem))?;
            let key = self.app.settings.api_key.as_ref();
            auth::check(key, request.headers()).map_err(|problem| (number, problem))?;
        }
        match (found, asked) {
            (Some((_, id)), Some((endpoint, number))) => Ok(Routed { endpoint, number, id }),
            (Some((route, _)), None) => Err((None, Problem::method_not_allowed(route.allow()))),
            (None, _) => Err((None, Problem::no_such_path())),
        }
    }

    /// The hot path; `None`: there is no such task, or the answer takes longer.
    fn read_task(
        &self,
        routed: &Routed<'_>,
        request: &Request<RequestBody>,
        request_id: &HeaderValue,
        watch: Stopwatch,
    ) -> Option<Response<Body>> {
        let known = request.headers().get(IF_NONE_MATCH);
        let read = catch_unwind(AssertUnwindSafe(|| tasks::read(&self.app, routed.id, known)));
        let response = match read {
            Ok(Ok(response)) => response?,
            Ok(Err(problem)) => problem.into_response(request.uri().path()),
            Err(_) => defect(),
        };
        self.app.metrics.answered(Some(routed.number), response.status(), Some(watch.elapsed()));
        Some(identified(response, request_id.clone()))
    }

    fn handle(
        &self,
        (endpoint, number): (Endpoint, usize),
        raw_id: String,
        request: Request<RequestBody>,
        (request_id, span): (HeaderValue, Option<Box<Span>>),
        watch: Stopwatch,
    ) -> Answering {
        let (head, body) = request.into_parts();
        let (app, stopping) = (Arc::clone(&self.app), self.stopping.clone());
        let later_id = request_id.clone();
        let own = span.as_ref().and_then(|span| span.trace_parent());
        let answer = async move {
            let _counted = app.metrics.request();
            let path = head.uri.clone();
            let waits = endpoint == Endpoint::Lease || endpoint == Endpoint::GetTask;
            let share = Share::default();
            let call = Call { app: Arc::clone(&app), stopping, head, body, raw_id, span: own, share };
            let mut answer = dispatch(endpoint, call);
            if endpoint.is_expensive() {
                let reads = Arc::clone(&app);
                answer = Box::pin(async move { reads.reads.run(answer).await });
            }
            let answered = if endpoint.is_walk() { app.walks.in_time(answer).await } else { answer.await };
            let response = match answered {
                Ok(response) => response,
                Err(problem) => shown(problem, path.path()),
            };
            app.metrics.answered(Some(number), response.status(), (!waits).then(|| watch.elapsed()));
            identified(response, later_id)
        };
        Answering::Later { answer: Box::pin(answer), request_id, span }
    }
}

/// What the service itself could not do is worth a line in its log.
fn shown(problem: Problem, path: &str) -> Response<Body> {
    if problem.status().is_server_error() {
        tracing::warn!(code = problem.code(), path, "request not answered");
    }
    problem.into_response(path)
}

/// Each handler has a box of its own: together they would be as large as the
/// largest of them, and every request would pay for moving that about.
fn dispatch(endpoint: Endpoint, call: Call) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
    match endpoint {
        Endpoint::ListTasks => Box::pin(task_list::list(call)),
        Endpoint::SubmitTask => Box::pin(tasks::submit(call)),
        Endpoint::SubmitBatch => Box::pin(tasks::submit_batch(call)),
        Endpoint::GetTask => Box::pin(tasks::get(call)),
        Endpoint::CancelTask => Box::pin(tasks::cancel(call)),
        Endpoint::RerunTask => Box::pin(tasks::rerun(call)),
        Endpoint::TaskHistory => Box::pin(history::list(call)),
        Endpoint::TaskStream => Box::pin(history::stream(call)),
        Endpoint::TaskTree => Box::pin(tree::get(call)),
        Endpoint::ListProjects => Box::pin(projects::list(call)),
        Endpoint::CreateProject => Box::pin(projects::create(call)),
        Endpoint::GetProject => Box::pin(projects::get(call)),
        Endpoint::UpdateProject => Box::pin(projects::update(call)),
        Endpoint::DeleteProject => Box::pin(projects::delete(call)),
        Endpoint::ProjectStatus => Box::pin(projects::status(call)),
        Endpoint::PauseProject => Box::pin(projects::pause(call)),
        Endpoint::ResumeProject => Box::pin(projects::resume(call)),
        Endpoint::PauseTier => Box::pin(leases::pause(call)),
        Endpoint::ResumeTier => Box::pin(leases::resume(call)),
        Endpoint::ListQueues => Box::pin(ready(leases::queues(&call))),
        Endpoint::Lease => Box::pin(leases::lease(call)),
        Endpoint::RenewLease => Box::pin(leases::renew(call)),
        Endpoint::ReleaseLease => Box::pin(leases::release(call)),
        Endpoint::FollowEvents => Box::pin(events_out::follow(call)),
        Endpoint::TakeEvents => Box::pin(events_in::take(call)),
        Endpoint::ListProvenance => Box::pin(records::list(call)),
        Endpoint::GetProvenance => Box::pin(provenance::get(call)),
        Endpoint::ImportLines => Box::pin(ready(transfer::import(call))),
        Endpoint::ExportLines => Box::pin(ready(transfer::export(&call))),
        Endpoint::ProvenancePath => Box::pin(path::path(call)),
        Endpoint::Dependents => Box::pin(lineage::dependents(call)),
        Endpoint::Dependencies => Box::pin(lineage::dependencies(call)),
        Endpoint::Impact => Box::pin(lineage::impact(call)),
        Endpoint::Affected => Box::pin(ready(cascades::affected(&call))),
        Endpoint::ExportProvenance => Box::pin(export::export(call)),
        Endpoint::RootCause => Box::pin(lineage::root_cause(call)),
        Endpoint::Taint => Box::pin(cascades::taint(call)),
        Endpoint::MarkSuspect => Box::pin(cascades::suspect(call)),
        Endpoint::Clear => Box::pin(cascades::clear(call)),
        Endpoint::TaintEvents => Box::pin(taint_events::list(call)),
        Endpoint::GetCascade => Box::pin(undo::get(call)),
        Endpoint::ClearCascade => Box::pin(undo::clear(call)),
        Endpoint::TakenBack => Box::pin(ready(undo::affected(&call))),
        Endpoint::ProjectConsistency => Box::pin(projects::consistency(call)),
        Endpoint::GetArtifact => Box::pin(artifacts::get(call)),
        Endpoint::ListCheckpoints => Box::pin(checkpoints::list(call)),
        Endpoint::CreateCheckpoint => Box::pin(checkpoints::create(call)),
        Endpoint::GetCheckpoint => Box::pin(checkpoints::get(call)),
        Endpoint::Rollback => Box::pin(rollbacks::rollback(call)),
        Endpoint::RolledBack => Box::pin(ready(rollbacks::affected(&call))),
        Endpoint::ArtifactContent => Box::pin(artifacts::content(call)),
        Endpoint::ListDeadLetters => Box::pin(dead_letters::list(call)),
        Endpoint::ListLetterRemovals => Box::pin(dead_letters::removals(call)),
        Endpoint::ShowDeadLetter => Box::pin(dead_letters::show(call)),
        Endpoint::DiscardDeadLetter => Box::pin(dead_letters::discard(call)),
        Endpoint::DiscardDeadLetters => Box::pin(dead_letters::discard_matching(call)),
        Endpoint::RequeueDeadLetter => Box::pin(dead_letters::requeue(call)),
        Endpoint::Health => Box::pin(ready(health::health(&call))),
        Endpoint::HealthDetailed => Box::pin(ready(health::detailed(&call))),
        Endpoint::Live => Box::pin(ready(health::live(&call))),
        Endpoint::Ready => Box::pin(ready(health::ready(&call))),
        Endpoint::Metrics => Box::pin(ready(health::metrics(&call))),
        Endpoint::OpenApi => Box::pin(ready(openapi::get(&call))),
        Endpoint::AsyncApi => Box::pin(ready(asyncapi::get(&call))),
        Endpoint::Docs => Box::pin(ready(docs::page(&call))),
        Endpoint::DocsFile => Box::pin(ready(docs::file(&call))),
    }
}
