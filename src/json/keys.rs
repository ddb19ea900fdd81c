//! Keys that stand twice in an object. JSON allows them, parsers differ in
//! which of the two values they take, and an object that is read would lose
//! one of them in silence.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{FieldError, MAX_ERRORS, child, quoted};

/// Objects with fewer keys are searched one key after the other.
const FEW: usize = 16;

/// A key that stands in its object a second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubledKey {
    /// Where it stands the second time, in bytes from 0.
    pub at: usize,
    /// The key, as a JSON pointer into the text.
    pub pointer: String,
    /// The key.
    pub key: String,
}

impl DoubledKey {
    /// The key as what is wrong with a field.
    #[must_use]
    pub fn error(&self) -> FieldError {
        FieldError::new(self.pointer.clone(), self.to_string())
    }
}

/// How each message about a doubled key begins.
const DOUBLED: &str = "duplicate field: ";

/// Whether an error is that of [`DoubledKey::error`].
#[must_use]
pub fn is_of_doubled_key(error: &FieldError) -> bool {
    error.message.starts_with(DOUBLED)
}

impl std::fmt::Display for DoubledKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{DOUBLED}the key {} must stand once in its object", quoted(&self.key))
    }
}

/// An object or array that is open at a place in the text.
enum Level<'a> {
    Object(Object<'a>),
    Array(usize),
}

#[derive(Default)]
struct Object<'a> {
    keys: Vec<Cow<'a, str>>,
    /// The same keys, once there are many.
    set: HashSet<Cow<'a, str>>,
    /// The next string is a value.
    has_key: bool,
}

impl<'a> Object<'a> {
    /// Takes a key; whether it is there already.
    fn take(&mut self, key: Cow<'a, str>) -> bool {
        self.has_key = true;
        let is_doubled = if self.keys.len() < FEW {
            self.keys.contains(&key)
        } else {
            if self.set.is_empty() {
                self.set.extend(self.keys.iter().cloned());
            }
            !self.set.insert(key.clone())
        };
        self.keys.push(key);
        is_doubled
    }
}

/// The keys that stand twice in an object, at any depth, in the order of the
/// text; the first `MAX_ERRORS` of them. The text must be JSON.
#[must_use]
pub fn find_doubled_keys(raw: &[u8]) -> Vec<DoubledKey> {
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
                    && object.take(text(raw.get(at..end).unwrap_or_default()))
                {
                    found.push(doubled(&levels, at));
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

/// The place behind the string that begins at `start`.
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

/// What a string with its quotes means.
fn text(string: &[u8]) -> Cow<'_, str> {
    let inner = string.get(1..string.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner).is_some()
        && let Ok(text) = serde_json::from_slice::<String>(string)
    {
        return Cow::Owned(text);
    }
    String::from_utf8_lossy(inner)
}

/// The key that was just taken, which is the last one of each open object.
fn doubled(levels: &[Level<'_>], at: usize) -> DoubledKey {
    let mut last = "";
    let pointer = levels.iter().fold(String::new(), |pointer, level| match level {
        Level::Object(object) => {
            last = object.keys.last().map_or("", |key| key);
            child(&pointer, last)
        }
        Level::Array(index) => format!("{pointer}/{index}"),
    });
    DoubledKey { at, pointer, key: last.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(text: &str) -> Vec<String> {
        find_doubled_keys(text.as_bytes()).into_iter().map(|doubled| doubled.pointer).collect()
    }

    #[test]
    fn doubled_keys_are_found_at_any_depth() {
        assert_eq!(pointers(r#"{"a":1,"b":{"a":2},"c":["a","a",{"a":1}]}"#), [""; 0]);
        assert_eq!(pointers(r#"{"a":1,"a":2}"#), ["/a"]);
        assert_eq!(pointers(r#"{"x":[0,{"y":{"k":"k","z":1,"k":[]}}]}"#), ["/x/1/y/k"]);
        assert_eq!(pointers(r#"{"a":{"b":1,"b":2},"a":3}"#), ["/a/b", "/a"]);
        assert_eq!(pointers(r#"[{"a/b":1,"a/b":2}]"#), ["/0/a~1b"]);
    }

    #[test]
    fn a_key_is_what_it_means() {
        assert_eq!(pointers(r#"{"a":1,"\u0061":2}"#), ["/a"]);
        assert_eq!(pointers(r#"{"\"":1,"\\\"":2,"\"":3}"#), ["/\""]);
        assert_eq!(pointers(r#"{"a":"\",\"a\":1","b":"{"}"#), [""; 0]);
        let doubled = &find_doubled_keys(r#"{"ä":1,"ä":2}"#.as_bytes())[0];
        assert_eq!((doubled.at, doubled.key.as_str()), (8, "ä"));
    }

    #[test]
    fn many_keys_are_as_good_as_few() {
        let keys = |count: usize| (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(pointers(&format!("{{{}}}", keys(50_000))), [""; 0]);
        assert_eq!(pointers(&format!("{{{},\"7\":1,\"40\":1}}", keys(50))), ["/7", "/40"]);
        assert_eq!(pointers(&format!("{{{}}}", "\"a\":1,".repeat(100) + "\"b\":1")).len(), MAX_ERRORS);
    }

    #[test]
    fn what_is_cut_short_is_no_matter() {
        for cut in 0..20 {
            let text = &br#"{"a":{"b":[1,"\"\\"]}}"#[..cut];
            assert!(find_doubled_keys(text).is_empty());
        }
    }
}
