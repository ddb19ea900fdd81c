//! The attributes of an event, held against the specification of `CloudEvents`
//! 1.0: what is taken is given to readers as it came, and their libraries
//! refuse what the specification forbids.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::incoming::MAX_IDENTITY_BYTES;
use super::uri;
use crate::json::{self, FieldError, Findings, Invalid};
use crate::task::Timestamp;

/// An event in structured mode, before it is checked.
#[derive(Debug, Default)]
pub(super) struct Wire {
    specversion: Option<String>,
    event_type: Option<String>,
    source: Option<String>,
    id: Option<String>,
    time: Option<String>,
    subject: Option<String>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    data_base64: Option<IgnoredAny>,
    /// The data.
    pub(super) data: Option<Value>,
    /// Some attribute is null, which stands for nothing. Official libraries
    /// throw on it, so it is left out of what readers get.
    pub(super) has_null: bool,
    /// All other attributes: others may add.
    extensions: Vec<(String, Value)>,
}

/// What the attributes of a checked event say.
#[derive(Debug)]
pub(super) struct Attributes {
    /// Its type, not empty.
    pub(super) event_type: String,
    /// Where it comes from, a URI-reference.
    pub(super) source: String,
    /// Its id, not empty.
    pub(super) id: String,
    /// The trace it belongs to, as it says; not checked.
    pub(super) traceparent: Option<String>,
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire, A::Error> {
        let mut wire = Wire::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match &*name {
                "specversion" => wire.specversion = wire.noted(map.next_value()?),
                "type" => wire.event_type = wire.noted(map.next_value()?),
                "source" => wire.source = wire.noted(map.next_value()?),
                "id" => wire.id = wire.noted(map.next_value()?),
                "time" => wire.time = wire.noted(map.next_value()?),
                "subject" => wire.subject = wire.noted(map.next_value()?),
                "datacontenttype" => wire.datacontenttype = wire.noted(map.next_value()?),
                "dataschema" => wire.dataschema = wire.noted(map.next_value()?),
                "data_base64" => wire.data_base64 = wire.noted(map.next_value()?),
                "data" => wire.data = map.next_value()?,
                _ => {
                    let value = wire.noted(map.next_value()?);
                    wire.extensions.extend(value.map(|value| (name.into_owned(), value)));
                }
            }
        }
        Ok(wire)
    }
}

impl Wire {
    /// Notes whether an attribute is null.
    const fn noted<T>(&mut self, value: Option<T>) -> Option<T> {
        self.has_null |= value.is_none();
        value
    }

    /// Checks the attributes; `errors` are what is wrong with their types.
    pub(super) fn attributes(&self, errors: Vec<FieldError>) -> Result<Attributes, Invalid> {
        let mut found = Findings::from_errors(errors);
        match found.required("/specversion", self.specversion.as_deref()) {
            Some("1.0") | None => {}
            Some(other) => found.add("/specversion", format!("must be \"1.0\", was {}", json::quoted(other))),
        }
        let event_type = identity(&mut found, "/type", self.event_type.as_deref());
        let source = identity(&mut found, "/source", self.source.as_deref());
        if let Some(source) = source.as_deref().filter(|source| !uri::is_reference(source)) {
            let what = "must be a URI-reference (RFC 3986) such as /worker; other characters are percent-encoded";
            found.add("/source", format!("{what}, was {}", json::quoted(source)));
        }
        let id = identity(&mut found, "/id", self.id.as_deref());
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
            found.add("/data_base64", "is not taken: the data of these events is JSON, in `data`");
        }
    }
}

fn identity(found: &mut Findings, pointer: &str, text: Option<&str>) -> Option<String> {
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

/// Texts of attributes have no control characters and no noncharacters.
fn check_text(found: &mut Findings, pointer: &str, text: &str) {
    let is_noncharacter = |each: char| {
        let code = u32::from(each);
        (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    };
    if let Some(bad) = text.chars().find(|each| each.is_control() || is_noncharacter(*each)) {
        found.add(pointer, format!("must not contain the character U+{:04X}", u32::from(bad)));
    }
}

/// What the specification asks of an attribute that it does not define.
fn check_extension(found: &mut Findings, name: &str, value: &Value) {
    let pointer = json::child("", name);
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || !name.bytes().all(is_name) {
        let what = "has a name that is none of an attribute: those have a-z and 0-9 alone".to_owned();
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
            found.add(&pointer, "must be text, a boolean or an integer of 32 bits: attributes hold nothing else");
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

/// Whether a text has the form of RFC 3339, which is stricter than what most
/// parsers take.
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
        let (wire, errors): (Wire, _) = json::decode_all(text.as_bytes(), 10_000).unwrap();
        match wire.attributes(errors) {
            Ok(_) => Vec::new(),
            Err(Invalid::Fields(errors)) => errors.into_iter().map(|each| (each.pointer, each.message)).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn is_taken(name: &str, value: Value) -> bool {
        let found = pointers(name, value);
        assert!(found.len() <= 1 && found.iter().all(|(pointer, _)| *pointer == json::child("", name)), "{found:?}");
        found.is_empty()
    }

    #[test]
    fn names_are_those_of_attributes() {
        for good in ["extra", "traceparent", "x1", "0", "averylongbutlegalattributename"] {
            assert!(is_taken(good, json!("x")), "{good}");
        }
        for bad in ["", "Extra", "my_ext", "my-ext", "ä", "a b", "dataContentType"] {
            assert!(!is_taken(bad, json!("x")), "{bad}");
        }
        assert!(pointers("dataContentType", json!("x"))[0].1.ends_with("did you mean `datacontenttype`?"));
    }

    #[test]
    fn extensions_hold_what_attributes_can() {
        for good in [json!(true), json!(-2_147_483_648_i64), json!(2_147_483_647), json!(""), json!("ä"), Value::Null]
        {
            assert!(is_taken("extra", good.clone()), "{good}");
        }
        let bad = [json!(2_147_483_648_i64), json!(1.5), json!(1.0), json!([]), json!({}), json!("a\u{85}b")];
        for bad in bad.into_iter().chain([json!("\u{1f}"), json!("\u{fdd0}"), json!("\u{1fffe}")]) {
            assert!(!is_taken("extra", bad.clone()), "{bad}");
        }
    }

    #[test]
    fn each_attribute_has_its_form() {
        let good = [
            ("source", "urn:x:y"),
            ("subject", "a b"),
            ("dataschema", "https://example.com/s"),
            ("datacontenttype", "application/vnd.x+json; charset=utf-8"),
            ("time", "2026-01-09T18:00:00Z"),
            ("time", "2026-01-09t18:00:00.123456789+05:30"),
        ];
        for (name, value) in good {
            assert!(is_taken(name, json!(value)), "{name} {value}");
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
            assert!(!is_taken(name, json!(value)), "{name} {value}");
        }
    }
}
