//! Keys that an object has more than once. JSON allows them, parsers differ in which
//! value they take, and the other value would be lost unnoticed.

use std::borrow::Cow;
use std::collections::HashSet;

use super::findings::{FieldError, MAX_ERRORS};
use super::text::{child, quoted};

/// Objects with fewer keys are searched linearly.
const LINEAR_SEARCH_KEYS: usize = 16;

/// A key that its object has already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The offset of the second occurrence, in bytes from 0.
    pub at: usize,
    /// The JSON pointer of the key in the text.
    pub pointer: String,
    /// The key without escapes.
    pub key: String,
}

impl DuplicateKey {
    /// Returns the error of the field with this key.
    #[must_use]
    pub fn error(&self) -> FieldError {
        FieldError::new(self.pointer.clone(), self.to_string())
    }
}

/// The beginning of each message about a duplicate key.
const MESSAGE_PREFIX: &str = "duplicate field: ";

/// Whether an error was made by [`DuplicateKey::error`].
#[must_use]
pub fn is_duplicate_key_error(error: &FieldError) -> bool {
    error.message.starts_with(MESSAGE_PREFIX)
}

impl std::fmt::Display for DuplicateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{MESSAGE_PREFIX}the key {} must be given once in its object", quoted(&self.key))
    }
}

/// An object or array that is open at a position in the text.
enum Level<'a> {
    Object(Object<'a>),
    Array(usize),
}

#[derive(Default)]
struct Object<'a> {
    keys: Vec<Cow<'a, str>>,
    /// The same keys, if there are many.
    set: HashSet<Cow<'a, str>>,
    /// The next string is a value.
    has_key: bool,
}

impl<'a> Object<'a> {
    /// Adds a key. Returns whether the object has it already.
    fn add(&mut self, key: Cow<'a, str>) -> bool {
        self.has_key = true;
        let is_duplicate = if self.keys.len() < LINEAR_SEARCH_KEYS {
            self.keys.contains(&key)
        } else {
            if self.set.is_empty() {
                self.set.extend(self.keys.iter().cloned());
            }
            !self.set.insert(key.clone())
        };
        self.keys.push(key);
        is_duplicate
    }
}

/// Returns the duplicate keys of all objects at any depth, in the order of the text,
/// and at most `MAX_ERRORS` of them. The text must be JSON.
#[must_use]
pub fn find_duplicate_keys(raw: &[u8]) -> Vec<DuplicateKey> {
    let (mut found, mut levels, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(byte) = raw.get(at).copied() {
        match byte {
            b'{' => levels.push(Level::Object(Object::default())),
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Object(object)) => object.has_key = false,
                Some(Level::Array(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let end = string_end(raw, at);
                if let Some(Level::Object(object)) = levels.last_mut()
                    && !object.has_key
                    && object.add(unescape(raw.get(at..end).unwrap_or_default()))
                {
                    found.push(last_key(&levels, at));
                    if found.len() == MAX_ERRORS {
                        return found;
                    }
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Returns the offset after the string that begins at `start`.
fn string_end(raw: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = raw.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += next;
        if raw.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    raw.len()
}

/// Returns the text of a string, which is given with its quotes.
fn unescape(string: &[u8]) -> Cow<'_, str> {
    let inner = string.get(1..string.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner).is_some()
        && let Ok(text) = serde_json::from_slice::<String>(string)
    {
        return Cow::Owned(text);
    }
    String::from_utf8_lossy(inner)
}

/// Describes the key that was added last. It is the last key of each open object.
fn last_key(levels: &[Level<'_>], at: usize) -> DuplicateKey {
    let mut last = "";
    let pointer = levels.iter().fold(String::new(), |pointer, level| match level {
        Level::Object(object) => {
            last = object.keys.last().map_or("", |key| key);
            child(&pointer, last)
        }
        Level::Array(index) => format!("{pointer}/{index}"),
    });
    DuplicateKey { at, pointer, key: last.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(text: &str) -> Vec<String> {
        find_duplicate_keys(text.as_bytes()).into_iter().map(|key| key.pointer).collect()
    }

    #[test]
    fn duplicate_keys_are_found_at_any_depth() {
        assert_eq!(pointers(r#"{"a":1,"b":{"a":2},"c":["a","a",{"a":1}]}"#), [""; 0]);
        assert_eq!(pointers(r#"{"a":1,"a":2}"#), ["/a"]);
        assert_eq!(pointers(r#"{"x":[0,{"y":{"k":"k","z":1,"k":[]}}]}"#), ["/x/1/y/k"]);
        assert_eq!(pointers(r#"{"a":{"b":1,"b":2},"a":3}"#), ["/a/b", "/a"]);
        assert_eq!(pointers(r#"[{"a/b":1,"a/b":2}]"#), ["/0/a~1b"]);
    }

    #[test]
    fn keys_are_compared_without_escapes() {
        assert_eq!(pointers(r#"{"a":1,"\u0061":2}"#), ["/a"]);
        assert_eq!(pointers(r#"{"\"":1,"\\\"":2,"\"":3}"#), ["/\""]);
        assert_eq!(pointers(r#"{"a":"\",\"a\":1","b":"{"}"#), [""; 0]);
        let key = &find_duplicate_keys(r#"{"ä":1,"ä":2}"#.as_bytes())[0];
        assert_eq!((key.at, key.key.as_str()), (8, "ä"));
    }

    #[test]
    fn large_objects_are_searched() {
        let keys = |count: usize| (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(pointers(&format!("{{{}}}", keys(50_000))), [""; 0]);
        assert_eq!(pointers(&format!("{{{},\"7\":1,\"40\":1}}", keys(50))), ["/7", "/40"]);
        assert_eq!(pointers(&format!("{{{}}}", "\"a\":1,".repeat(100) + "\"b\":1")).len(), MAX_ERRORS);
    }

    #[test]
    fn a_truncated_text_is_searched_without_a_panic() {
        for cut in 0..20 {
            let text = &br#"{"a":{"b":[1,"\"\\"]}}"#[..cut];
            assert!(find_duplicate_keys(text).is_empty());
        }
    }
}
