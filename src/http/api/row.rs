//! A row in a table of endpoints: the endpoint with its description.

use crate::http::api::app::App;
use crate::http::openapi::operation::Described;
use crate::http::server::endpoint::Endpoint;

/// An endpoint with its description for the `OpenAPI` document.
pub(in crate::http) struct Row {
    pub(in crate::http) endpoint: Endpoint<App>,
    /// `None` for the files of the API reference, which are no part of the interface.
    pub(in crate::http) describe: Option<fn() -> Described>,
}

impl Row {
    pub(in crate::http) const fn new(endpoint: Endpoint<App>, describe: fn() -> Described) -> Self {
        Self { endpoint, describe: Some(describe) }
    }

    pub(in crate::http) const fn undescribed(endpoint: Endpoint<App>) -> Self {
        Self { endpoint, describe: None }
    }
}
