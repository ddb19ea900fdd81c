//! URIs and URI references by the grammar of RFC 3986. The official libraries of
//! `CloudEvents` refuse an event whose attribute violates the grammar.

/// Whether a text is a URI-reference (RFC 3986, section 4.1) of at least one
/// character.
pub(super) fn is_reference(text: &str) -> bool {
    if text.is_empty() || !has_only_allowed_characters(text) {
        return false;
    }
    let before_fragment = text.split('#').next().unwrap_or_default();
    if text.matches('#').count() > 1 {
        return false;
    }
    let path = before_fragment.split('?').next().unwrap_or_default();
    // A colon in the first segment is the end of a scheme.
    let first = path.split('/').next().unwrap_or_default();
    let rest = match first.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => path.get(scheme.len() + 1..).unwrap_or_default(),
        Some(_) => return false,
        None => path,
    };
    has_good_brackets(rest, text)
}

/// Whether a text is an absolute URI (RFC 3986, section 4.3): with a scheme
/// and without a fragment.
pub(super) fn is_absolute(text: &str) -> bool {
    let has_scheme = text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty());
    has_scheme && !text.contains('#') && is_reference(text)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn has_only_allowed_characters(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_allowed = match byte {
            b'%' => {
                let mut is_hex = || bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                is_hex() && is_hex()
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
        };
        if !is_allowed {
            return false;
        }
    }
    true
}

/// Brackets are allowed only around an IP address as the host.
fn has_good_brackets(after_scheme: &str, whole: &str) -> bool {
    let count = whole.bytes().filter(|byte| b"[]".contains(byte)).count();
    if count == 0 {
        return true;
    }
    let host = after_scheme.strip_prefix("//").and_then(|rest| rest.split('/').next());
    let host = host.map(|authority| authority.rsplit('@').next().unwrap_or_default());
    let is_address = |inside: &str| inside.contains(':') && !inside.contains(['[', ']']);
    count == 2
        && host.and_then(|host| host.strip_prefix('[')?.split_once(']')).is_some_and(|(inside, port)| {
            is_address(inside) && (port.is_empty() || port.strip_prefix(':').is_some_and(is_digits))
        })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_follow_the_grammar() {
        let good = [
            "/worker",
            "worker-7",
            "https://example.com:8080/a%20b?q=1#x",
            "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
            "mailto:cncf-wg-serverless@lists.cncf.io",
            "1-555-123-4567",
            "//host/path",
            "http://[::1]:8000/x",
            "./a:b",
            "#part",
            "?",
            ".",
        ];
        for text in good {
            assert!(is_reference(text), "{text}");
        }
        let bad = [
            "",
            " ",
            "a b",
            "/ä",
            "/worker€",
            "a\"b",
            "<x>",
            "a\\b",
            "%",
            "%1",
            "%zz",
            "1:foo",
            ":x",
            "a#b#c",
            "x[1]",
            "http://[::1",
            "http://[x]/",
            "a\u{7f}",
            "{id}",
            "a|b",
            "a^b",
            "a`b",
        ];
        for text in bad {
            assert!(!is_reference(text), "{text}");
        }
    }

    #[test]
    fn an_absolute_uri_has_a_scheme_and_no_fragment() {
        for text in ["https://example.com/schema.json?v=1", "urn:example:schema", "a:b"] {
            assert!(is_absolute(text), "{text}");
        }
        for text in ["", "/schema", "schema.json", "https:", "https://x/#part", "1a:b", "https://a b"] {
            assert!(!is_absolute(text), "{text}");
        }
    }
}
