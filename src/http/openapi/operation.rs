//! A builder for an operation of the document with the schemas that it refers to.

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Required, SecurityRequirement};

use super::limits::{self, Limit, Named};

/// The media type of most request and response bodies.
pub(in crate::http) const JSON: &str = "application/json";
/// The media type of problems.
pub(in crate::http) const PROBLEM: &str = "application/problem+json";

/// The description of an operation.
pub(in crate::http) struct Described {
    operation: OperationBuilder,
    /// The schemas of request bodies.
    pub(in crate::http) requests: Vec<Named>,
    /// The schemas of responses.
    pub(in crate::http) responses: Vec<Named>,
    answers: Vec<(u16, ResponseBuilder)>,
    problems: Vec<(u16, Vec<&'static str>)>,
    /// The limits and headers that name something that does not exist.
    pub(in crate::http) missed: Vec<String>,
}

/// Returns a reference to the schema of a type.
pub(in crate::http) fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// Returns the schema of a type and the schemas that it refers to.
fn schemas<T: ToSchema>() -> Vec<Named> {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    found
}

/// Starts the description of an operation.
pub(in crate::http) fn operation(id: &str, tag: &str, summary: &str) -> Described {
    let operation = OperationBuilder::new().operation_id(Some(id)).tag(tag).summary(Some(summary));
    let operation = operation.parameter_ref(Ref::new("#/components/parameters/X-Request-Id"));
    Described {
        operation,
        requests: Vec::new(),
        responses: Vec::new(),
        answers: Vec::new(),
        problems: Vec::new(),
        missed: Vec::new(),
    }
    .problem(422, &["validation_failed"])
    .problem(500, &["internal"])
    .problem(503, &["overloaded"])
}

impl Described {
    /// Sets the description.
    pub(in crate::http) fn says(mut self, text: &str) -> Self {
        self.operation = self.operation.description(Some(text));
        self
    }

    /// Adds the id in the path.
    pub(in crate::http) fn id<T: ToSchema>(mut self, text: &str) -> Self {
        self.responses.extend(schemas::<T>());
        let parameter = parameter("id", ParameterIn::Path, text).required(Required::True);
        self.operation = self.operation.parameter(parameter.schema(Some(reference::<T>())));
        self
    }

    /// Adds a query parameter with the schema of a type.
    pub(in crate::http) fn query<T: ToSchema>(mut self, name: &str, text: &str) -> Self {
        self.responses.extend(schemas::<T>());
        self.query_of(name, text, reference::<T>())
    }

