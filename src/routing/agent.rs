//! The client of the Agent service, which analyses tasks, splits them and chooses
//! their tier.

use serde::Serialize;

use super::answers;
use super::caller::{CallError, CallRequest, Caller};
use super::figures::ServiceFigures;
use super::settings;
use crate::clock::Clock;
use crate::task::{Analysis, Decomposition, Domain, Estimate, MAX_DEPTH, ProjectId, TaskId, Tier};
use crate::tls;

/// Client of the Agent service.
#[derive(Debug)]
pub struct Agent {
    caller: Caller,
    max_answer_bytes: usize,
    tiers: Vec<Tier>,
}

#[derive(Serialize)]
struct AnalyzeWire<'a> {
    request: &'a str,
    project_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
}

#[derive(Serialize)]
struct DecomposeWire<'a> {
    task_id: TaskId,
    description: &'a str,
    max_depth: u32,
}

#[derive(Serialize)]
struct EstimateWire<'a> {
    task_id: TaskId,
    description: &'a str,
    domain: &'a str,
}

impl Agent {
    /// Makes a client. An answer with another tier than `tiers` is refused.
    ///
    /// # Errors
    /// The service is called over TLS, and the certificate authorities cannot be read.
    pub fn new(settings: settings::Service, tiers: Vec<Tier>, clock: Clock) -> Result<Self, tls::Error> {
        let max_answer_bytes = settings.max_answer_bytes;
        Ok(Self { caller: Caller::new("agent", settings, clock)?, max_answer_bytes, tiers })
    }

    /// Asks for the mode, the domain and the complexity of a task.
    pub async fn analyze(
        &self,
        request: &str,
        project: &ProjectId,
        context: Option<&str>,
        traceparent: Option<&str>,
    ) -> Result<Analysis, CallError> {
        let wire = AnalyzeWire { request, project_id: project.as_str(), context };
        let request = CallRequest::new("/analyze", &wire, traceparent);
        self.caller.call(request, |raw| answers::analysis(raw, self.max_answer_bytes, &self.tiers)).await
    }

    /// Asks for the parts of a task. Limits `max_depth` to [`MAX_DEPTH`], since the
    /// Agent refuses more levels.
    pub async fn decompose(
        &self,
        task_id: TaskId,
        description: &str,
        max_depth: u32,
        traceparent: Option<&str>,
    ) -> Result<Decomposition, CallError> {
        let wire = DecomposeWire { task_id, description, max_depth: max_depth.min(MAX_DEPTH) };
        let request = CallRequest::new("/decompose", &wire, traceparent);
        self.caller.call(request, |raw| answers::decomposition(raw, self.max_answer_bytes)).await
    }

    /// Asks for the tier of a task.
    pub async fn estimate(
        &self,
        task_id: TaskId,
        description: &str,
        domain: &Domain,
        traceparent: Option<&str>,
    ) -> Result<Estimate, CallError> {
        let wire = EstimateWire { task_id, description, domain: domain.as_str() };
        let request = CallRequest::new("/estimate", &wire, traceparent);
        self.caller.call(request, |raw| answers::estimate(raw, self.max_answer_bytes, &self.tiers)).await
    }

    /// Returns the figures of the calls so far.
    #[must_use]
    pub fn figures(&self) -> ServiceFigures {
        self.caller.figures()
    }

    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) const fn caller_mut(&mut self) -> &mut Caller {
        &mut self.caller
    }
}
