//! The service itself: health, metrics, this document.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::answers::{DetailedHealth, Probe};
use super::operation::{Described, JSON, operation};
use crate::http::api::service::health::HealthWire;

const TAG: &str = "Service";

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).into()
}

pub(super) fn health() -> Described {
    operation("getHealth", TAG, "Read whether the service works")
        .answer::<HealthWire<'static>>(200, "It does.")
        .answer::<HealthWire<'static>>(503, "It does not take anything any more, or a problem: `overloaded`.")
}

pub(super) fn detailed() -> Described {
    operation("getDetailedHealth", TAG, "Read what the service depends on, and how that is")
        .answer::<DetailedHealth>(200, "It works; what is away is `degraded` and does not stop the rest.")
        .answer::<DetailedHealth>(503, "It does not take anything any more, or a problem: `overloaded`.")
}

pub(super) fn live() -> Described {
    operation("getLiveness", TAG, "Read whether the process answers").answer::<Probe>(200, "It does.")
}

pub(super) fn ready() -> Described {
    operation("getReadiness", TAG, "Read whether requests may be sent here")
        .answer::<Probe>(200, "They may.")
        .answer::<Probe>(503, "They may not, or a problem: `overloaded`.")
}

pub(super) fn metrics() -> Described {
    operation("getMetrics", TAG, "Read the metrics").answer_of(
        200,
        "In the format of OpenMetrics, for Prometheus.",
        "application/openmetrics-text",
        Some(text()),
    )
}

pub(super) fn document() -> Described {
    operation("getOpenApi", TAG, "Read this document")
        .answer_of(200, "OpenAPI 3.1.", JSON, Some(ObjectBuilder::new().into()))
        .versioned()
}

pub(super) fn messages() -> Described {
    operation("getAsyncApi", TAG, "Read what goes through the broker")
        .says("Names are those of the settings where a broker is configured, else the usual ones.")
        .answer_of(200, "AsyncAPI 3.0.", JSON, Some(ObjectBuilder::new().into()))
        .versioned()
}

pub(super) fn page() -> Described {
    operation("getDocs", TAG, "Read this document as a page for people")
        .answer_of(200, "The page.", "text/html", Some(text()))
        .versioned()
}
