//! Queries of one version of the graph, which may be cancelled.

use super::cancellation::{Endless, Until};
use super::graph::Graph;

/// Questions about one version of the graph, at some pace.
#[derive(Debug, Clone, Copy)]
pub struct Questions<'a, P> {
    pub(super) graph: &'a Graph,
    pub(super) pace: P,
}

impl Graph {
    /// Questions that have no answer once `stop` says so.
    pub fn until<F: Fn() -> bool>(&self, stop: F) -> Questions<'_, Until<F>> {
        Questions { graph: self, pace: Until(stop) }
    }

    pub(super) fn ask(&self) -> Questions<'_, Endless> {
        Questions { graph: self, pace: Endless }
    }
}
