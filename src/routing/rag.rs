//! The client of the RAG service, which finds context for tasks.

use serde::Serialize;

use super::answers;
use super::caller::{CallError, CallRequest, Caller};
use super::figures::ServiceFigures;
use super::settings;
use crate::clock::Clock;
use crate::task::{Context, ProjectId};
use crate::tls;

/// Client of the RAG service.
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
    /// Makes a client that asks for at most `max_tokens` tokens of context.
    ///
    /// # Errors
    /// The service is called over TLS, and the certificate authorities cannot be read.
    pub fn new(settings: settings::Service, max_tokens: u32, clock: Clock) -> Result<Self, tls::Error> {
        let max_answer_bytes = settings.max_answer_bytes;
        Ok(Self { caller: Caller::new("rag", settings, clock)?, max_answer_bytes, max_tokens })
    }

    /// Asks for the context of a task.
    pub async fn query(
        &self,
        query: &str,
        project: &ProjectId,
        traceparent: Option<&str>,
    ) -> Result<Context, CallError> {
        let wire =
            QueryWire { query, project_id: project.as_str(), max_tokens: self.max_tokens, search_mode: "hybrid" };
        let request = CallRequest::new("/query", &wire, traceparent);
        self.caller.call(request, |raw| answers::context(raw, self.max_answer_bytes)).await
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
