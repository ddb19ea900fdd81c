//! `GET /openapi.json` and `GET /asyncapi.json`: the descriptions of the HTTP interface and of the messages on the
//! broker.

use crate::http::api::app::Call;
use crate::http::server::reply::Reply;

/// Handles `GET /openapi.json`.
pub(in crate::http) fn openapi(call: &Call) -> Reply {
    call.require_no_query()?;
    Ok(call.app.openapi.response(call.if_none_match()))
}

/// Handles `GET /asyncapi.json`.
pub(in crate::http) fn asyncapi(call: &Call) -> Reply {
    call.require_no_query()?;
    Ok(call.app.asyncapi.response(call.if_none_match()))
}
