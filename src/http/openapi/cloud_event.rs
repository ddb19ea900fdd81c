//! The schema of an event in the structured mode of `CloudEvents`.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::http::server::reply::Time;

/// An event in the structured mode of `CloudEvents` 1.0. Senders may add attributes of their own.
#[expect(dead_code, reason = "describes the envelopes that `events` reads and renders")]
#[derive(ToSchema)]
pub(in crate::http) struct CloudEvent {
    /// Always `1.0`.
    specversion: String,
    /// The id of the event, unique within its source. An event that is sent again has no second effect.
    id: String,
    /// The source of the event.
    source: String,
    /// The type of the event, such as `dats.task.output.created`. The prefix `dats.` is optional.
    r#type: String,
    /// The time of the event.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    time: Option<Time>,
    /// The task that the event is about.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// Always `application/json`.
    #[schema(nullable = false)]
    datacontenttype: Option<String>,
    /// The trace that the event belongs to.
    #[schema(nullable = false)]
    traceparent: Option<String>,
    /// The data of the event; the fields depend on `type`.
    #[schema(value_type = Object)]
    data: (),
    /// Attributes of the sender.
    #[serde(flatten)]
    extensions: BTreeMap<String, serde_json::Value>,
}
