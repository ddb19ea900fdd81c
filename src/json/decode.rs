//! Reads values out of JSON text.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::depth::check;
use super::duplicate_keys::{DuplicateKey, find_duplicate_keys};
use super::error::Invalid;
use super::findings::{FieldError, MAX_ERRORS};
use super::integer_forms::AnyIntegerForm;
use super::nul::{find_nuls, may_contain_nul};
use super::single_pass::allow_second_pass;
use super::text::{child, nearest};

/// A value that is an object on the wire. A derived `Deserialize` of a struct also
/// accepts an array with the values of the fields in order, which is always a
/// mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Reads a value. Every wrong field is an error. `limit` is in bytes.
pub fn decode<T: DeserializeOwned>(raw: &[u8], limit: usize) -> Result<T, Invalid> {
    match decode_all(raw, limit)? {
        (value, errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(Invalid::Fields(errors)),
    }
}

/// Reads a value and the errors of its fields. Fields with a wrong type or an unknown
/// name are left out of the value, so that the other fields can still be checked.
pub fn decode_all<T: DeserializeOwned>(raw: &[u8], limit: usize) -> Result<(T, Vec<FieldError>), Invalid> {
    check(raw, limit)?;
    if !may_contain_nul(raw) {
        // simd-json unescapes strings in place.
        let mut scratch = raw.to_vec();
        if let Ok(Object(value)) = simd_json::serde::from_slice(&mut scratch) {
            return Ok((value, duplicate_key_errors(raw)));
        }
    }
    decode_slowly(raw)
}

/// Reads a value out of parsed JSON, which is at `pointer` in its text. Returns the
/// value without its wrong fields, if it can be read without them, and the errors.
#[must_use]
pub fn from_value_all<T: DeserializeOwned>(value: Value, pointer: &str) -> (Option<T>, Vec<FieldError>) {
    repair(value, pointer)
}

fn decode_slowly<T: DeserializeOwned>(raw: &[u8]) -> Result<(T, Vec<FieldError>), Invalid> {
    if !allow_second_pass() {
        return Err(Invalid::Fields(Vec::new()));
    }
    if raw.trim_ascii().is_empty() {
        return Err(Invalid::Malformed { message: "the text is empty".to_owned() });
    }
    std::str::from_utf8(raw).map_err(|error| Invalid::NotUtf8 { at: error.valid_up_to() })?;
    let value: Value =
        serde_json::from_slice(raw).map_err(|error| Invalid::Malformed { message: error.to_string() })?;
    let mut reader = serde_json::Deserializer::from_slice(raw);
    let typed: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    match typed {
        Ok(Object(typed)) => Ok((typed, [duplicate_key_errors(raw), find_nuls(&value, "")].concat())),
        // The parsed value has each key once and accepts all forms of integers.
        Err(_) => match repair(value, "") {
            (Some(value), errors) => Ok((value, [duplicate_key_errors(raw), errors].concat())),
            (None, errors) => Err(Invalid::Fields([duplicate_key_errors(raw), errors].concat())),
        },
    }
}

fn duplicate_key_errors(raw: &[u8]) -> Vec<FieldError> {
    find_duplicate_keys(raw).iter().map(DuplicateKey::error).collect()
}

/// Reads a value, and removes wrong fields until the rest can be read.
fn repair<T: DeserializeOwned>(mut value: Value, base: &str) -> (Option<T>, Vec<FieldError>) {
    let mut errors = find_nuls(&value, base);
    while errors.len() < MAX_ERRORS {
        let result: Result<Object<T>, _> = serde_path_to_error::deserialize(AnyIntegerForm(&value));
        let error = match result {
            Ok(Object(typed)) => return (Some(typed), errors),
            Err(error) => error,
        };
        if !allow_second_pass() {
            break;
        }
        let pointer = pointer_of(error.path());
        errors.push(field_error(&error, base));
        if error.inner().to_string().starts_with("missing field") || !remove_at(&mut value, &pointer) {
            return (None, errors);
        }
    }
    (None, errors)
}

/// Removes the value at `pointer`. For an element of an array it removes the whole
/// array, so that the indexes of the other elements do not change.
fn remove_at(value: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => object.remove(&last.replace("~1", "/").replace("~0", "~")).is_some(),
        Some(Value::Array(_)) => remove_at(value, parent),
        _ => false,
    }
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>, base: &str) -> FieldError {
    FieldError::new(format!("{base}{}", pointer_of(error.path())), readable(&error.inner().to_string()))
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => child(&pointer, key),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

/// Translates Serde's message to the terms of JSON, and suggests a name for a typo.
fn readable(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    let words = [
        ("expected i64", "expected an integer"),
        ("expected u64", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected an array"),
        ("expected a map", "expected an object"),
    ];
    let message = words.iter().fold(message.to_owned(), |message, (serde, json)| message.replace(serde, json));
    let mut quoted = message.split('`').skip(1).step_by(2);
    let suggestion = match (message.starts_with("unknown "), quoted.next()) {
        (true, Some(found)) => nearest(found, quoted),
        _ => None,
    };
    match suggestion {
        Some(word) => format!("{message}; did you mean `{word}`?"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::super::depth::MAX_DEPTH;
    use super::super::single_pass::try_single_pass;
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: Option<String>,
        count: Option<i64>,
        list: Option<Vec<String>>,
        any: Option<serde_json::Map<String, Value>>,
        part: Option<Object<Part>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        a: Option<i64>,
    }

    fn errors(text: &str) -> Vec<(String, String)> {
        match decode::<Sample>(text.as_bytes(), 1000) {
            Err(Invalid::Fields(errors)) => errors.into_iter().map(|each| (each.pointer, each.message)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_wrong_fields_are_found_at_once() {
        let found = errors(r#"{"nmae":"x","count":"7","list":[1],"name":5}"#);
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers.len(), 4, "{found:?}");
        for pointer in ["/nmae", "/count", "/list/0", "/name"] {
            assert!(pointers.contains(&pointer), "{pointer} in {found:?}");
        }
        let message = |pointer| &found.iter().find(|(each, _)| each == pointer).unwrap().1;
        assert!(message("/nmae").ends_with("did you mean `name`?"), "{}", message("/nmae"));
        assert_eq!(message("/count"), "invalid type: string \"7\", expected an integer");
    }

    #[test]
    fn malformed_json_is_reported_with_its_position() {
        let malformed = |text: &str| match decode::<Sample>(text.as_bytes(), 1000) {
            Err(Invalid::Malformed { message }) => message,
            other => panic!("{other:?}"),
        };
        assert!(malformed("{\"name\":}").contains("line 1 column 9"));
        assert_eq!(malformed(" "), "the text is empty");
        malformed("{} {}");
        malformed("{\"count\":01}");
        malformed("{\"name\":\"a\u{0}b\"}");
        malformed("{\"name\":\"\\ud800\"}");
        assert_eq!(decode::<Sample>(b"{\"name\":\"\xff\"}", 1000), Err(Invalid::NotUtf8 { at: 9 }));
        assert_eq!(decode::<Sample>(b"{}", 1), Err(Invalid::TooLarge { limit: 1 }));
    }

    #[test]
    fn depth_is_limited_before_parsing() {
        let deep =
            |levels: usize| format!("{{\"any\":{}{}}}", "{\"a\":".repeat(levels), "1".to_owned() + &"}".repeat(levels));
        assert!(decode::<Sample>(deep(MAX_DEPTH - 1).as_bytes(), 100_000).is_ok());
        assert_eq!(decode::<Sample>(deep(MAX_DEPTH).as_bytes(), 100_000), Err(Invalid::TooDeep { limit: MAX_DEPTH }));
        let brackets_in_text = format!("{{\"name\":\"\\\"{}\"}}", "[".repeat(100));
        assert!(decode::<Sample>(brackets_in_text.as_bytes(), 1000).is_ok());
        let flat = format!("{{\"list\":[],\"any\":{{\"a\":[{}[]]}}}}", "[],".repeat(200));
        assert!(decode::<Sample>(flat.as_bytes(), 10_000).is_ok());
    }

    #[test]
    fn nul_is_reported_with_its_pointer() {
        assert_eq!(errors(r#"{"name":"a\u0000"}"#).remove(0).0, "/name");
        assert_eq!(errors(r#"{"any":{"x":["\u0000"]}}"#).remove(0).0, "/any/x/0");
        assert_eq!(errors(r#"{"name":"\u0000","count":true}"#).len(), 2);
        let escaped: Sample = decode(br#"{"name":"\\u0000"}"#, 1000).unwrap();
        assert_eq!(escaped.name.as_deref(), Some(r"\u0000"));
    }

    #[test]
    fn duplicate_keys_and_other_types_are_refused() {
        assert!(errors(r#"{"name":"a","name":"b"}"#).remove(0).1.starts_with("duplicate field"));
        assert_eq!(errors(r#"{"any":{"x":[{"k":1,"k":1}]},"count":true}"#)[0].0, "/any/x/0/k");
        assert_eq!(errors(r#"{"any":{"x":{"k":1,"k":1}}}"#)[0].0, "/any/x/k");
        assert_eq!(errors("[]"), [(String::new(), "invalid type: sequence, expected an object".to_owned())]);
        assert_eq!(errors("null").len(), 1);
        assert_eq!(errors("[null,1,[],{},null]").len(), 1);
        assert_eq!(errors(r#"{"part":[1]}"#).remove(0).0, "/part");
        assert_eq!(errors(r#"{"part":{"a":true,"b":1}}"#).len(), 2);
        let whole: Sample = decode(br#"{"part":{"a":5}}"#, 100).unwrap();
        assert_eq!(whole.part, Some(Object(Part { a: Some(5) })));
    }

    #[test]
    fn integers_may_have_a_zero_fraction() {
        let sample: Sample = decode(br#"{"count":6e1,"part":{"a":-5.0},"any":{"n":1.0}}"#, 1000).unwrap();
        assert_eq!((sample.count, sample.part), (Some(60), Some(Object(Part { a: Some(-5) }))));
        assert_eq!(
            errors(r#"{"count":1.5}"#),
            [("/count".to_owned(), "invalid type: floating point `1.5`, expected an integer".to_owned())]
        );
    }

    #[test]
    fn large_numbers_are_accepted() {
        assert!(decode::<Sample>(br#"{"any":{"n":123456789012345678901234567890}}"#, 1000).is_ok());
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Counter {
        count: u32,
    }

    fn read_once(text: &str) -> Option<usize> {
        try_single_pass(|| decode_all::<Counter>(text.as_bytes(), 1000)).map(|read| read.expect("it was read").1.len())
    }

    #[test]
    fn a_text_that_needs_a_second_pass_is_left() {
        assert_eq!(read_once(r#"{"count":1}"#), Some(0));
        for text in [
            r#"{"count":1.0}"#,
            r#"{"count":1,"other":2}"#,
            r#"{"count":1,"count":1}"#,
            "{",
            "",
            r#"{"count":"\u0000"}"#,
        ] {
            assert_eq!(read_once(text), None, "{text}");
        }
        // The restriction has ended.
        assert_eq!(decode_all::<Counter>(br#"{"count":1.0}"#, 1000).unwrap(), (Counter { count: 1 }, Vec::new()));
        let panics = || try_single_pass(|| assert!(std::hint::black_box(false), "planted"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(allow_second_pass());
    }

    #[test]
    fn a_parsed_value_is_read_in_one_pass() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let read = |text| try_single_pass(|| from_value_all::<Counter>(value(text), "/data")).map(|(value, _)| value);
        assert_eq!(read(r#"{"count":1.0}"#), Some(Some(Counter { count: 1 })));
        assert_eq!(read(r#"{"count":true}"#), None);
    }
}
