//! The RAG service: text that may help with a task.

use serde::Serialize;

use super::answers;
use super::caller::{Caller, Failed, Question};
use super::figures::ServiceFigures;
use super::settings;
use crate::clock::Clock;
use crate::task::{Context, ProjectId};
use crate::tls;

/// Calls the RAG service.
#[derive(Debug)]
pub struct Rag {
    caller: Caller,
    max_answer_bytes: usize,
    max_tokens: u32,
}

#[derive(Serialize)]
struct QueryWire<'a> {
    query: &'a str,
    project_id: &'a str,
    max_tokens: u32,
    search_mode: &'static str,
}

impl Rag {
    /// A client that asks for so much context at most. It fails where
    /// [`Agent::new`](super::Agent::new) does.
    pub fn new(settings: settings::Service, max_tokens: u32, clock: Clock) -> Result<Self, tls::Error> {
        let max_answer_bytes = settings.max_answer_bytes;
        Ok(Self { caller: Caller::new("rag", settings, clock)?, max_answer_bytes, max_tokens })
    }

    /// Context for a task.
    pub async fn query(&self, query: &str, project: &ProjectId, traceparent: Option<&str>) -> Result<Context, Failed> {
        let wire =
            QueryWire { query, project_id: project.as_str(), max_tokens: self.max_tokens, search_mode: "hybrid" };
        let question = Question::new("/query", &wire, traceparent);
        self.caller.call(question, |raw| answers::context(raw, self.max_answer_bytes)).await
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
