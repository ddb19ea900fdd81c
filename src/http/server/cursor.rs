//! Cursors: the position at which a page begins, opaque to clients. A cursor
//! contains a hash of its query, so that it cannot be used with another query.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Encodes a position within the results of the query `scope`.
pub(in crate::http) fn encode(scope: &str, position: &[u8]) -> String {
    let mut bytes = scope_hash(scope).to_vec();
    bytes.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the position, if the cursor belongs to the query `scope`.
pub(in crate::http) fn decode(scope: &str, cursor: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (hash, position) = bytes.split_at_checked(8)?;
    (hash == scope_hash(scope)).then(|| position.to_vec())
}

/// Decodes a position that is a number.
pub(in crate::http) fn decode_number(position: Vec<u8>) -> Option<u64> {
    position.try_into().ok().map(u64::from_be_bytes)
}

fn scope_hash(scope: &str) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(scope.as_bytes()).into();
    let mut hash = [0; 8];
    hash.copy_from_slice(&digest[..8]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_query() {
        let cursor = encode("tasks a", &7_u64.to_be_bytes());
        assert_eq!(decode("tasks a", &cursor).and_then(decode_number), Some(7));
        assert_eq!(decode("tasks b", &cursor), None);
        assert_eq!(decode("tasks a", &encode("tasks a", b"x")).and_then(decode_number), None);
        for bad in ["", "!", "AAAA", "\u{e4}"] {
            assert_eq!(decode("tasks a", bad), None);
        }
    }
}
