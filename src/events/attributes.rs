//! The attributes of an event, checked against the specification of `CloudEvents`
//! 1.0. Readers receive an accepted event unchanged, and the official libraries
//! refuse events that violate the specification.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::uri;
use crate::json::{self, FieldError, Findings, Invalid};
use crate::task::Timestamp;

/// The longest `source` and the longest `id`, in bytes. Both are stored to detect duplicates.
pub(super) const MAX_IDENTITY_BYTES: usize = 1024;

/// An event in structured mode whose attributes are not checked yet.
#[derive(Debug, Default)]
pub(super) struct UncheckedEvent {
    specversion: Option<String>,
    event_type: Option<String>,
    source: Option<String>,
    id: Option<String>,
    time: Option<String>,
    subject: Option<String>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    data_base64: Option<IgnoredAny>,
    pub(super) data: Option<Value>,
    /// Whether an attribute is null. The official libraries refuse null, so readers receive the event
    /// without such attributes.
    pub(super) has_null: bool,
    /// All other attributes.
    extensions: Vec<(String, Value)>,
}

/// The checked attributes of an event.
#[derive(Debug)]
pub(super) struct Attributes {
    /// The type, which is not empty.
    pub(super) event_type: String,
    /// The source, a URI reference.
    pub(super) source: String,
    /// The id, which is not empty.
    pub(super) id: String,
    /// The trace context, which is not checked.
    pub(super) traceparent: Option<String>,
}

impl<'de> Deserialize<'de> for UncheckedEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = UncheckedEvent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UncheckedEvent, A::Error> {
        let mut event = UncheckedEvent::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match &*name {
                "specversion" => event.specversion = event.record_null(map.next_value()?),
                "type" => event.event_type = event.record_null(map.next_value()?),
                "source" => event.source = event.record_null(map.next_value()?),
                "id" => event.id = event.record_null(map.next_value()?),
                "time" => event.time = event.record_null(map.next_value()?),
                "subject" => event.subject = event.record_null(map.next_value()?),
                "datacontenttype" => event.datacontenttype = event.record_null(map.next_value()?),
                "dataschema" => event.dataschema = event.record_null(map.next_value()?),
                "data_base64" => event.data_base64 = event.record_null(map.next_value()?),
                "data" => event.data = map.next_value()?,
                _ => {
                    let value = event.record_null(map.next_value()?);
                    event.extensions.extend(value.map(|value| (name.into_owned(), value)));
                }
            }
        }
        Ok(event)
    }
}

impl UncheckedEvent {
    /// Records whether an attribute is null.
    const fn record_null<T>(&mut self, value: Option<T>) -> Option<T> {
        self.has_null |= value.is_none();
        value
    }

    /// Checks the attributes. `errors` are the errors of their types.
    pub(super) fn attributes(&self, errors: Vec<FieldError>) -> Result<Attributes, Invalid> {
        let mut found = Findings::from_errors(errors);
        match found.required("/specversion", self.specversion.as_deref()) {
            Some("1.0") | None => {}
            Some(other) => found.add("/specversion", format!("must be \"1.0\", was {}", json::quoted(other))),
        }
        let event_type = read_identity(&mut found, "/type", self.event_type.as_deref());
        let source = read_identity(&mut found, "/source", self.source.as_deref());
        if let Some(source) = source.as_deref().filter(|source| !uri::is_reference(source)) {
            let what = "must be a URI-reference (RFC 3986) such as /worker; other characters are percent-encoded";
            found.add("/source", format!("{what}, was {}", json::quoted(source)));
        }
        let id = read_identity(&mut found, "/id", self.id.as_deref());
        self.check_optional(&mut found);
        for (name, value) in &self.extensions {
            if found.is_full() {
                break;
            }
            check_extension(&mut found, name, value);
        }
        match (event_type, source, id) {
            (Some(event_type), Some(source), Some(id)) if found.is_empty() => {
                let traceparent = self.extensions.iter().find(|(name, _)| name == "traceparent");
                let traceparent = traceparent.and_then(|(_, value)| value.as_str().map(str::to_owned));
                Ok(Attributes { event_type, source, id, traceparent })
            }
            _ => Err(Invalid::Fields(found.into_errors())),
        }
    }

