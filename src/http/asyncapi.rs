//! `GET /asyncapi.json`: what goes through the broker, described.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::headers;
use super::reply::{self, Reply};
use super::request::Call;
use crate::amqp;

/// The document: made when it is first asked for.
#[derive(Debug)]
pub(super) struct Document {
    settings: amqp::Settings,
    /// As it is sent, and its tag.
    sent: OnceLock<(Bytes, HeaderValue)>,
}

impl Document {
    /// Of what goes through the broker of these settings.
    pub(super) const fn new(settings: amqp::Settings) -> Self {
        Self { settings, sent: OnceLock::new() }
    }
}

/// `GET /asyncapi.json`
pub(super) fn get(call: &Call) -> Reply {
    call.no_query()?;
    let Document { settings, sent } = &call.app.asyncapi;
    let (bytes, etag) = sent.get_or_init(|| {
        let document = amqp::document(settings);
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        let etag = headers::etag_of(&bytes);
        (bytes.into(), etag)
    });
    Ok(reply::document(call, bytes, etag))
}
