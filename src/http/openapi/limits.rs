//! The limits of bodies, put into their schemas from the constants that the
//! checks use.

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::Number;
use utoipa::openapi::RefOr;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

use super::operation::Named;

/// What a field of a body may be.
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

/// A text of a length in bytes. A character takes one or more of them, so the
/// bound on characters is no narrower than the one that is checked.
pub(in crate::http) const fn text(schema: &'static str, field: &'static str, least: usize, most: usize) -> Limit {
    Limit { schema, field, allowed: Allowed::Length(least, most) }
}

/// A whole number.
pub(in crate::http) const fn whole(schema: &'static str, field: &'static str, least: i64, most: i64) -> Limit {
    Limit { schema, field, allowed: Allowed::Number(least, Some(most)) }
}

/// A whole number whose upper bound is a setting.
pub(in crate::http) const fn at_least(schema: &'static str, field: &'static str, least: i64) -> Limit {
    Limit { schema, field, allowed: Allowed::Number(least, None) }
}

/// A list.
pub(in crate::http) const fn items(schema: &'static str, field: &'static str, least: usize, most: usize) -> Limit {
    Limit { schema, field, allowed: Allowed::Items(least, most) }
}

/// An object whose JSON has at most so many bytes, which a schema can only say
/// in words.
pub(in crate::http) const fn bytes(schema: &'static str, field: &'static str, most: usize) -> Limit {
    Limit { schema, field, allowed: Allowed::Bytes(most) }
}

impl Limit {
    /// What it is about.
    pub(in crate::http) fn name(&self) -> String {
        format!("{}.{}", self.schema, self.field)
    }

    /// Puts it into its schema; whether there is such a field.
    pub(in crate::http) fn apply(&self, schemas: &mut [Named]) -> bool {
        let schema = schemas.iter_mut().find(|(name, _)| name == self.schema).map(|(_, schema)| schema);
        let Some(RefOr::T(Schema::Object(object))) = schema else { return false };
        match (object.properties.get_mut(self.field), &self.allowed) {
            (Some(RefOr::T(Schema::Object(field))), Allowed::Length(least, most)) => {
                (field.min_length, field.max_length) = ((*least > 0).then_some(*least), Some(*most));
                say(field, &format!("At most {most} bytes."));
            }
            (Some(RefOr::T(Schema::Object(field))), Allowed::Bytes(most)) => {
                say(field, &format!("At most {most} bytes of JSON."));
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

fn say(field: &mut Object, more: &str) {
    let said = field.description.take().unwrap_or_default();
    field.description = Some(format!("{said} {more}").trim_start().to_owned());
}

/// The library's numbers are of the size of a pointer.
fn amount(number: i64) -> Number {
    isize::try_from(number).map_or(Number::Int(isize::MAX), Number::Int)
}

/// A whole number within bounds; without an upper one where that is the most
/// there is.
pub(in crate::http) fn whole_number(allowed: &RangeInclusive<u64>) -> Object {
    let bound = |number: u64| i64::try_from(number).ok().map(amount);
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(bound(*allowed.start()))
        .maximum(bound(*allowed.end()))
        .build()
}

/// A value as an example.
pub(in crate::http) fn example(value: &Value) -> Example {
    ExampleBuilder::new().value(Some(value.clone())).build()
}
