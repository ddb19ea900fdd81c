//! Looks up when and why flags were set, once for all records that share a cause: one taint can set
//! the flags of a hundred thousand records.

use std::collections::HashMap;

use crate::engine::{Engine, Error};
use crate::task::{Seq, Timestamp};

/// Number of cached causes.
const MOST: usize = 1024;

/// The time and the reason of a taint or mark.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    at: Timestamp,
    reason: String,
    by: String,
}

impl Cause {
    /// Returns the time, the reason and the source.
    pub(super) fn into_parts(self) -> (Option<Timestamp>, Option<String>, Option<String>) {
        (Some(self.at), Some(self.reason), Some(self.by))
    }
}

/// A cache of causes by step.
#[derive(Debug, Default)]
pub(super) struct Causes {
    known: HashMap<Seq, Option<Cause>>,
}

impl Causes {
    /// Returns the taint or mark of a step; `None` if the step was of another kind.
    pub(super) async fn of(&mut self, engine: &Engine, step: Seq) -> Result<Option<Cause>, Error> {
        if let Some(known) = self.known.get(&step) {
            return Ok(known.clone());
        }
        let cause = engine.provenance().cascade_row(step).await?.map(|row| Cause {
            at: row.at,
            by: row
                .source
                .or_else(|| row.cause.artifact().map(ToString::to_string))
                .or_else(|| row.cause.record().map(|record| record.to_string()))
                .unwrap_or_default(),
            reason: row.reason,
        });
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(step, cause.clone());
        Ok(cause)
    }
}
