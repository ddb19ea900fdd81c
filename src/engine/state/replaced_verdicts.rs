//! Verdicts that a clear has replaced, and that an undo gives back.

use crate::lineage::ReplacedVerdict;
use crate::task::RecordStatus;

/// Returns a hash that tells the details of a verdict from others. It is stored, so it must
/// stay the same for ever.
pub(super) fn details_hash(verification: Option<&str>) -> u64 {
    // FNV-1a, of 64 bits.
    let Some(text) = verification else { return 0 };
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether the verdict that a clear has made is still the last one of its record.
pub(super) fn is_still_last(status: RecordStatus, verification: Option<&str>, replaced: &ReplacedVerdict) -> bool {
    status == RecordStatus::Passed && details_hash(verification) == replaced.details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_have_the_same_hash_for_ever() {
        assert_eq!(details_hash(None), 0);
        assert_eq!(details_hash(Some("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(details_hash(Some("a")), 0xaf63_dc4c_8601_ec8c);
    }
}
