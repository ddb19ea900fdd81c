//! What plans are made from.
//!
//! What taints, clears, undos and rollbacks change is planned beside the writer, from a
//! [`Snapshot`]. The writer compares versions only to see whether a plan still holds.
//!
//! Two versions are enough. Every step of the graph has a position, so the newest one
//! identifies the graph that a plan was made on, and the writer knows the newest step that
//! made or took back a statement about a record. Whatever else a plan depends on (the checkpoints, the tasks of
//! some projects, the tasks that use artifacts) has the [`Version`] of the group that changed
//! it last.

use std::sync::Arc;

use crate::engine::api::Version;
use crate::lineage::Graph;
use crate::store::View;
use crate::task::TaskId;

/// What a plan is made from. The graph is of this version or a later one, and the view of the
/// graph's commit or a later one, so that neither lacks anything that the version counts.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: Version,
    pub(crate) graph: Arc<Graph>,
    pub(crate) view: View,
    /// The tasks that may have been given artifacts and are being worked on.
    pub(crate) given: Vec<TaskId>,
}

/// What became of a request that was planned.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// It was carried out.
    Done(Box<T>),
    /// Its plan was out of date, and nothing has changed.
    Stale,
}
