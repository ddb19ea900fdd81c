//! Texts in messages, JSON pointers, and texts without white space.

/// Quotes a text for a message, and cuts it after 80 characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!("{:?} and more", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// Removes the white space between tokens. The text must be JSON.
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

/// Appends an object key or an array index to a JSON pointer.
#[must_use]
pub fn child(pointer: &str, part: &str) -> String {
    format!("{pointer}/{}", part.replace('~', "~0").replace('/', "~1"))
}

/// Returns the `allowed` word that `found` was probably meant to be.
#[must_use]
pub fn nearest<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Computing the distance takes the product of both lengths.
    const MAX_BYTES: usize = 64;
    if found.len() > MAX_BYTES {
        return None;
    }
    let distance = |word: &str| strsim::damerau_levenshtein(&found.to_ascii_lowercase(), word);
    let close = allowed.into_iter().map(|word| (distance(word), word)).filter(|(far, word)| far * 3 <= word.len());
    close.min_by_key(|(far, _)| *far).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

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
