//! Limits on the size and the nesting of a text, checked before it is parsed.

use super::error::Invalid;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// Checks the size and the depth of a text before it is parsed. `limit` is in bytes.
pub fn check(raw: &[u8], limit: usize) -> Result<(), Invalid> {
    if raw.len() > limit {
        return Err(Invalid::TooLarge { limit });
    }
    if find_too_deep(raw).is_some() { Err(Invalid::TooDeep { limit: MAX_DEPTH }) } else { Ok(()) }
}

/// Returns the offset, in bytes, at which brackets begin to nest deeper than
/// [`MAX_DEPTH`]. Most texts have fewer opening brackets than that, and are not
/// searched further.
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
