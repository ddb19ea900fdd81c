//! Contents of artifacts, identified by their SHA-256.

/// Formats bytes as hexadecimal.
pub use hex::encode as hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The content of an artifact as an output carried it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    sha256: [u8; 32],
    text: Option<String>,
}

impl Content {
    /// Wraps a text and computes its hash.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { sha256: Sha256::digest(&text).into(), text: Some(text) }
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The text; `None` once it is stored elsewhere.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Drops the text after it was stored elsewhere.
    pub fn drop_text(&mut self) {
        self.text = None;
    }

    /// Describes the mismatch if the checksum names another SHA-256. Checksums of other kinds match
    /// any content.
    #[must_use]
    pub fn contradiction(&self, checksum: &str) -> Option<String> {
        let said = named_sha256(checksum)?;
        let found = hex(self.sha256);
        let differs = !said.eq_ignore_ascii_case(&found);
        differs.then(|| format!("says sha256 {}, but the content hashes to {found}", said.to_ascii_lowercase()))
    }
}

/// The hexadecimal SHA-256 that a checksum names, bare or after `sha256:`.
fn named_sha256(checksum: &str) -> Option<&str> {
    let checksum = checksum.trim();
    let hex = match checksum.split_once(':') {
        Some((kind, hex)) if kind.eq_ignore_ascii_case("sha256") => hex.trim(),
        Some(_) => return None,
        None => checksum,
    };
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of the text `hello` in hexadecimal.
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn checksums_of_the_known_kind_are_held_against_the_content() {
        let content = Content::new("hello".to_owned());
        assert_eq!(hex(content.sha256()), HELLO);
        let upper = HELLO.to_uppercase();
        for right in [HELLO, &upper, &format!("sha256:{HELLO}"), &format!("SHA256: {upper}")] {
            assert_eq!(content.contradiction(right), None, "{right}");
        }
        for other in ["", "md5:5d41402abc4b2a76b9719d911017c592", "sha256:5d41", "v1", &format!("blake3:{HELLO}")] {
            assert_eq!(content.contradiction(other), None, "{other}");
        }
        let wrong = HELLO.replace('2', "3");
        for wrong in [wrong.clone(), format!("sha256:{wrong}")] {
            let says = content.contradiction(&wrong).unwrap();
            assert!(says.contains(HELLO) && says.starts_with("says sha256 3cf34"), "{says}");
        }
    }
}
