//! One request on its way to its handler.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{HeaderValue, IF_NONE_MATCH};
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::decoding::{Decoding, Share};
use super::exchange::RequestBody;
use super::headers;
use super::problem::Problem;
use super::query::Query;
use crate::http::api::app::App;
use crate::json::{self, FieldError};
use crate::telemetry::TraceParent;

/// A routed request with what its handler needs.
#[derive(Debug)]
pub(in crate::http) struct Call {
    /// The service.
    pub(in crate::http) app: Arc<App>,
    /// Cancelled when the service begins to stop.
    pub(in crate::http) stopping: CancellationToken,
    /// The request's head.
    pub(in crate::http) head: Parts,
    /// The request's body.
    pub(in crate::http) body: RequestBody,
    /// The id in the path, as it stands there; empty where there is none.
    pub(in crate::http) raw_id: String,
    /// The request's own span, where spans are made.
    pub(in crate::http) span: Option<TraceParent>,
    /// What its body takes of the memory for bodies.
    pub(in crate::http) share: Share,
}

/// An id in a path, decoded; `None` when it is not UTF-8.
pub(in crate::http) fn decode_id(raw: &str) -> Option<String> {
    percent_decode_str(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

impl Call {
    /// The id in the path; the raw form where that can't be decoded, which
    /// then names nothing.
    pub(in crate::http) fn id(&self) -> String {
        decode_id(&self.raw_id).unwrap_or_else(|| self.raw_id.clone())
    }

    /// Cancelled when the service begins to stop, and when the client has closed
    /// its direction of the connection. For waits and streams, which end then.
    pub(in crate::http) fn ending(&self) -> &CancellationToken {
        self.body.exchange().ending()
    }

    /// The request's headers.
    pub(in crate::http) const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The version that the client has.
    pub(in crate::http) fn if_none_match(&self) -> Option<&HeaderValue> {
        self.head.headers.get(IF_NONE_MATCH)
    }

    /// The trace that what begins here belongs to: below the request's own
    /// span, where it has one, else below that of the caller.
    pub(in crate::http) fn traceparent(&self) -> Option<String> {
        match self.span {
            Some(own) => Some(own.to_string()),
            None => headers::traceparent(self.headers()),
        }
    }

    /// The query; only the names in `known` are allowed.
    pub(in crate::http) fn query(&self, known: &[&str]) -> Query {
        Query::new(self.head.uri.query(), known)
    }

    /// The query must be empty.
    pub(in crate::http) fn no_query(&self) -> Result<(), Problem> {
        self.query(&[]).finish()
    }

    /// The whole body, within the limits of size and time.
    pub(in crate::http) async fn bytes(&mut self) -> Result<Bytes, Problem> {
        let limits = &self.app.settings.limits;
        let (most, patience) = (limits.body_bytes, limits.body_timeout);
        let announced = self.body.size_hint().lower();
        if announced > 0 {
            headers::require_media_type(self.headers())?;
        }
        if usize::try_from(announced).unwrap_or(usize::MAX) > most {
            return Err(Problem::too_large(most));
        }
        let collected = collect(&mut self.body, most, &self.app.decoding, &mut self.share);
        match tokio::time::timeout(patience, collected).await {
            Ok(Ok(bytes)) if !bytes.is_empty() => {
                headers::require_media_type(&self.head.headers)?;
                Ok(bytes)
            }
            Ok(empty) => empty,
            Err(_) => Err(Problem::body_timeout()),
        }
    }

    /// The whole body, which is said to be JSON.
    pub(in crate::http) async fn json_bytes(&mut self) -> Result<Bytes, Problem> {
        headers::require_json(self.headers())?;
        self.bytes().await
    }

    /// The body as a value, and what is wrong with its fields.
    pub(in crate::http) async fn json<T: DeserializeOwned + Send + 'static>(
        &mut self,
    ) -> Result<(T, Vec<FieldError>), Problem> {
        let raw = self.json_bytes().await?;
        self.decoded(raw).await
    }

    async fn decoded<T: DeserializeOwned + Send + 'static>(&self, raw: Bytes) -> Result<(T, Vec<FieldError>), Problem> {
        let (length, most) = (raw.len(), self.app.settings.limits.body_bytes);
        let decode = move || {
            json::check_integers(&raw)?;
            json::decode_all(&raw, most)
        };
        Ok(self.app.decoding.run(length, decode).await??)
    }

    /// As [`Self::json`], with an empty body in place of an empty object.
    pub(in crate::http) async fn optional_json<T: DeserializeOwned + Default + Send + 'static>(
        &mut self,
    ) -> Result<(T, Vec<FieldError>), Problem> {
        let raw = self.bytes().await?;
        if raw.trim_ascii().is_empty() {
            return Ok((T::default(), Vec::new()));
        }
        headers::require_json(self.headers())?;
        self.decoded(raw).await
    }

    /// The body must be empty, or an empty object.
    pub(in crate::http) async fn nothing(&mut self) -> Result<(), Problem> {
        let (NothingWire {}, errors) = self.optional_json().await?;
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }
}

/// The body of a request that has nothing to say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NothingWire {}

/// Most bodies come in one piece, which is passed on as it is.
async fn collect(
    body: &mut RequestBody,
    most: usize,
    decoding: &Decoding,
    share: &mut Share,
) -> Result<Bytes, Problem> {
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Problem::body_broken())?;
        if whole.len() + pieces.len() + data.len() > most {
            return Err(Problem::too_large(most));
        }
        decoding.count(share, whole.len() + pieces.len() + data.len()).await?;
        if whole.is_empty() && pieces.is_empty() {
            whole = data;
            continue;
        }
        pieces.extend_from_slice(&std::mem::take(&mut whole));
        pieces.extend_from_slice(&data);
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}
