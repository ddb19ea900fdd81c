//! When and why flags were set, looked up once for all records that share
//! the cause: one taint can be behind the flags of a hundred thousand.

use std::collections::HashMap;

use crate::engine::{Engine, Error};
use crate::task::{Seq, Timestamp};

/// Causes that are remembered at once.
const MOST: usize = 1024;

/// When a taint or a mark was set, and why.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    at: Timestamp,
    reason: String,
    by: String,
}

impl Cause {
    /// When, why, and what caused it.
    pub(super) fn into_parts(self) -> (Option<Timestamp>, Option<String>, Option<String>) {
        (Some(self.at), Some(self.reason), Some(self.by))
    }
}

/// What was looked up lately.
#[derive(Debug, Default)]
pub(super) struct Causes {
    known: HashMap<Seq, Option<Cause>>,
}

impl Causes {
    /// The taint or mark of a step; `None`: the step was another one.
    pub(super) async fn of(&mut self, engine: &Engine, step: Seq) -> Result<Option<Cause>, Error> {
        if let Some(known) = self.known.get(&step) {
            return Ok(known.clone());
        }
        let cause = engine.cascade_row(step).await?.map(|row| Cause {
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