    fn check_optional(&self, found: &mut Findings) {
        if let Some(time) = &self.time {
            if is_rfc_3339(time) {
                found.parse::<Timestamp>("/time", time);
            } else {
                let what = "must be an RFC 3339 time such as 2026-01-09T18:00:00Z";
                found.add("/time", format!("{what}, was {}", json::quoted(time)));
            }
        }
        if let Some(subject) = &self.subject {
            check_text(found, "/subject", subject);
            if subject.is_empty() {
                found.add("/subject", "must not be empty; leave it out");
            }
        }
        if let Some(kind) = self.datacontenttype.as_deref().filter(|kind| !is_json(kind)) {
            found.add("/datacontenttype", format!("must be application/json, was {}", json::quoted(kind)));
        }
        if let Some(schema) = self.dataschema.as_deref().filter(|schema| !uri::is_absolute(schema)) {
            let what = "must be an absolute URI (RFC 3986) such as https://example.com/schema.json";
            found.add("/dataschema", format!("{what}, was {}", json::quoted(schema)));
        }
        if self.data_base64.is_some() {
            found.add("/data_base64", "is not accepted: the data of these events is JSON, in `data`");
        }
    }
}

/// Reads a required attribute that identifies the event.
fn read_identity(found: &mut Findings, pointer: &str, text: Option<&str>) -> Option<String> {
    let text = found.required(pointer, text)?;
    if text.is_empty() {
        found.add(pointer, "must not be empty");
    } else if text.len() > MAX_IDENTITY_BYTES {
        found.add(pointer, format!("must be at most {MAX_IDENTITY_BYTES} bytes, was {}", text.len()));
    } else {
        check_text(found, pointer, text);
        return Some(text.to_owned());
    }
    None
}

/// Checks the text of an attribute, which has no control characters and no noncharacters.
fn check_text(found: &mut Findings, pointer: &str, text: &str) {
    let is_noncharacter = |each: char| {
        let code = u32::from(each);
        (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    };
    if let Some(bad) = text.chars().find(|each| each.is_control() || is_noncharacter(*each)) {
        found.add(pointer, format!("must not contain the character U+{:04X}", u32::from(bad)));
    }
}

/// Checks an extension attribute.
fn check_extension(found: &mut Findings, name: &str, value: &Value) {
    let pointer = json::child("", name);
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || !name.bytes().all(is_name) {
        let what = "is not the name of an attribute: such names have only a-z and 0-9".to_owned();
        let near = name.to_ascii_lowercase();
        let known = ["specversion", "type", "source", "id", "time", "subject", "datacontenttype", "dataschema", "data"];
        let meant = json::nearest(&near, known).map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
        found.add(&pointer, what + &meant);
        return;
    }
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::String(text) => check_text(found, &pointer, text),
        Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {}
        Value::Number(number) => {
            found.add(&pointer, format!("must be an integer from {} to {}, was {number}", i32::MIN, i32::MAX));
        }
        Value::Array(_) | Value::Object(_) => {
            found.add(&pointer, "must be text, a boolean or an integer of 32 bits");
        }
    }
}

/// Whether a media type is JSON.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| {
        is_token(kind) && is_token(subtype) && (subtype == "json" || subtype.ends_with("+json"))
    })
}

