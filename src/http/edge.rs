//! From a request to its answer: routing, the key, the handler, the request
//! id, the measurements.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::header::{HeaderValue, IF_NONE_MATCH};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio_util::sync::CancellationToken;

use super::app::App;
use super::body::Body;
use super::headers::REQUEST_ID;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Call;
use super::routes::Endpoint;
use super::{
    artifacts, auth, cascades, checkpoints, dead_letters, events_in, events_out, export, health, history, leases,
    lineage, projects, provenance, records, rollbacks, taint_events, task_list, tasks, transfer, tree,
};
use crate::clock::Stopwatch;

/// Answers the requests of connections.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    app: Arc<App>,
    stopping: CancellationToken,
}

/// An answer, now or later.
pub(super) enum Answering {
    /// Nothing had to be waited for.
    Now(Option<Response<Body>>),
    /// A handler is at it.
    Later {
        /// What it is doing.
        answer: Pin<Box<dyn Future<Output = Response<Body>> + Send>>,
        /// For the answer, should the handler panic.
        request_id: HeaderValue,
    },
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => Poll::Ready(Ok(response.take().unwrap_or_else(defect))),
            Self::Later { answer, request_id } => {
                let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
                polled.map_or_else(|_| Poll::Ready(Ok(identified(defect(), request_id.clone()))), |poll| poll.map(Ok))
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

impl Service<Request<Incoming>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let watch = Stopwatch::start();
        let request_id = self.app.request_ids.of(request.headers());
        let routed = match self.route(&request) {
            Ok(routed) => routed,
            Err((endpoint, problem)) => {
                let response = problem.into_response(request.uri().path());
                self.app.metrics.answered(endpoint, response.status(), Some(watch.elapsed()));
                return Answering::Now(Some(identified(response, request_id)));
            }
        };
        if routed.endpoint == Endpoint::GetTask
            && request.uri().query().is_none()
            && let Some(response) = self.read_task(&routed, &request, &request_id, watch)
        {
            return Answering::Now(Some(response));
        }
        let Routed { endpoint, number, id } = routed;
        let raw_id = id.to_owned();
        self.handle((endpoint, number), raw_id, request, request_id, watch)
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
    pub(super) const fn new(app: Arc<App>, stopping: CancellationToken) -> Self {
        Self { app, stopping }
    }

    /// Callers without the key don't learn which paths exist.
    fn route<'a>(&self, request: &'a Request<Incoming>) -> Result<Routed<'a>, (Option<usize>, Problem)> {
        let found = self.app.routes.find(request.uri().path());
        let asked = found.and_then(|(route, _)| route.endpoint(request.method()));
        let number = asked.map(|(_, number)| number);
        if !asked.is_some_and(|(endpoint, _)| endpoint.is_public()) {
            let key = self.app.settings.api_key.as_ref();
            auth::check(key, request.headers()).map_err(|problem| (number, problem))?;
        }
        match (found, asked) {
            (Some((_, id)), Some((endpoint, number))) => Ok(Routed { endpoint, number, id }),
            (Some((route, _)), None) => Err((None, Problem::method_not_allowed(route.allow()))),
            (None, _) => Err((None, Problem::no_such_path())),
        }
    }

    /// The hot path; `None`: there is no such task, and the reason takes longer.
    fn read_task(
        &self,
        routed: &Routed<'_>,
        request: &Request<Incoming>,
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
        request: Request<Incoming>,
        request_id: HeaderValue,
        watch: Stopwatch,
    ) -> Answering {
        let (head, body) = request.into_parts();
        let (app, stopping) = (Arc::clone(&self.app), self.stopping.clone());
        let later_id = request_id.clone();
        let answer = async move {
            let _counted = app.metrics.request();
            let path = head.uri.clone();
            let waits = endpoint == Endpoint::Lease || endpoint == Endpoint::GetTask;
            let call = Call { app: Arc::clone(&app), stopping, head, body, raw_id };
            let answer = dispatch(endpoint, call);
            let answered = if endpoint.is_walk() { app.walks.in_time(answer).await } else { answer.await };
            let response = match answered {
                Ok(response) => response,
                Err(problem) => shown(problem, path.path()),
            };
            app.metrics.answered(Some(number), response.status(), (!waits).then(|| watch.elapsed()));
            identified(response, later_id)
        };
        Answering::Later { answer: Box::pin(answer), request_id }
    }
}

