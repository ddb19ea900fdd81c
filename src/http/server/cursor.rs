//! Cursors: where a page begins, opaque to clients. A cursor holds a hash of
//! the query it came from, so that it can't go on with another one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The cursor for a place, within the query `scope`.
pub(in crate::http) fn encode(scope: &str, place: &[u8]) -> String {
    let mut bytes = scope_hash(scope).to_vec();
    bytes.extend_from_slice(place);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place, if the cursor is one of the query `scope`.
pub(in crate::http) fn decode(scope: &str, cursor: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (hash, place) = bytes.split_at_checked(8)?;
    (hash == scope_hash(scope)).then(|| place.to_vec())
}

/// A place that is a number.
pub(in crate::http) fn number(place: Vec<u8>) -> Option<u64> {
    place.try_into().ok().map(u64::from_be_bytes)
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
    fn a_cursor_goes_with_its_query() {
        let cursor = encode("tasks a", &7_u64.to_be_bytes());
        assert_eq!(decode("tasks a", &cursor).and_then(number), Some(7));
        assert_eq!(decode("tasks b", &cursor), None);
        assert_eq!(decode("tasks a", &encode("tasks a", b"x")).and_then(number), None);
        for bad in ["", "!", "AAAA", "\u{e4}"] {
            assert_eq!(decode("tasks a", bad), None);
        }
    }
}
