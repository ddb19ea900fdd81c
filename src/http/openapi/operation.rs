//! One operation of the document while it is put together: what is said of
//! it, and the schemas that it needs.

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Required, SecurityRequirement};

use super::limits::{self, Limit};

/// The media type of most bodies and answers.
pub(in crate::http) const JSON: &str = "application/json";
/// That of problems.
pub(in crate::http) const PROBLEM: &str = "application/problem+json";

/// A schema and its name.
pub(in crate::http) type Named = (String, RefOr<Schema>);

/// An operation in the making.
pub(in crate::http) struct Described {
    operation: OperationBuilder,
    /// Schemas of bodies.
    pub(in crate::http) asked: Vec<Named>,
    /// Schemas of answers.
    pub(in crate::http) answered: Vec<Named>,
    answers: Vec<(u16, ResponseBuilder)>,
    problems: Vec<(u16, Vec<&'static str>)>,
    /// What was to be limited and is not there.
    pub(in crate::http) missed: Vec<String>,
}

/// A name for a schema of the document.
pub(in crate::http) fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// All that a type needs, itself with it.
fn schemas<T: ToSchema>() -> Vec<Named> {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    found
}

/// Begins the description of an operation: its id, its tag and what it does.
pub(in crate::http) fn operation(id: &str, tag: &str, summary: &str) -> Described {
    let operation = OperationBuilder::new().operation_id(Some(id)).tag(tag).summary(Some(summary));
    let operation = operation.parameter_ref(Ref::new("#/components/parameters/X-Request-Id"));
    Described {
        operation,
        asked: Vec::new(),
        answered: Vec::new(),
        answers: Vec::new(),
        problems: Vec::new(),
        missed: Vec::new(),
    }
    .problem(422, &["validation_failed"])
    .problem(500, &["internal"])
    .problem(503, &["overloaded"])
}

impl Described {
    /// What else is to be said.
    pub(in crate::http) fn says(mut self, text: &str) -> Self {
        self.operation = self.operation.description(Some(text));
        self
    }

    /// The id in the path.
    pub(in crate::http) fn id<T: ToSchema>(mut self, text: &str) -> Self {
        self.answered.extend(schemas::<T>());
        let parameter = parameter("id", ParameterIn::Path, text).required(Required::True);
        self.operation = self.operation.parameter(parameter.schema(Some(reference::<T>())));
        self
    }

    /// A query parameter of a type that bodies and answers have, too.
    pub(in crate::http) fn query<T: ToSchema>(mut self, name: &str, text: &str) -> Self {
        self.answered.extend(schemas::<T>());
        self.query_of(name, text, reference::<T>())
    }

