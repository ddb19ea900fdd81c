//! JSON from outside: the one way in.
//!
//! [`decode`] limits size and depth before anything is parsed, and reads with
//! simd-json straight into the wanted type. When that fails, or the text may
//! hold U+0000, `serde_json` reads it again and decides: it is slower, but
//! can say what is wrong where, and it takes an integer that is written as
//! `60.0`. All wrong fields are found in one go, by
//! taking each out and trying again.

mod findings;
mod haste;
mod integers;
mod keys;
mod whole;

use std::fmt;
use std::marker::PhantomData;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use findings::{FieldError, Findings, MAX_ERRORS};
pub use haste::in_haste;
pub use integers::{allowed_integers, check_integers, find_oversized_integer};
pub use keys::{DoubledKey, find_doubled_keys, is_of_doubled_key};

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// A value that is an object on the wire. Derived readers of structs also
/// take arrays, as the values of the fields in their order; nobody means that.
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

/// A text in a message: quoted, and cut when it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{:?} and more", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// Why a text was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Longer than allowed.
    #[error("the JSON text must be at most {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the JSON text must not be nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Not UTF-8.
    #[error("the JSON text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Where it stops being UTF-8, in bytes from 0.
        at: usize,
    },
    /// Not JSON.
    #[error("the text is not JSON: {message}")]
    Malformed {
        /// What the parser says, with line and column.
        message: String,
    },
    /// JSON, but not what is wanted.
    #[error("{} fields are not valid", .0.len())]
    Fields(Vec<FieldError>),
}

/// Reads a value; every wrong field is an error.
pub fn decode<T: DeserializeOwned>(raw: &[u8], limit: usize) -> Result<T, Invalid> {
    match decode_all(raw, limit)? {
        (value, errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(Invalid::Fields(errors)),
    }
}

/// Reads a value and what is wrong with it: fields of a wrong type or an
/// unknown name are left out of it, so that the others can be checked too.
pub fn decode_all<T: DeserializeOwned>(raw: &[u8], limit: usize) -> Result<(T, Vec<FieldError>), Invalid> {
    check(raw, limit)?;
    if !may_hold_nul(raw) {
        // simd-json unescapes in place.
        let mut scratch = raw.to_vec();
        if let Ok(Object(value)) = simd_json::serde::from_slice(&mut scratch) {
            return Ok((value, doubled(raw)));
        }
    }
    decode_slowly(raw)
}

/// Limits a text that is not parsed yet.
pub fn check(raw: &[u8], limit: usize) -> Result<(), Invalid> {
    if raw.len() > limit {
        return Err(Invalid::TooLarge { limit });
    }
    if find_too_deep(raw).is_some() { Err(Invalid::TooDeep) } else { Ok(()) }
}

/// Reads a value out of a parsed one that stands at `pointer` in its text:
/// what could be read, and what is wrong with the rest.
#[must_use]
pub fn from_value_all<T: DeserializeOwned>(value: Value, pointer: &str) -> (Option<T>, Vec<FieldError>) {
    repair(value, pointer)
}

/// The same text without white space between tokens. The text must be JSON.
#[must_use]
pub fn minify(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for each in text.chars() {
        if !in_string && matches!(each, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        out.push(each);
        if escaped {
            escaped = false;
        } else if each == '\\' {
            escaped = in_string;
        } else if each == '"' {
            in_string = !in_string;
        }
    }
    out
}

/// Appends one part to a JSON pointer.
#[must_use]
pub fn child(pointer: &str, part: &str) -> String {
    format!("{pointer}/{}", part.replace('~', "~0").replace('/', "~1"))
}

/// Of the `allowed` words, the one that `found` was probably meant to be.
#[must_use]
pub fn nearest<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance takes the product of both lengths.
    const LONGEST: usize = 64;
    if found.len() > LONGEST {
        return None;
    }
    let distance = |word: &str| strsim::damerau_levenshtein(&found.to_ascii_lowercase(), word);
    let close = allowed.into_iter().map(|word| (distance(word), word)).filter(|(far, word)| far * 3 <= word.len());
    close.min_by_key(|(far, _)| *far).map(|(_, word)| word)
}

/// Where brackets begin to nest deeper than [`MAX_DEPTH`], in bytes from 0.
/// Most texts have fewer openings in all than that and need no closer look.
#[must_use]
pub fn find_too_deep(raw: &[u8]) -> Option<usize> {
    memchr::memchr2_iter(b'{', b'[', raw).nth(MAX_DEPTH)?;
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in raw.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

/// Whether a string may hold U+0000, which Postgres can't keep. An escaped
/// backslash before `u0000` looks the same: the slow way tells them apart.
fn may_hold_nul(raw: &[u8]) -> bool {
    static ESCAPED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br"\u0000"));
    ESCAPED.find(raw).is_some() || memchr::memchr(0, raw).is_some()
}

fn decode_slowly<T: DeserializeOwned>(raw: &[u8]) -> Result<(T, Vec<FieldError>), Invalid> {
    if !haste::may_look_again() {
        return Err(Invalid::Fields(Vec::new()));
    }
    if raw.trim_ascii().is_empty() {
        return Err(Invalid::Malformed { message: "there is nothing at all".to_owned() });
    }
    std::str::from_utf8(raw).map_err(|error| Invalid::NotUtf8 { at: error.valid_up_to() })?;
    let value: Value =
        serde_json::from_slice(raw).map_err(|error| Invalid::Malformed { message: error.to_string() })?;
    let mut reader = serde_json::Deserializer::from_slice(raw);
    let typed: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    match typed {
        Ok(Object(typed)) => Ok((typed, [doubled(raw), nuls(&value)].concat())),
        // A parsed object has each key once, and its integers can be read.
        Err(_) => match repair(value, "") {
            (Some(value), errors) => Ok((value, [doubled(raw), errors].concat())),
            (None, errors) => Err(Invalid::Fields([doubled(raw), errors].concat())),
        },
    }
}

