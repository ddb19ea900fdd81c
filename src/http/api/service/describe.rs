//! Descriptions of the endpoints of the service itself for the `OpenAPI` document.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use crate::http::api::service::health::{DetailedHealthWire, HealthWire, Probe};
use crate::http::openapi::operation::{Described, JSON, operation};

const TAG: &str = "Service";

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).into()
}

pub(in crate::http) fn health() -> Described {
    operation("getHealth", TAG, "Read the health of the service")
        .answer::<HealthWire<'static>>(200, "The service works.")
        .answer::<HealthWire<'static>>(503, "The service accepts no changes. Or a problem: `overloaded`.")
}

pub(in crate::http) fn detailed() -> Described {
    operation("getDetailedHealth", TAG, "Read the health of the service and of its dependencies")
        .answer::<DetailedHealthWire<'static>>(
            200,
            "The service works. It is `degraded` while a dependency is away; the rest still works.",
        )
        .answer::<DetailedHealthWire<'static>>(503, "The service accepts no changes. Or a problem: `overloaded`.")
}

pub(in crate::http) fn live() -> Described {
    operation("getLiveness", TAG, "Check that the process is alive").answer::<Probe>(200, "The process is alive.")
}

pub(in crate::http) fn ready() -> Described {
    operation("getReadiness", TAG, "Check that the service is ready for requests")
        .answer::<Probe>(200, "The service is ready.")
        .answer::<Probe>(503, "The service is not ready. Or a problem: `overloaded`.")
}

pub(in crate::http) fn metrics() -> Described {
    operation("getMetrics", TAG, "Read the metrics").answer_of(
        200,
        "The metrics in the OpenMetrics text format, for Prometheus.",
        "application/openmetrics-text",
        Some(text()),
    )
}

pub(in crate::http) fn document() -> Described {
    operation("getOpenApi", TAG, "Read this document")
        .answer_of(200, "An OpenAPI 3.1 document.", JSON, Some(ObjectBuilder::new().into()))
        .versioned()
}

pub(in crate::http) fn messages() -> Described {
    operation("getAsyncApi", TAG, "Read the description of the messages on the broker")
        .says("The names are those of the configured broker, or the default names without one.")
        .answer_of(200, "An AsyncAPI 3.0 document.", JSON, Some(ObjectBuilder::new().into()))
        .versioned()
}

pub(in crate::http) fn page() -> Described {
    operation("getDocs", TAG, "Open the API reference in a browser")
        .answer_of(200, "The API reference.", "text/html", Some(text()))
        .versioned()
}