/// Whether a text has the form of RFC 3339, which is stricter than most parsers.
fn is_rfc_3339(text: &str) -> bool {
    let Some((main, zone)) = text.split_at_checked(19) else { return false };
    let form = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b'T' => byte == b'T' || byte == b't',
        other => byte == *other,
    };
    let zone = match zone.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if rest.len() == fraction.len() {
                return false;
            }
            rest
        }
        None => zone,
    };
    let is_offset = |zone: &str| {
        let form = b"dd:dd";
        zone.len() == form.len()
            && zone.bytes().zip(form).all(fits)
            && zone.get(..2).is_some_and(|hours| hours < "24")
            && zone.get(3..).is_some_and(|minutes| minutes < "60")
    };
    let is_zone = matches!(zone, "Z" | "z") || zone.strip_prefix(['+', '-']).is_some_and(is_offset);
    main.bytes().zip(form).all(fits) && is_zone
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(name: &str, value: Value) -> Vec<(String, String)> {
        let mut event = json!({"specversion": "1.0", "type": "t", "source": "/w", "id": "1", "data": {}});
        event[name] = value;
        let text = event.to_string();
        let (event, errors): (UncheckedEvent, _) = json::decode_all(text.as_bytes(), 10_000).unwrap();
        match event.attributes(errors) {
            Ok(_) => Vec::new(),
            Err(Invalid::Fields(errors)) => errors.into_iter().map(|each| (each.pointer, each.message)).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn is_accepted(name: &str, value: Value) -> bool {
        let found = pointers(name, value);
        assert!(found.len() <= 1 && found.iter().all(|(pointer, _)| *pointer == json::child("", name)), "{found:?}");
        found.is_empty()
    }

    #[test]
    fn the_names_of_extensions_are_checked() {
        for good in ["extra", "traceparent", "x1", "0", "averylongbutlegalattributename"] {
            assert!(is_accepted(good, json!("x")), "{good}");
        }
        for bad in ["", "Extra", "my_ext", "my-ext", "ä", "a b", "dataContentType"] {
            assert!(!is_accepted(bad, json!("x")), "{bad}");
        }
        assert!(pointers("dataContentType", json!("x"))[0].1.ends_with("did you mean `datacontenttype`?"));
    }

    #[test]
    fn the_values_of_extensions_are_checked() {
        for good in [json!(true), json!(-2_147_483_648_i64), json!(2_147_483_647), json!(""), json!("ä"), Value::Null]
        {
            assert!(is_accepted("extra", good.clone()), "{good}");
        }
        let bad = [json!(2_147_483_648_i64), json!(1.5), json!(1.0), json!([]), json!({}), json!("a\u{85}b")];
        for bad in bad.into_iter().chain([json!("\u{1f}"), json!("\u{fdd0}"), json!("\u{1fffe}")]) {
            assert!(!is_accepted("extra", bad.clone()), "{bad}");
        }
    }

    #[test]
    fn the_form_of_each_attribute_is_checked() {
        let good = [
            ("source", "urn:x:y"),
            ("subject", "a b"),
            ("dataschema", "https://example.com/s"),
            ("datacontenttype", "application/vnd.x+json; charset=utf-8"),
            ("time", "2026-01-09T18:00:00Z"),
            ("time", "2026-01-09t18:00:00.123456789+05:30"),
        ];
        for (name, value) in good {
            assert!(is_accepted(name, json!(value)), "{name} {value}");
        }
        let bad = [
            ("source", "two words"),
            ("subject", ""),
            ("subject", "\u{1}x"),
            ("dataschema", "/relative"),
            ("dataschema", ""),
            ("datacontenttype", "/json"),
            ("datacontenttype", "text/plain"),
            ("time", "2026-01-09 18:00:00Z"),
            ("time", "2026-01-09T18:00Z"),
            ("time", "2026-01-09T18:00:00"),
            ("time", "2026-01-09T18:00:00.Z"),
            ("time", "2026-01-09T18:00:00+0530"),
            ("time", "2026-01-09T18:00:00+24:00"),
            ("time", "20260109T180000Z"),
            ("time", "2026-02-30T18:00:00Z"),
            ("time", "2026-01-09T18:00:00Z[UTC]"),
            ("id", "a\nb"),
            ("type", "\u{7f}"),
        ];
        for (name, value) in bad {
            assert!(!is_accepted(name, json!(value)), "{name} {value}");
        }
    }
}
