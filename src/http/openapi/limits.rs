//! The limits of request bodies, which are set in their schemas from the constants of the checks.

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::Number;
use utoipa::openapi::RefOr;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

/// A schema with its name.
pub(in crate::http) type Named = (String, RefOr<Schema>);

/// The limit of a field.
pub(in crate::http) struct Limit {
    schema: &'static str,
    field: &'static str,
    allowed: Allowed,
}

enum Allowed {
    Length(usize, usize),
    Bytes(usize),
    Number(i64, Option<i64>),
    Items(usize, usize),
}

/// Limits the length of a text in bytes. A schema counts characters, which have one or more bytes, so it allows no
/// less than the check.
pub(in crate::http) const fn text(schema: &'static str, field: &'static str, least: usize, most: usize) -> Limit {
    Limit { schema, field, allowed: Allowed::Length(least, most) }
}

/// Limits a whole number.
pub(in crate::http) const fn whole(schema: &'static str, field: &'static str, least: i64, most: i64) -> Limit {
    Limit { schema, field, allowed: Allowed::Number(least, Some(most)) }
}

/// Limits a whole number whose upper bound is a setting.
pub(in crate::http) const fn at_least(schema: &'static str, field: &'static str, least: i64) -> Limit {
    Limit { schema, field, allowed: Allowed::Number(least, None) }
}

/// Limits the length of a list.
pub(in crate::http) const fn items(schema: &'static str, field: &'static str, least: usize, most: usize) -> Limit {
    Limit { schema, field, allowed: Allowed::Items(least, most) }
}

/// Limits the size of an object in JSON, which a schema can only state in its description.
pub(in crate::http) const fn bytes(schema: &'static str, field: &'static str, most: usize) -> Limit {
    Limit { schema, field, allowed: Allowed::Bytes(most) }
}

impl Limit {
    /// Returns the schema and the field.
    pub(in crate::http) fn name(&self) -> String {
        format!("{}.{}", self.schema, self.field)
    }

    /// Sets the limit in its schema. Returns false if the field does not exist.
    pub(in crate::http) fn apply(&self, schemas: &mut [Named]) -> bool {
        let schema = schemas.iter_mut().find(|(name, _)| name == self.schema).map(|(_, schema)| schema);
        let Some(RefOr::T(Schema::Object(object))) = schema else { return false };
        match (object.properties.get_mut(self.field), &self.allowed) {
            (Some(RefOr::T(Schema::Object(field))), Allowed::Length(least, most)) => {
                (field.min_length, field.max_length) = ((*least > 0).then_some(*least), Some(*most));
                append_description(field, &format!("At most {most} bytes."));
            }
            (Some(RefOr::T(Schema::Object(field))), Allowed::Bytes(most)) => {
                append_description(field, &format!("At most {most} bytes of JSON."));
            }
            (Some(RefOr::T(Schema::Object(field))), Allowed::Number(least, most)) => {
                (field.minimum, field.maximum) = (Some(amount(*least)), most.map(amount));
            }
            (Some(RefOr::T(Schema::Array(field))), Allowed::Items(least, most)) => {
                (field.min_items, field.max_items) = ((*least > 0).then_some(*least), Some(*most));
            }
            _ => return false,
        }
        true
    }
}

fn append_description(field: &mut Object, more: &str) {
    let said = field.description.take().unwrap_or_default();
    field.description = Some(format!("{said} {more}").trim_start().to_owned());
}

/// Converts to the number type of the library, which has the size of a pointer.
fn amount(number: i64) -> Number {
    isize::try_from(number).map_or(Number::Int(isize::MAX), Number::Int)
}

/// Returns the schema of a whole number within bounds. An upper bound above `i64::MAX` is left out.
pub(in crate::http) fn whole_number(allowed: &RangeInclusive<u64>) -> Object {
    let bound = |number: u64| i64::try_from(number).ok().map(amount);
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(bound(*allowed.start()))
        .maximum(bound(*allowed.end()))
        .build()
}

/// Returns an example with a value.
pub(in crate::http) fn example(value: &Value) -> Example {
    ExampleBuilder::new().value(Some(value.clone())).build()
}
