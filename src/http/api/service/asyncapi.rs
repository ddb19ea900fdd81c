//! `GET /asyncapi.json`: what goes through the broker, described.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::amqp;
use crate::http::api::app::Call;
use crate::http::server::headers;
use crate::http::server::reply::{self, Reply};

/// The document: made when it is first asked for.
#[derive(Debug)]
pub(in crate::http) struct Document {
    settings: amqp::Settings,
    /// As it is sent, and its tag.
    sent: OnceLock<(Bytes, HeaderValue)>,
}

impl Document {
    /// Of what goes through the broker of these settings.
    pub(in crate::http) const fn new(settings: amqp::Settings) -> Self {
        Self { settings, sent: OnceLock::new() }
    }
}

/// `GET /asyncapi.json`
pub(in crate::http) fn get(call: &Call) -> Reply {
    call.require_no_query()?;
    let Document { settings, sent } = &call.app.asyncapi;
    let (bytes, etag) = sent.get_or_init(|| {
        let document = amqp::document(settings);
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        let etag = headers::etag_of(&bytes);
        (bytes.into(), etag)
    });
    Ok(reply::versioned(etag.clone(), call.if_none_match(), || reply::rendered(StatusCode::OK, bytes.clone())))
}
