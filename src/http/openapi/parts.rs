//! What the whole document shares: who it is about, keys, parameters and
//! headers that many operations have.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::info::{Info, InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Components, Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{RefOr, Required, SecurityRequirement};
use utoipa::{PartialSchema, ToSchema};

use super::limits::whole_number;
use super::operation::{Named, header_parameter, parameter};
use crate::http::server::headers::MAX_REQUEST_ID_BYTES;
use crate::http::server::idempotency::MAX_KEY_BYTES;
use crate::http::server::problem::Wire;
use crate::http::server::query::{DEFAULT_LIMIT, MAX_LIMIT};

const ABOUT: &str = "\
Tasks from their submission to their end: submit them, follow them, work on them, and ask where their results come from.

Bodies and answers are JSON in UTF-8, times RFC 3339 in UTC. Ids in paths are percent-encoded. Unknown fields and query \
parameters are refused by name. A field of an answer is always there, and null where it is not known yet; fields may be \
added.

A problem is `application/problem+json` (RFC 9457): `code` is stable and what a program goes by, `errors` names the \
fields that are not valid. A path that does not exist is 404 `not_found`, a method that it does not have 405 \
`method_not_allowed` with `Allow`. Every path that has GET has HEAD. A path below `/` as well as below the base path says \
so by its servers.";

/// What the document is about.
pub(super) fn info() -> Info {
    let license = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE")));
    InfoBuilder::new()
        .title("DATS orchestration service")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()))
        .build()
}

/// The parts of the interface, in the order in which people meet them.
pub(super) fn tags() -> Vec<Tag> {
    let all = [
        ("Tasks", "Submit tasks, read them, follow them, end them."),
        ("Projects", "What tasks belong to: limits, defaults, pauses."),
        ("Work queues", "How workers get tasks without a broker."),
        ("Events", "What has happened, and reports of workers, QA and reviewers."),
        ("Dead letters", "Events that could not be taken."),
        ("Provenance", "Who made what out of what, and what is said of it."),
        ("Artifacts", "What was made."),
        ("Checkpoints", "Points in time that a project can be rolled back to."),
        ("Service", "Health, metrics, this document."),
    ];
    all.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()).to_vec()
}

/// The problem, which every operation refers to.
pub(super) fn problem() -> Vec<Named> {
    let mut all = vec![(Wire::<'static>::name().into_owned(), Wire::<'static>::schema())];
    Wire::<'static>::schemas(&mut all);
    all
}

/// Without a configured key, nobody has to show one.
pub(super) fn security() -> [SecurityRequirement; 3] {
    let none: [&str; 0] = [];
    [SecurityRequirement::default(), SecurityRequirement::new("ApiKey", none), SecurityRequirement::new("Bearer", none)]
}

/// Parameters, headers and ways to show the key.
pub(super) fn shared(components: &mut Components) {
    let key = ApiKeyValue::with_description("X-API-Key", "`security.api_key` of the settings, where it is set.");
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
            &format!("Most entries of a page. Without it: {DEFAULT_LIMIT}."),
            whole_number(&(1..=MAX_LIMIT)),
        ),
        query("cursor", "Where the page begins: `next_cursor` of the page before it.", text().build()),
        query("offset", "Entries to skip; not with a cursor.", whole_number(&(0..=u64::MAX))),
        header_parameter(
            "X-Request-Id",
            "Comes back with the answer; without it, one is made.",
            visible(MAX_REQUEST_ID_BYTES),
        ),
        header_parameter(
            "Idempotency-Key",
            "A request that is repeated with the same key has no second effect, for 24 hours. In quotes or not.",
            visible(MAX_KEY_BYTES),
        ),
        header_parameter(
            "traceparent",
            "The trace the task belongs to (W3C); one that is not valid is left out.",
            text().pattern(Some(trace)).build(),
        ),
        header_parameter(
            "If-None-Match",
            "The version that the client has: 304 where that is the current one.",
            text().build(),
        ),
        header_parameter(
            "If-Match",
            "The version that is to be changed: 412 where another is the current one.",
            text().build(),
        ),
        header_parameter("Last-Event-ID", "The position after which a stream goes on.", whole_number(&(0..=u64::MAX))),
        header_parameter("Range", "One range of bytes, such as `bytes=0-1023`.", text().build()),
        header_parameter(
            "If-Range",
            "The version that the range is one of; of another one, all comes.",
            text().build(),
        ),
    ]
}

fn headers() -> [(&'static str, Header); 7] {
    let header = |said: &str, schema: Object| HeaderBuilder::new().schema(Some(schema)).description(Some(said)).build();
    let plain = |said: &str| header(said, text().build());
    [
        ("X-Request-Id", plain("The id that the request brought, or one that was made.")),
        ("ETag", plain("The version of what is answered.")),
        ("Location", plain("Where it is.")),
        ("Idempotent-Replayed", plain("`true` where this is the answer to an earlier request of the same key.")),
        ("Retry-After", header("Seconds to wait, where that helps.", whole_number(&(1..=60)))),
        ("Content-Range", plain("Which part it is, or how long all is.")),
        ("WWW-Authenticate", plain("How to show the key.")),
    ]
}