fn doubled(raw: &[u8]) -> Vec<FieldError> {
    find_doubled_keys(raw).iter().map(DoubledKey::error).collect()
}

/// Reads a value, taking out what is wrong until the rest can be read.
fn repair<T: DeserializeOwned>(mut value: Value, base: &str) -> (Option<T>, Vec<FieldError>) {
    let mut errors = Vec::new();
    if has_nul(&value) {
        find_nuls(&value, base, &mut errors);
    }
    while errors.len() < MAX_ERRORS {
        let result: Result<Object<T>, _> = serde_path_to_error::deserialize(whole::Whole(&value));
        let error = match result {
            Ok(Object(typed)) => return (Some(typed), errors),
            Err(error) => error,
        };
        if !haste::may_look_again() {
            break;
        }
        let pointer = pointer_of(error.path());
        errors.push(field_error(&error, base));
        if error.inner().to_string().starts_with("missing field") || !take_out(&mut value, &pointer) {
            return (None, errors);
        }
    }
    (None, errors)
}

/// Removes what `pointer` names; of an array, the whole array, so that the
/// places of its elements don't shift.
fn take_out(value: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => object.remove(&last.replace("~1", "/").replace("~0", "~")).is_some(),
        Some(Value::Array(_)) => take_out(value, parent),
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

/// Serde's message in the words of JSON, with a suggestion for a typo.
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

fn nuls(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_nul(value) {
        find_nuls(value, "", &mut errors);
    }
    errors
}

/// Whether a text or key of a value contains U+0000. Depth is limited before, so
/// that this may recurse.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object.iter().any(|(key, item)| key.contains('\0') || has_nul(item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Depth is limited before, so that this may recurse.
fn find_nuls(value: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    const MESSAGE: &str = "must not contain the character U+0000";
    match value {
        _ if errors.len() >= MAX_ERRORS => {}
        Value::String(text) if text.contains('\0') => errors.push(FieldError::new(pointer, MESSAGE)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nuls(item, &format!("{pointer}/{index}"), errors);
            }
        }
        Value::Object(object) => {
            for (key, item) in object {
                if key.contains('\0') {
                    errors.push(FieldError::new(child(pointer, key), MESSAGE));
                }
                find_nuls(item, &child(pointer, key), errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
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
    fn every_wrong_field_is_found_in_one_go() {
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
    fn what_is_no_json_says_where() {
        let malformed = |text: &str| match decode::<Sample>(text.as_bytes(), 1000) {
            Err(Invalid::Malformed { message }) => message,
            other => panic!("{other:?}"),
        };
        assert!(malformed("{\"name\":}").contains("line 1 column 9"));
        assert_eq!(malformed(" "), "there is nothing at all");
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
        assert_eq!(decode::<Sample>(deep(MAX_DEPTH).as_bytes(), 100_000), Err(Invalid::TooDeep));
        let brackets_in_text = format!("{{\"name\":\"\\\"{}\"}}", "[".repeat(100));
        assert!(decode::<Sample>(brackets_in_text.as_bytes(), 1000).is_ok());
        let flat = format!("{{\"list\":[],\"any\":{{\"a\":[{}[]]}}}}", "[],".repeat(200));
        assert!(decode::<Sample>(flat.as_bytes(), 10_000).is_ok());
    }

    #[test]
    fn nul_is_refused_where_it_stands() {
        assert_eq!(errors(r#"{"name":"a\u0000"}"#).remove(0).0, "/name");
        assert_eq!(errors(r#"{"any":{"x":["\u0000"]}}"#).remove(0).0, "/any/x/0");
        assert_eq!(errors(r#"{"name":"\u0000","count":true}"#).len(), 2);
        let escaped: Sample = decode(br#"{"name":"\\u0000"}"#, 1000).unwrap();
        assert_eq!(escaped.name.as_deref(), Some(r"\u0000"));
    }

    #[test]
    fn doubled_keys_and_other_types_are_refused() {
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
    fn integers_may_have_a_fraction_of_zero() {
        let sample: Sample = decode(br#"{"count":6e1,"part":{"a":-5.0},"any":{"n":1.0}}"#, 1000).unwrap();
        assert_eq!((sample.count, sample.part), (Some(60), Some(Object(Part { a: Some(-5) }))));
        assert_eq!(
            errors(r#"{"count":1.5}"#),
            [("/count".to_owned(), "invalid type: floating point `1.5`, expected an integer".to_owned())]
        );
    }

    #[test]
    fn large_numbers_are_no_errors() {
        assert!(decode::<Sample>(br#"{"any":{"n":123456789012345678901234567890}}"#, 1000).is_ok());
    }

    #[test]
    fn minify_keeps_strings() {
        assert_eq!(minify("{ \"a b\" :\n [ 1 , \"\\\" x\" ] }"), "{\"a b\":[1,\"\\\" x\"]}");
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(nearest("descripton", ["description", "priority"]), Some("description"));
        assert_eq!(nearest("foo", ["description", "tier"]), None);
    }
}
