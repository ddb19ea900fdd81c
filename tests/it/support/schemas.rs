//! Values against schemas of documents that describe them.

use serde_json::{Value, json};

/// A schema that allows no fields but those it names. Part of one that is put
/// together, it stays `open`: the whole is closed.
pub(crate) fn strict(schema: &Value, open: bool) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let mut made = fields.clone();
    if open && let Some(name) = fields.get("$ref").and_then(Value::as_str) {
        made.insert("$ref".to_owned(), format!("{name}.open").into());
    }
    for (word, inner) in [("allOf", true), ("oneOf", open), ("anyOf", open)] {
        if let Some(parts) = fields.get(word).and_then(Value::as_array) {
            made.insert(word.to_owned(), parts.iter().map(|part| strict(part, inner)).collect());
        }
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(word) {
            made.insert(word.to_owned(), strict(inner, false));
        }
    }
    if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
        let properties = properties.iter().map(|(name, schema)| (name.clone(), strict(schema, false)));
        made.insert("properties".to_owned(), Value::Object(properties.collect()));
    }
    let names_fields = fields.contains_key("properties") || fields.contains_key("allOf");
    if names_fields && !open && !fields.contains_key("additionalProperties") {
        made.insert("unevaluatedProperties".to_owned(), false.into());
    }
    Value::Object(made)
}

/// What is wrong with a value by a schema of an `AsyncAPI` document, whose
/// schemas follow an older draft.
pub(crate) fn wrong(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let whole = json!({ "allOf": [schema], "components": { "schemas": document["components"]["schemas"] } });
    let validator = jsonschema::draft7::options().should_validate_formats(true).build(&whole).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The same, with nothing allowed that the schema does not name.
pub(crate) fn strictly_wrong(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let schemas = document["components"]["schemas"].as_object().unwrap().iter();
    let both = schemas.flat_map(|(name, schema)| {
        [(name.clone(), strict(schema, false)), (format!("{name}.open"), strict(schema, true))]
    });
    let schemas: serde_json::Map<_, _> = both.collect();
    let whole = json!({ "allOf": [strict(schema, false)], "components": { "schemas": schemas } });
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}