    /// A query parameter with a schema of its own.
    pub(in crate::http) fn query_of(mut self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = parameter(name, ParameterIn::Query, text).schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// A query parameter without which there is no answer.
    pub(in crate::http) fn query_needed<T: ToSchema>(mut self, name: &str, text: &str) -> Self {
        self.answered.extend(schemas::<T>());
        self.query_needed_of(name, text, reference::<T>())
    }

    /// The same with a schema of its own.
    pub(in crate::http) fn query_needed_of(mut self, name: &str, text: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = parameter(name, ParameterIn::Query, text).required(Required::True);
        self.operation = self.operation.parameter(parameter.schema(Some(schema)));
        self
    }

    /// A page is asked for by its length, and by where it begins.
    pub(in crate::http) fn pages(self) -> Self {
        self.shared("limit").shared("cursor")
    }

    /// A page behind an answer is asked for by what that said.
    pub(in crate::http) fn goes_on(self) -> Self {
        let cursor = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        self.shared("limit").query_needed_of("cursor", "`next_cursor` of the answer or page before it.", cursor)
    }

    /// A parameter that several operations have.
    pub(in crate::http) fn shared(mut self, name: &str) -> Self {
        self.operation = self.operation.parameter_ref(Ref::new(format!("#/components/parameters/{name}")));
        self
    }

    /// A body of JSON: its limits, and examples by name.
    pub(in crate::http) fn body<T: ToSchema>(self, needed: bool, limits: &[Limit], examples: &[(&str, Value)]) -> Self {
        let mut all = schemas::<T>();
        let mut described = self;
        for limit in limits {
            if !limit.apply(&mut all) {
                described.missed.push(limit.name());
            }
        }
        described.asked.extend(all);
        let examples = examples.iter().map(|(name, value)| (*name, limits::example(value)));
        let content = ContentBuilder::new().schema(Some(reference::<T>())).examples_from_iter(examples).build();
        described.content(needed, [(JSON, content)])
    }

    /// A body of any kind.
    pub(in crate::http) fn content<const N: usize>(mut self, needed: bool, contents: [(&str, Content); N]) -> Self {
        let needed = if needed { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().required(Some(needed));
        let body = contents.into_iter().fold(body, |body, (kind, content)| body.content(kind, content));
        self.operation = self.operation.request_body(Some(body.build()));
        self.problem(415, &["unsupported_media_type"])
    }

    /// The service reads the whole body before it does anything.
    pub(in crate::http) fn reads_json(self) -> Self {
        self.problem(400, &["malformed_json", "json_too_deep", "body_broken"])
            .problem(408, &["body_timeout"])
            .problem(413, &["body_too_large"])
    }

    /// Schemas of a body that is described by itself.
    pub(in crate::http) fn asks<T: ToSchema>(mut self) -> Self {
        self.asked.extend(schemas::<T>());
        self
    }

    /// An answer of JSON.
    pub(in crate::http) fn answer<T: ToSchema>(self, status: u16, text: &str) -> Self {
        self.answer_as::<T>(status, text, JSON)
    }

    /// An answer of a type in another form.
    pub(in crate::http) fn answer_as<T: ToSchema>(mut self, status: u16, text: &str, kind: &str) -> Self {
        self.answered.extend(schemas::<T>());
        self.answer_of(status, text, kind, Some(reference::<T>().into()))
    }

    /// An answer of JSON that is one of two.
    pub(in crate::http) fn answer_either<A: ToSchema, B: ToSchema>(mut self, status: u16, text: &str) -> Self {
        self.answered.extend(schemas::<A>().into_iter().chain(schemas::<B>()));
        let either = OneOfBuilder::new().item(reference::<A>()).item(reference::<B>()).build();
        self.answer_of(status, text, JSON, Some(RefOr::T(Schema::OneOf(either))))
    }

    /// An answer of any kind; one more kind where the status has one already.
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

    /// An answer without a body.
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

    /// A header of the answer with a status.
    pub(in crate::http) fn header(mut self, status: u16, name: &str) -> Self {
        match self.answers.iter_mut().find(|(each, _)| *each == status) {
            Some((_, answer)) => {
                let header = Ref::new(format!("#/components/headers/{name}"));
                *answer = std::mem::take(answer).header_ref(name, header);
            }
            None => self.missed.push(format!("the answer {status} for its header {name}")),
        }
        self
    }

    /// The answer carries a version, and is not sent again to who has it.
    pub(in crate::http) fn versioned(self) -> Self {
        let described = self.shared("If-None-Match").header(200, "ETag");
        described.empty(304, "The client has it already.").header(304, "ETag")
    }

    /// Problems that can come, by their codes.
    pub(in crate::http) fn problem(mut self, status: u16, codes: &[&'static str]) -> Self {
        match self.problems.iter_mut().find(|(each, _)| *each == status) {
            Some((_, known)) => known.extend(codes),
            None => self.problems.push((status, codes.to_vec())),
        }
        self
    }

    /// It reads what is stored.
    pub(in crate::http) fn reads(self) -> Self {
        self.problem(503, &["shutting_down", "store_failed"])
    }

    /// It changes what is stored.
    pub(in crate::http) fn writes(self) -> Self {
        self.reads().problem(503, &["storage_full", "outcome_unknown", "not_owner"])
    }

    /// It goes through provenance, in a limited time.
    pub(in crate::http) fn walks(self) -> Self {
        self.problem(504, &["walk_timeout"])
    }

    /// Everybody is let in.
    pub(in crate::http) fn public(mut self) -> Self {
        self.operation = self.operation.securities(Some([SecurityRequirement::default()]));
        self
    }

    /// Who does not show the key is not let in, and neither are requests for
    /// another host and, where it `changes` something, from pages of other sites.
    pub(in crate::http) fn guarded(self, changes: bool) -> Self {
        let guarded = self.problem(400, &["invalid_host"]).problem(401, &["unauthorized"]);
        let guarded = guarded.problem(421, &["unknown_host"]);
        if changes { guarded.problem(403, &["foreign_origin"]) } else { guarded }
    }

    /// Puts everything together.
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

/// What a status of a problem means.
fn title(status: u16) -> &'static str {
    match status {
        400 => "The request could not be read",
        401 => "The caller is not known",
        403 => "Forbidden",
        404 => "There is no such resource",
        406 => "The answer has no such form",
        408 => "The body did not come in time",
        409 => "The request conflicts with the state",
        410 => "The cursor has expired",
        412 => "The resource has another version",
        413 => "The body is too large",
        415 => "The body is of a kind that is not taken",
        416 => "There is no such range",
        421 => "Misdirected Request",
        422 => "The request is not valid",
        500 => "The service met a defect",
        503 => "The service can't do it now",
        504 => "The answer takes too long",
        _ => "A problem",
    }
}

pub(in crate::http) fn parameter(name: &str, place: ParameterIn, text: &str) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).description(Some(text))
}

/// A parameter in a header, for the components.
pub(in crate::http) fn header_parameter(name: &str, text: &str, schema: Object) -> Parameter {
    parameter(name, ParameterIn::Header, text).required(Required::False).schema(Some(schema)).build()
}

/// A query parameter that is a whole number.
pub(in crate::http) fn number(allowed: &RangeInclusive<u64>) -> Object {
    limits::whole_number(allowed)
}