/// What the service itself could not do is worth a line in its log.
fn shown(problem: Problem, path: &str) -> Response<Body> {
    if problem.status().is_server_error() {
        tracing::warn!(code = problem.code(), path, "request not answered");
    }
    problem.into_response(path)
}

async fn dispatch(endpoint: Endpoint, call: Call) -> Reply {
    match endpoint {
        Endpoint::ListTasks => task_list::list(call).await,
        Endpoint::SubmitTask => tasks::submit(call).await,
        Endpoint::SubmitBatch => tasks::submit_batch(call).await,
        Endpoint::GetTask => tasks::get(call).await,
        Endpoint::CancelTask => tasks::cancel(call).await,
        Endpoint::RerunTask => tasks::rerun(call).await,
        Endpoint::TaskHistory => history::list(call).await,
        Endpoint::TaskStream => history::stream(&call).await,
        Endpoint::TaskTree => tree::get(call).await,
        Endpoint::ListProjects => projects::list(call).await,
        Endpoint::CreateProject => projects::create(call).await,
        Endpoint::GetProject => projects::get(call).await,
        Endpoint::UpdateProject => projects::update(call).await,
        Endpoint::DeleteProject => projects::delete(call).await,
        Endpoint::ProjectStatus => projects::status(call).await,
        Endpoint::PauseProject => projects::pause(call).await,
        Endpoint::ResumeProject => projects::resume(call).await,
        Endpoint::PauseTier => leases::pause(call).await,
        Endpoint::ResumeTier => leases::resume(call).await,
        Endpoint::ListQueues => leases::queues(call).await,
        Endpoint::Lease => leases::lease(call).await,
        Endpoint::RenewLease => leases::renew(call).await,
        Endpoint::ReleaseLease => leases::release(call).await,
        Endpoint::FollowEvents => events_out::follow(call).await,
        Endpoint::TakeEvents => events_in::take(call).await,
        Endpoint::ListProvenance => records::list(call).await,
        Endpoint::GetProvenance => provenance::get(call).await,
        Endpoint::ImportLines => transfer::import(call),
        Endpoint::ExportLines => transfer::export(&call),
        Endpoint::ProvenancePath => lineage::path(call).await,
        Endpoint::Dependents => lineage::dependents(call).await,
        Endpoint::Dependencies => lineage::dependencies(call).await,
        Endpoint::Impact => lineage::impact(call).await,
        Endpoint::Affected => cascades::affected(&call),
        Endpoint::ExportProvenance => export::export(call).await,
        Endpoint::RootCause => lineage::root_cause(call).await,
        Endpoint::Taint => cascades::taint(call).await,
        Endpoint::MarkSuspect => cascades::suspect(call).await,
        Endpoint::Clear => cascades::clear(call).await,
        Endpoint::TaintEvents => taint_events::list(call).await,
        Endpoint::ProjectConsistency => projects::consistency(call).await,
        Endpoint::GetArtifact => artifacts::get(call).await,
        Endpoint::ListCheckpoints => checkpoints::list(call).await,
        Endpoint::CreateCheckpoint => checkpoints::create(call).await,
        Endpoint::GetCheckpoint => checkpoints::get(call).await,
        Endpoint::Rollback => rollbacks::rollback(call).await,
        Endpoint::RolledBack => rollbacks::affected(&call),
        Endpoint::ArtifactContent => artifacts::content(call).await,
        Endpoint::ListDeadLetters => dead_letters::list(call).await,
        Endpoint::ShowDeadLetter => dead_letters::show(call).await,
        Endpoint::RequeueDeadLetter => dead_letters::requeue(call).await,
        Endpoint::Health => health::health(&call),
        Endpoint::HealthDetailed => health::detailed(&call),
        Endpoint::Live => health::live(&call),
        Endpoint::Ready => health::ready(&call),
        Endpoint::Metrics => health::metrics(&call),
    }
}
