//! Times as answers and events show them.

use serde::{Serialize, Serializer};

use crate::schema::{described, time};
use crate::task::Timestamp;

/// A time on the wire: RFC 3339 in UTC with microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

described! {
    Time, "Time": time("A time in UTC, to the microsecond.");
}
