//! Hashes of objects, to detect changes.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Returns the SHA-256 of an object's canonical form: sorted keys, no white space. Objects with the
/// same values under the same keys have the same hash.
#[must_use]
pub fn digest(object: &Map<String, Value>) -> [u8; 32] {
    let mut text = Vec::with_capacity(1024);
    write_object(object, &mut text);
    Sha256::digest(&text).into()
}

/// The recursion is bounded, because parsing limits the depth.
fn write_value(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(object) => write_object(object, text),
        Value::Array(items) => {
            text.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                write_value(item, text);
            }
            text.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.extend_from_slice(value.to_string().as_bytes());
        }
    }
}

fn write_object(object: &Map<String, Value>, text: &mut Vec<u8>) {
    let mut members: Vec<(&String, &Value)> = object.iter().collect();
    members.sort_by_key(|(key, _)| *key);
    text.push(b'{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
        text.push(b':');
        write_value(value, text);
    }
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> [u8; 32] {
        digest(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_order_of_keys_and_white_space_do_not_matter() {
        assert_eq!(
            of(r#"{"a":{"x":1,"y":[1.5,null]},"b":"\u00e9"}"#),
            of("{\"b\": \"é\", \"a\":{\"y\":[1.5, null],\"x\":1}}")
        );
    }

    #[test]
    fn every_value_and_place_matters() {
        let texts = [
            "{}",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            r#"{"a":null}"#,
            r#"{"a":0.49999999999999994}"#,
            r#"{"a":0.5}"#,
        ];
        let digests: std::collections::HashSet<_> = texts.iter().map(|text| of(text)).collect();
        assert_eq!(digests.len(), texts.len());
    }
}
