//! The parts of the document that operations share: its title, tags and keys, and common parameters and headers.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::info::{Info, InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Components, Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{RefOr, Required, SecurityRequirement};
use utoipa::{PartialSchema, ToSchema};

use super::limits::{Named, whole_number};
use super::operation::{header_parameter, parameter};
use crate::http::server::headers::MAX_REQUEST_ID_BYTES;
use crate::http::server::idempotency::MAX_KEY_BYTES;
use crate::http::server::problem::Wire;
use crate::http::server::query::{DEFAULT_LIMIT, MAX_LIMIT};

const ABOUT: &str = "\
Submit tasks, follow them, work on them, and trace where their results come from.

Request and response bodies are JSON in UTF-8. Times are RFC 3339 in UTC. Ids in paths are percent-encoded. Unknown \
fields and query parameters are refused by name. A response always has all its fields; a field without a value is null. \
Later versions may add fields.

A problem is `application/problem+json` (RFC 9457). Programs should use its `code`, which is stable; `errors` names the \
invalid fields. An unknown path gives 404 `not_found`, and an unsupported method 405 `method_not_allowed` with `Allow`. \
Every path with GET also has HEAD. The servers of a path show whether it exists below `/` as well as below the base path.";

/// Returns the title, version and description of the document.
pub(in crate::http) fn info() -> Info {
    let license = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE")));
    InfoBuilder::new()
        .title("DATS orchestration service")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()))
        .build()
}

/// Returns the tags, in the order in which users meet them.
pub(in crate::http) fn tags() -> Vec<Tag> {
    let all = [
        ("Tasks", "Submit, read, follow and cancel tasks."),
        ("Projects", "Projects of tasks, with their limits, defaults and pauses."),
        ("Work queues", "Leases of tasks to workers that do not use a broker."),
        ("Events", "The event log, and the reports of workers, QA and reviewers."),
        ("Dead letters", "Rejected events."),
        ("Provenance", "Records of how artifacts were made, and their taints."),
        ("Artifacts", "The results of tasks."),
        ("Checkpoints", "Points in time to which a project can be rolled back."),
        ("Service", "Health, metrics and this document."),
    ];
    all.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()).to_vec()
}

/// Returns the schemas of a problem, to which every operation refers.
pub(in crate::http) fn problem() -> Vec<Named> {
    let mut all = vec![(Wire::<'static>::name().into_owned(), Wire::<'static>::schema())];
    Wire::<'static>::schemas(&mut all);
    all
}

/// Returns the ways to present the key, which is optional if none is configured.
pub(in crate::http) fn security() -> [SecurityRequirement; 3] {
    let none: [&str; 0] = [];
    [SecurityRequirement::default(), SecurityRequirement::new("ApiKey", none), SecurityRequirement::new("Bearer", none)]
}

/// Adds the keys and the shared parameters and headers.
pub(in crate::http) fn shared(components: &mut Components) {
    let key =
        ApiKeyValue::with_description("X-API-Key", "The value of `security.api_key` in the settings, if it is set.");
    components.add_security_scheme("ApiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The same key as a bearer token."));
    components.add_security_scheme("Bearer", SecurityScheme::Http(bearer.build()));
    for parameter in parameters() {
        components.parameters.insert(parameter.name.clone(), RefOr::T(parameter));
    }
    for (name, header) in headers() {
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

fn visible(most: usize) -> Object {
    text().min_length(Some(1)).max_length(Some(most)).pattern(Some("^[!-~]+$")).build()
}

fn query(name: &str, text: &str, schema: Object) -> Parameter {
    let parameter: ParameterBuilder = parameter(name, ParameterIn::Query, text).required(Required::False);
    parameter.schema(Some(schema)).build()
}

fn parameters() -> [Parameter; 11] {
    let trace = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}";
    [
        query(
            "limit",
            &format!("The largest number of entries of a page. The default is {DEFAULT_LIMIT}."),
            whole_number(&(1..=MAX_LIMIT)),
        ),
        query("cursor", "The start of the page: the `next_cursor` of the page before.", text().build()),
        query(
            "offset",
            "The number of entries to skip. It cannot be combined with a cursor.",
            whole_number(&(0..=u64::MAX)),
        ),
        header_parameter(
            "X-Request-Id",
            "An id that the response repeats. The default is a new id.",
            visible(MAX_REQUEST_ID_BYTES),
        ),
        header_parameter(
            "Idempotency-Key",
            "A repeated request with the same key has no second effect, for 24 hours. The quotes are optional.",
            visible(MAX_KEY_BYTES),
        ),
        header_parameter(
            "traceparent",
            "The trace of the task (W3C Trace Context). An invalid value is ignored.",
            text().pattern(Some(trace)).build(),
        ),
        header_parameter(
            "If-None-Match",
            "The version that the client has. The response is 304 if it is the current one.",
            text().build(),
        ),
        header_parameter(
            "If-Match",
            "The version to change. The response is 412 if it is not the current one.",
            text().build(),
        ),
        header_parameter(
            "Last-Event-ID",
            "The position after which a stream continues.",
            whole_number(&(0..=u64::MAX)),
        ),
        header_parameter("Range", "A single range of bytes, such as `bytes=0-1023`.", text().build()),
        header_parameter(
            "If-Range",
            "The version of the range. The response has the whole content if another version is current.",
            text().build(),
        ),
    ]
}

fn headers() -> [(&'static str, Header); 7] {
    let header = |said: &str, schema: Object| HeaderBuilder::new().schema(Some(schema)).description(Some(said)).build();
    let plain = |said: &str| header(said, text().build());
    [
        ("X-Request-Id", plain("The id of the request.")),
        ("ETag", plain("The version of the resource.")),
        ("Location", plain("The path of the new resource.")),
        ("Idempotent-Replayed", plain("`true` if this is the response to an earlier request with the same key.")),
        ("Retry-After", header("The time to wait before another try, in seconds.", whole_number(&(1..=60)))),
        ("Content-Range", plain("The part of the content, or its whole length.")),
        ("WWW-Authenticate", plain("How to present the key.")),
    ]
}
