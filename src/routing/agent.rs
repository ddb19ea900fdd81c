//! The Agent service: what kind of task it is, how to split it, where it goes.

use serde::Serialize;

use super::answers;
use super::caller::{Caller, Failed, Question};
use super::figures::ServiceFigures;
use super::settings;
use crate::clock::Clock;
use crate::task::{Analysis, Decomposition, Domain, Estimate, MAX_DEPTH, ProjectId, TaskId, Tier};
use crate::tls;

/// Calls the Agent service.
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
    /// A client. Answers may name these tiers alone. It fails where the service
    /// is spoken to over TLS and the authorities can't be read.
    pub fn new(settings: settings::Service, tiers: Vec<Tier>, clock: Clock) -> Result<Self, tls::Error> {
        let max_answer_bytes = settings.max_answer_bytes;
        Ok(Self { caller: Caller::new("agent", settings, clock)?, max_answer_bytes, tiers })
    }

    /// What kind of task it is.
    pub async fn analyze(
        &self,
        request: &str,
        project: &ProjectId,
        context: Option<&str>,
        traceparent: Option<&str>,
    ) -> Result<Analysis, Failed> {
        let wire = AnalyzeWire { request, project_id: project.as_str(), context };
        let question = Question::new("/analyze", &wire, traceparent);
        self.caller.call(question, |raw| answers::analysis(raw, self.max_answer_bytes, &self.tiers)).await
    }

    /// Its parts. More than [`MAX_DEPTH`] levels are not asked for: the Agent
    /// would refuse.
    pub async fn decompose(
        &self,
        task_id: TaskId,
        description: &str,
        max_depth: u32,
        traceparent: Option<&str>,
    ) -> Result<Decomposition, Failed> {
        let wire = DecomposeWire { task_id, description, max_depth: max_depth.min(MAX_DEPTH) };
        let question = Question::new("/decompose", &wire, traceparent);
        self.caller.call(question, |raw| answers::decomposition(raw, self.max_answer_bytes)).await
    }

    /// Where it should be done.
    pub async fn estimate(
        &self,
        task_id: TaskId,
        description: &str,
        domain: &Domain,
        traceparent: Option<&str>,
    ) -> Result<Estimate, Failed> {
        let wire = EstimateWire { task_id, description, domain: domain.as_str() };
        let question = Question::new("/estimate", &wire, traceparent);
        self.caller.call(question, |raw| answers::estimate(raw, self.max_answer_bytes, &self.tiers)).await
    }

    /// What was measured.
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
