//! Texts with the character U+0000, which are refused because Postgres cannot store
//! it.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::Value;

use super::findings::{FieldError, MAX_ERRORS};
use super::text::child;

/// Whether a string may contain U+0000. An escaped backslash before `u0000` looks the
/// same, and is told apart only in the parsed value.
pub(super) fn may_contain_nul(raw: &[u8]) -> bool {
    static ESCAPED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br"\u0000"));
    ESCAPED.find(raw).is_some() || memchr::memchr(0, raw).is_some()
}

/// Returns an error for each text and key with U+0000. `base` is the pointer of the
/// value in its text.
pub(super) fn find_nuls(value: &Value, base: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_nul(value) {
        collect_nuls(value, base, &mut errors);
    }
    errors
}

/// Whether a text or key of a value contains U+0000. Recursion is safe, because the
/// depth was checked before.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object.iter().any(|(key, item)| key.contains('\0') || has_nul(item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Recursion is safe, because the depth was checked before.
fn collect_nuls(value: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    const MESSAGE: &str = "must not contain the character U+0000";
    match value {
        _ if errors.len() >= MAX_ERRORS => {}
        Value::String(text) if text.contains('\0') => errors.push(FieldError::new(pointer, MESSAGE)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_nuls(item, &format!("{pointer}/{index}"), errors);
            }
        }
        Value::Object(object) => {
            for (key, item) in object {
                if key.contains('\0') {
                    errors.push(FieldError::new(child(pointer, key), MESSAGE));
                }
                collect_nuls(item, &child(pointer, key), errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
