//! Reading in haste: one look at a text and no more. A text that is as it should be
//! needs no second one. One with mistakes is looked at once for each of them, which
//! takes a hundred times as long, and is left for a thread that holds up nobody.

use std::cell::Cell;

/// How the thread reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Free,
    Hasty,
    /// In haste, and a text needed a second look.
    Stopped,
}

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace::Free) };
}

/// Reads at leisure again when it is dropped, also after a panic.
struct Hurry;

impl Drop for Hurry {
    fn drop(&mut self) {
        PACE.set(Pace::Free);
    }
}

/// Reads with one look at each text. `None`: a text needs more than that, so nothing
/// is decided, and `read` has to be called again elsewhere.
pub fn in_haste<T>(read: impl FnOnce() -> T) -> Option<T> {
    let _hurry = Hurry;
    PACE.set(Pace::Hasty);
    let value = read();
    (PACE.get() == Pace::Hasty).then_some(value)
}

/// Whether a text may be looked at again. Where not, whatever is read from here on is
/// thrown away.
pub(super) fn may_look_again() -> bool {
    if PACE.get() == Pace::Free {
        return true;
    }
    PACE.set(Pace::Stopped);
    false
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::super::{decode_all, from_value_all};
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        count: u32,
    }

    fn read(text: &str) -> Option<usize> {
        in_haste(|| decode_all::<Sample>(text.as_bytes(), 1000)).map(|read| read.expect("it was read").1.len())
    }

    #[test]
    fn a_text_that_needs_another_look_is_left() {
        assert_eq!(read(r#"{"count":1}"#), Some(0));
        for text in [
            r#"{"count":1.0}"#,
            r#"{"count":1,"other":2}"#,
            r#"{"count":1,"count":1}"#,
            "{",
            "",
            r#"{"count":"\u0000"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        // The thread has its time again.
        assert_eq!(decode_all::<Sample>(br#"{"count":1.0}"#, 1000).unwrap(), (Sample { count: 1 }, Vec::new()));
        let panics = || in_haste(|| assert!(std::hint::black_box(false), "planted"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(may_look_again());
    }

    #[test]
    fn a_parsed_value_is_looked_at_once() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let read = |text| in_haste(|| from_value_all::<Sample>(value(text), "/data")).map(|(value, _)| value);
        assert_eq!(read(r#"{"count":1.0}"#), Some(Some(Sample { count: 1 })));
        assert_eq!(read(r#"{"count":true}"#), None);
    }
}
