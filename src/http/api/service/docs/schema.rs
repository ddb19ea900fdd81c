//! Schemas for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::{escaped, fields, inline, list, paragraphs, string};

/// A schema under its name.
pub(super) fn write(out: &mut String, name: &str, schema: &Value) {
    let shown = escaped(name);
    let _ = writeln!(out, "<details><summary><code>{shown}</code></summary>\n<div id=\"schema-{shown}\">");
    paragraphs(out, string(&schema["description"]));
    write_all(out, schema);
    out.push_str("</div></details>\n");
}

fn write_all(out: &mut String, schema: &Value) {
    for word in ["allOf", "oneOf"] {
        if schema[word].is_array() {
            let said = if word == "allOf" { "All of these fields:" } else { "One of these:" };
            let _ = writeln!(out, "<p class=\"quiet\">{said}</p>");
            for part in list(&schema[word]) {
                if part["properties"].is_object() {
                    paragraphs(out, string(&part["description"]));
                    write_fields(out, part);
                } else {
                    let _ = writeln!(out, "<p>{}</p>", kind(part));
                }
            }
        }
    }
    if schema["properties"].is_object() {
        write_fields(out, schema);
    } else if schema["type"].is_string() {
        let _ = writeln!(out, "<p>{}</p>", kind(schema));
    }
}

fn write_fields(out: &mut String, schema: &Value) {
    out.push_str("<dl>\n");
    for (name, field) in fields(&schema["properties"]) {
        let needed = if list(&schema["required"]).any(|each| each == name) { "" } else { "may be absent" };
        let name = escaped(name);
        let _ = writeln!(out, "<dt><code>{name}</code> {} <span class=\"quiet\">{needed}</span></dt>", kind(field));
        let said = said(field);
        if !said.is_empty() {
            let _ = writeln!(out, "<dd>{}</dd>", inline(said));
        }
    }
    out.push_str("</dl>\n");
}

/// What is said of a field stands beside its reference where that may be null.
fn said(field: &Value) -> &str {
    let beside = list(&field["oneOf"]).map(|part| string(&part["description"])).find(|text| !text.is_empty());
    field["description"].as_str().or(beside).unwrap_or_default()
}

/// What a value is, in a line.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|text| text.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        if schema[word].is_array() {
            let parts: Vec<String> = list(&schema[word]).map(kind).collect();
            return parts.join(if word == "allOf" { " and " } else { " or " });
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(string).collect(),
        one => vec![string(one)],
    };
    let kinds: Vec<String> = kinds.into_iter().map(|each| one_kind(schema, each)).collect();
    let limits = limits(schema);
    if limits.is_empty() {
        kinds.join(" or ")
    } else {
        format!("{} <span class=\"quiet\">({limits})</span>", kinds.join(" or "))
    }
}

fn one_kind(schema: &Value, kind_word: &str) -> String {
    match kind_word {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "" => "anything".to_owned(),
        other => escaped(other),
    }
}

/// Formats, words and bounds.
fn limits(schema: &Value) -> String {
    let mut all: Vec<String> = Vec::new();
    if let Some(format) = schema["format"].as_str().filter(|format| !format.starts_with("int")) {
        all.push(escaped(format));
    }
    let words: Vec<String> =
        list(&schema["enum"]).map(|word| format!("<code>{}</code>", escaped(string(word)))).collect();
    if !words.is_empty() {
        all.push(words.join(", "));
    }
    let bounds = [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least"),
        ("maxLength", "at most"),
        ("minItems", "at least"),
        ("maxItems", "at most"),
    ];
    for (name, word) in bounds {
        if schema[name].is_number() && schema[name] != 0 {
            all.push(format!("{word} {}", schema[name]));
        }
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_shown_in_a_line() {
        let number = json!({"type": ["integer", "null"], "format": "int64", "minimum": 1, "maximum": 20});
        assert_eq!(kind(&number), "integer or null <span class=\"quiet\">(from 1, to 20)</span>");
        let tasks = json!({"type": "array", "items": {"$ref": "#/components/schemas/Task"}});
        assert_eq!(kind(&tasks), "list of <a href=\"#schema-Task\">Task</a>");
        assert_eq!(kind(&json!({})), "anything");
    }
}
