//! A routed request, as its handler receives it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderValue, IF_NONE_MATCH};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::body_reader::{BodyReader, MemoryShare};
use super::exchange::RequestBody;
use super::problem::Problem;
use super::query::Query;
use super::{content_type, trace_context};
use crate::json::{self, FieldError};
use crate::telemetry::TraceParent;

/// A routed request to an application with the state `A`.
#[derive(Debug)]
pub(in crate::http) struct Call<A> {
    /// The state of the application.
    pub(in crate::http) app: Arc<A>,
    /// Cancelled when the service begins to stop.
    pub(in crate::http) stopping: CancellationToken,
    pub(in crate::http) head: Parts,
    pub(in crate::http) body: RequestBody,
    /// The id in the path, still percent-encoded; empty if the path has none.
    pub(in crate::http) raw_id: String,
    /// The span of the request, if traces are exported.
    pub(in crate::http) span: Option<TraceParent>,
    /// The body's share of the memory for all bodies.
    pub(in crate::http) memory_share: MemoryShare,
}

/// Decodes an id in a path; `None` if it is not UTF-8.
pub(in crate::http) fn decode_id(raw: &str) -> Option<String> {
    percent_decode_str(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

impl<A> Call<A> {
    /// The decoded id in the path. An id that cannot be decoded is returned as it
    /// is, and names no resource.
    pub(in crate::http) fn id(&self) -> String {
        decode_id(&self.raw_id).unwrap_or_else(|| self.raw_id.clone())
    }

    /// Returns a token for waits and streams: it is cancelled when the service
    /// begins to stop, and when the client has closed its side of the connection.
    pub(in crate::http) fn ending(&self) -> &CancellationToken {
        self.body.exchange().ending()
    }

    pub(in crate::http) const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub(in crate::http) fn if_none_match(&self) -> Option<&HeaderValue> {
        self.head.headers.get(IF_NONE_MATCH)
    }

    /// The trace context for work that begins in this request: the request's own
    /// span if it has one, else the caller's span.
    pub(in crate::http) fn traceparent(&self) -> Option<String> {
        match self.span {
            Some(own) => Some(own.to_string()),
            None => trace_context::text(self.headers()),
        }
    }

    /// Parses the query; only the parameters in `known` are allowed.
    pub(in crate::http) fn query(&self, known: &[&str]) -> Query {
        Query::new(self.head.uri.query(), known)
    }

    /// Refuses a request that has query parameters.
    pub(in crate::http) fn require_no_query(&self) -> Result<(), Problem> {
        self.query(&[]).finish()
    }
}

impl<A: AsRef<BodyReader>> Call<A> {
    /// Reads the whole body, within the limits on size and time.
    pub(in crate::http) async fn bytes(&mut self) -> Result<Bytes, Problem> {
        let reader: &BodyReader = (*self.app).as_ref();
        reader.read(&self.head.headers, &mut self.body, &mut self.memory_share).await
    }

    /// Reads the whole body, whose media type must be JSON.
    pub(in crate::http) async fn json_bytes(&mut self) -> Result<Bytes, Problem> {
        content_type::require_json(self.headers())?;
        self.bytes().await
    }

    /// Decodes the body as JSON. Returns the value and the errors of its fields.
    pub(in crate::http) async fn json<T: DeserializeOwned + Send + 'static>(
        &mut self,
    ) -> Result<(T, Vec<FieldError>), Problem> {
        let raw = self.json_bytes().await?;
        self.decode_json(raw).await
    }

    /// Like [`Self::json`], but an empty body stands for the default value.
    pub(in crate::http) async fn optional_json<T: DeserializeOwned + Default + Send + 'static>(
        &mut self,
    ) -> Result<(T, Vec<FieldError>), Problem> {
        let raw = self.bytes().await?;
        if raw.trim_ascii().is_empty() {
            return Ok((T::default(), Vec::new()));
        }
        content_type::require_json(self.headers())?;
        self.decode_json(raw).await
    }

    /// Refuses a body that is neither empty nor an empty object.
    pub(in crate::http) async fn require_no_fields(&mut self) -> Result<(), Problem> {
        let (NoFields {}, errors) = self.optional_json().await?;
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }

    /// Runs `decode` for a body of `bytes` bytes; see [`BodyReader::decode`].
    pub(in crate::http) async fn decode<T: Send + 'static>(
        &self,
        bytes: usize,
        decode: impl Fn() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        (*self.app).as_ref().decode(bytes, decode).await
    }

    async fn decode_json<T: DeserializeOwned + Send + 'static>(
        &self,
        raw: Bytes,
    ) -> Result<(T, Vec<FieldError>), Problem> {
        let reader: &BodyReader = (*self.app).as_ref();
        let (length, max_bytes) = (raw.len(), reader.max_bytes());
        let decode = move || {
            json::check_integers(&raw)?;
            json::decode_all(&raw, max_bytes)
        };
        Ok(reader.decode(length, decode).await??)
    }
}

/// A body without fields.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}
