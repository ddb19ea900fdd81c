//! The description of one endpoint: method, path, access, where its handler
//! runs, and the handler itself. The tables of endpoints are made of these.

use std::pin::Pin;

use hyper::header::HeaderValue;
use hyper::{Method, Response};

use super::body::Body;
use super::problem::Problem;
use super::reply::Reply;
use super::request::Call;

/// The prefix of all paths. Operational endpoints also answer without it.
pub(in crate::http) const BASE: &str = "/api/v1";

/// The future of a handler.
///
/// It is boxed because the futures of all handlers in one enum would be as large
/// as the largest of them, and every request would pay for moving that.
pub(in crate::http) type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Answers a request from memory, given the raw id in its path and its
/// `If-None-Match`. `None` means that the handler has to answer.
pub(in crate::http) type Immediate<A> = fn(&A, &str, Option<&HeaderValue>) -> Result<Option<Response<Body>>, Problem>;

/// An HTTP method that endpoints may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::http) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    pub(in crate::http) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Maps `HEAD` to `GET`: the HTTP library leaves the body out.
    pub(in crate::http) fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Self::Get),
            Method::POST => Some(Self::Post),
            Method::PATCH => Some(Self::Patch),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }

    /// The methods that an endpoint with this verb adds to `Allow`.
    pub(in crate::http) const fn allowed_methods(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["GET", "HEAD"],
            Self::Post => &["POST"],
            Self::Patch => &["PATCH"],
            Self::Delete => &["DELETE"],
        }
    }
}

/// The callers that an endpoint accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Access {
    /// Callers with the API key, where one is configured.
    ApiKey,
    /// Every caller, without an API key or a check of `Host`. The thread that
    /// accepts connections can answer it, so its handler must not wait.
    Probe,
}

/// Where a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Execution {
    /// On the thread that serves the connection.
    Inline,
    /// On the read pool: the reply may be as large as a page, or many rows may
    /// be read for it.
    ReadPool,
    /// On the read pool, with a time limit: provenance of any size may be
    /// searched for it.
    TimedReadPool,
}

/// An endpoint of an application with the state `A`.
#[derive(Debug)]
pub(in crate::http) struct Endpoint<A: 'static> {
    pub(in crate::http) verb: Verb,
    /// The path below [`BASE`], with at most one parameter, `{id}`.
    pub(in crate::http) path: &'static str,
    pub(in crate::http) access: Access,
    pub(in crate::http) execution: Execution,
    /// Health, metrics and descriptions: they also answer without [`BASE`], and
    /// their requests have no span.
    pub(in crate::http) is_operational: bool,
    /// The handler may wait for something on purpose, so its latency is not
    /// measured.
    pub(in crate::http) may_wait: bool,
    pub(in crate::http) handler: fn(Call<A>) -> ReplyFuture,
    /// Asked before the handler, for requests without a query.
    pub(in crate::http) immediate: Option<Immediate<A>>,
}

impl<A: 'static> Endpoint<A> {
    const fn new(verb: Verb, path: &'static str, handler: fn(Call<A>) -> ReplyFuture) -> Self {
        Self {
            verb,
            path,
            access: Access::ApiKey,
            execution: Execution::Inline,
            is_operational: false,
            may_wait: false,
            handler,
            immediate: None,
        }
    }

    pub(in crate::http) const fn get(path: &'static str, handler: fn(Call<A>) -> ReplyFuture) -> Self {
        Self::new(Verb::Get, path, handler)
    }

    pub(in crate::http) const fn post(path: &'static str, handler: fn(Call<A>) -> ReplyFuture) -> Self {
        Self::new(Verb::Post, path, handler)
    }

    pub(in crate::http) const fn patch(path: &'static str, handler: fn(Call<A>) -> ReplyFuture) -> Self {
        Self::new(Verb::Patch, path, handler)
    }

    pub(in crate::http) const fn delete(path: &'static str, handler: fn(Call<A>) -> ReplyFuture) -> Self {
        Self::new(Verb::Delete, path, handler)
    }

    /// Runs the handler on the read pool.
    pub(in crate::http) const fn on_read_pool(mut self) -> Self {
        self.execution = Execution::ReadPool;
        self
    }

    /// Runs the handler on the read pool, with a time limit.
    pub(in crate::http) const fn on_timed_read_pool(mut self) -> Self {
        self.execution = Execution::TimedReadPool;
        self
    }

    /// Marks an endpoint of operations; see [`Self::is_operational`].
    pub(in crate::http) const fn operational(mut self) -> Self {
        self.is_operational = true;
        self
    }

    /// Marks an operational endpoint as a probe.
    pub(in crate::http) const fn probe(mut self) -> Self {
        self.access = Access::Probe;
        self.operational()
    }

    /// Leaves the latency of the handler out of the metrics.
    pub(in crate::http) const fn may_wait(mut self) -> Self {
        self.may_wait = true;
        self
    }

    /// Asks `immediate` before the handler.
    pub(in crate::http) const fn immediate(mut self, immediate: Immediate<A>) -> Self {
        self.immediate = Some(immediate);
        self
    }
}