    /// Adds a query parameter with its own schema.
    pub(in crate::http) fn query_of(mut self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = parameter(name, ParameterIn::Query, text).schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// Adds a required query parameter with the schema of a type.
    pub(in crate::http) fn query_needed<T: ToSchema>(mut self, name: &str, text: &str) -> Self {
        self.responses.extend(schemas::<T>());
        self.query_needed_of(name, text, reference::<T>())
    }

    /// Adds a required query parameter with its own schema.
    pub(in crate::http) fn query_needed_of(mut self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = parameter(name, ParameterIn::Query, text).required(Required::True);
        self.operation = self.operation.parameter(parameter.schema(Some(schema)));
        self
    }

    /// Adds the parameters of a page.
    pub(in crate::http) fn pages(self) -> Self {
        self.shared("limit").shared("cursor")
    }

    /// Adds the parameters of a further page, which requires a cursor.
    pub(in crate::http) fn goes_on(self) -> Self {
        let cursor = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        self.shared("limit").query_needed_of(
            "cursor",
            "The `next_cursor` of the response or of the page before.",
            cursor,
        )
    }

    /// Adds a parameter that several operations share.
    pub(in crate::http) fn shared(mut self, name: &str) -> Self {
        self.operation = self.operation.parameter_ref(Ref::new(format!("#/components/parameters/{name}")));
        self
    }

    /// Adds a JSON body with its limits and its examples by name.
    pub(in crate::http) fn body<T: ToSchema>(self, needed: bool, limits: &[Limit], examples: &[(&str, Value)]) -> Self {
        let mut all = schemas::<T>();
        let mut described = self;
        for limit in limits {
            if !limit.apply(&mut all) {
                described.missed.push(limit.name());
            }
        }
        described.requests.extend(all);
        let examples = examples.iter().map(|(name, value)| (*name, limits::example(value)));
        let content = ContentBuilder::new().schema(Some(reference::<T>())).examples_from_iter(examples).build();
        described.content(needed, [(JSON, content)])
    }

    /// Adds a body with any media types.
    pub(in crate::http) fn content<const N: usize>(mut self, needed: bool, contents: [(&str, Content); N]) -> Self {
        let needed = if needed { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().required(Some(needed));
        let body = contents.into_iter().fold(body, |body, (kind, content)| body.content(kind, content));
        self.operation = self.operation.request_body(Some(body.build()));
        self.problem(415, &["unsupported_media_type"])
    }

    /// Adds the problems of a body that is read and decoded before anything else.
    pub(in crate::http) fn reads_json(self) -> Self {
        self.problem(400, &["malformed_json", "json_too_deep", "body_broken"])
            .problem(408, &["body_timeout"])
            .problem(413, &["body_too_large"])
    }

    /// Adds the schemas of a body that [`Self::content`] describes.
    pub(in crate::http) fn asks<T: ToSchema>(mut self) -> Self {
        self.requests.extend(schemas::<T>());
        self
    }

    /// Adds a JSON response.
    pub(in crate::http) fn answer<T: ToSchema>(self, status: u16, text: &str) -> Self {
        self.answer_as::<T>(status, text, JSON)
    }

    /// Adds a response with another media type and the schema of a type.
    pub(in crate::http) fn answer_as<T: ToSchema>(mut self, status: u16, text: &str, kind: &str) -> Self {
        self.responses.extend(schemas::<T>());
        self.answer_of(status, text, kind, Some(reference::<T>().into()))
    }

    /// Adds a JSON response that has one of two types.
    pub(in crate::http) fn answer_either<A: ToSchema, B: ToSchema>(mut self, status: u16, text: &str) -> Self {
        self.responses.extend(schemas::<A>().into_iter().chain(schemas::<B>()));
        let either = OneOfBuilder::new().item(reference::<A>()).item(reference::<B>()).build();
        self.answer_of(status, text, JSON, Some(RefOr::T(Schema::OneOf(either))))
    }

    /// Adds a response, or another media type to the response with the same status.
    pub(in crate::http) fn answer_of(
        mut self,
        status: u16,
        text: &str,
        kind: &str,
        schema: Option<RefOr<Schema>>,
    ) -> Self {
        let content = ContentBuilder::new().schema(schema).build();
        let place = self.place(status, text);
        if let Some((_, answer)) = self.answers.get_mut(place) {
            *answer = std::mem::take(answer).content(kind, content);
        }
        self
    }

    /// Adds a response without a body.
    pub(in crate::http) fn empty(mut self, status: u16, text: &str) -> Self {
        self.place(status, text);
        self
    }

    fn place(&mut self, status: u16, text: &str) -> usize {
        if let Some(place) = self.answers.iter().position(|(each, _)| *each == status) {
            return place;
        }
        let answer = ResponseBuilder::new().description(text);
        self.answers.push((status, answer.header_ref("X-Request-Id", Ref::new("#/components/headers/X-Request-Id"))));
        self.answers.len() - 1
    }

    /// Adds a header to the response with a status.
    pub(in crate::http) fn header(mut self, status: u16, name: &str) -> Self {
        match self.answers.iter_mut().find(|(each, _)| *each == status) {
            Some((_, answer)) => {
                let header = Ref::new(format!("#/components/headers/{name}"));
                *answer = std::mem::take(answer).header_ref(name, header);
            }
            None => self.missed.push(format!("the response {status} for its header {name}")),
        }
        self
    }

    /// Adds the entity tag of the response, and the response to a client that has the current version.
    pub(in crate::http) fn versioned(self) -> Self {
        let described = self.shared("If-None-Match").header(200, "ETag");
        described.empty(304, "The client has the current version.").header(304, "ETag")
    }

    /// Adds the codes of problems.
    pub(in crate::http) fn problem(mut self, status: u16, codes: &[&'static str]) -> Self {
        match self.problems.iter_mut().find(|(each, _)| *each == status) {
            Some((_, known)) => known.extend(codes),
            None => self.problems.push((status, codes.to_vec())),
        }
        self
    }

    /// Adds the problems of an operation that reads the store.
    pub(in crate::http) fn reads(self) -> Self {
        self.problem(503, &["shutting_down", "store_failed"])
    }

    /// Adds the problems of an operation that changes the store.
    pub(in crate::http) fn writes(self) -> Self {
        self.reads().problem(503, &["storage_full", "outcome_unknown", "not_owner"])
    }

    /// Adds the problem of a provenance query over its time limit.
    pub(in crate::http) fn walks(self) -> Self {
        self.problem(504, &["walk_timeout"])
    }

    /// Marks an operation that needs no key.
    pub(in crate::http) fn public(mut self) -> Self {
        self.operation = self.operation.securities(Some([SecurityRequirement::default()]));
        self
    }

    /// Adds the problems of requests without the key, for another host and, if the operation `changes` something,
    /// from pages of other sites.
    pub(in crate::http) fn guarded(self, changes: bool) -> Self {
        let guarded = self.problem(400, &["invalid_host"]).problem(401, &["unauthorized"]);
        let guarded = guarded.problem(421, &["unknown_host"]);
        if changes { guarded.problem(403, &["foreign_origin"]) } else { guarded }
    }

    /// Builds the operation.
    pub(in crate::http) fn finish(mut self) -> Operation {
        for (status, codes) in std::mem::take(&mut self.problems) {
            let text = format!(
                "{}: {}.",
                title(status),
                codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ")
            );
            let problem = Some(Ref::from_schema_name("Problem"));
            self = self.answer_of(status, &text, PROBLEM, problem.map(RefOr::Ref));
            let header = match status {
                401 => Some("WWW-Authenticate"),
                416 => Some("Content-Range"),
                429 | 503 => Some("Retry-After"),
                _ => None,
            };
            if let Some(header) = header {
                self = self.header(status, header);
            }
        }
        self.answers.sort_by_key(|(status, _)| *status);
        let answers = self.answers.into_iter();
        answers
            .fold(self.operation, |operation, (status, answer)| {
                let answer: Response = answer.build();
                operation.response(status.to_string(), answer)
            })
            .build()
    }
}

/// Returns the meaning of the status of a problem.
fn title(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read",
        401 => "The key is missing or wrong",
        403 => "The origin is not allowed",
        404 => "The resource does not exist",
        406 => "No accepted media type is available",
        408 => "The body was not received in time",
        409 => "The request conflicts with the state",
        410 => "The cursor has expired",
        412 => "The resource has another version",
        413 => "The body is too large",
        415 => "The media type of the body is not supported",
        416 => "The range cannot be satisfied",
        421 => "The host is unknown",
        422 => "The request is invalid",
        500 => "The service has a defect",
        503 => "The service is not available now",
        504 => "The query reached its time limit",
        _ => "A problem",
    }
}

pub(in crate::http) fn parameter(name: &str, place: ParameterIn, text: &str) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).description(Some(text))
}

/// Returns a header parameter for the components.
pub(in crate::http) fn header_parameter(name: &str, text: &str, schema: Object) -> Parameter {
    parameter(name, ParameterIn::Header, text).required(Required::False).schema(Some(schema)).build()
}

/// Returns the schema of a whole number.
pub(in crate::http) fn number(allowed: &RangeInclusive<u64>) -> Object {
    limits::whole_number(allowed)
}
