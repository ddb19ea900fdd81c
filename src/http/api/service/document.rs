//! Documents that are rendered once, at the first request for them.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use crate::http::server::body::Body;
use crate::http::server::headers;
use crate::http::server::reply;

/// A JSON document that is rendered at its first use.
pub(in crate::http) type LazyDocument = LazyLock<RenderedDocument, Box<dyn FnOnce() -> RenderedDocument + Send>>;

/// A rendered JSON document with its entity tag.
#[derive(Debug)]
pub(in crate::http) struct RenderedDocument {
    bytes: Bytes,
    etag: HeaderValue,
}

impl RenderedDocument {
    pub(in crate::http) fn new(json: Vec<u8>) -> Self {
        Self { etag: headers::etag_of(&json), bytes: json.into() }
    }

    /// Returns the document, or `304` if the client has it.
    pub(in crate::http) fn response(&self, if_none_match: Option<&HeaderValue>) -> Response<Body> {
        reply::versioned(self.etag.clone(), if_none_match, || reply::rendered(StatusCode::OK, self.bytes.clone()))
    }
}
