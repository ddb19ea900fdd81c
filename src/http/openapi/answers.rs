//! Answers that are rendered by hand, described. Nothing is ever made of these
//! types: that the answers are so is held by the tests of the contract, which
//! look at every answer for fields that are missing here or there.
#![expect(dead_code, reason = "the types describe what is made elsewhere")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::http::server::reply::Time;

/// An event in the structured mode of `CloudEvents` 1.0. Others may add
/// attributes of their own.
#[derive(ToSchema)]
pub(in crate::http) struct CloudEvent {
    /// `1.0`.
    specversion: String,
    /// Unique within its source: an event that comes again has no second effect.
    id: String,
    /// Who says it.
    source: String,
    /// What happened, such as `dats.task.output.created`; `dats.` may be left out.
    r#type: String,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    time: Option<Time>,
    /// The task it is about.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// `application/json`.
    #[schema(nullable = false)]
    datacontenttype: Option<String>,
    /// The trace it belongs to.
    #[schema(nullable = false)]
    traceparent: Option<String>,
    /// What is to be said; its fields follow from `type`.
    #[schema(value_type = Object)]
    data: (),
    /// Attributes of others.
    #[serde(flatten)]
    extensions: BTreeMap<String, serde_json::Value>,
}
