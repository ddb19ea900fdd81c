//! The provenance graph of all records, and the taint and suspicion that follow from it.
//!
//! Nothing in this module reads a clock, does I/O or knows of storage, HTTP or threads. Records and
//! facts go in with their position in the log; links, flags and walks come out.
//!
//! # Links
//!
//! Record A depends on record B when an input of A is bound to B. `choice.rs` has the rule that
//! selects B: records of the same project come first, then records no later than the start of A,
//! then records that have not failed. Links are therefore a function of the records alone, whatever
//! the order of their arrival, with one exception: an edge that would close a cycle is refused, and
//! which edge of a cycle that is depends on which one came last. A refused edge is tried again
//! whenever another edge is removed, so at any time each refused edge would close a cycle.
//!
//! # Flags
//!
//! Facts have positions: a taint, a manual mark, a clear, and the binding of an edge. A record has
//! at most one fact of its own. A newer fact replaces it, and the clear of a tainted record removes
//! the taint and leaves no fact. Several cascades can make statements about the same record. The
//! fact follows from all statements that stand (`statements.rs`); when one of them is undone, the
//! fact can be an older one again ([`Graph::set_facts`]).
//!
//! A path from a tainted record down to another one is as new as its newest part: the taint, or one
//! of its edges. The *exposure* of a record is the position of the newest such path. A record is
//!
//! * tainted if its fact is a taint;
//! * suspect if its fact is a mark;
//! * suspect if it has an exposure, unless its fact is a clear that is no older;
//! * clean otherwise.
//!
//! A clear therefore covers its record alone, paths run through it, and it is void as soon as
//! something new brings a taint: a taint above, or an edge on any path down to the record. When
//! that is removed, the clear holds again. All of this is a function of facts and edges;
//! `tests/it/lineage` computes it anew after every step by the simplest possible means.
//!
//! # Versions
//!
//! A [`Graph`] is a value. Its rows are in pages of 256 that versions share (`pages.rs`). A clone
//! costs a dozen reference counts, and the writer copies a page of some kilobytes when it first
//! changes one that a reader may still hold. So a reader keeps one version for as long as it likes,
//! no walk delays the writer, a step that is not committed is undone by dropping it, and a preview
//! is a step on a clone. With a lock, a walk of a million records would hold up every commit; with
//! an immutable array and a mutable tail, the writer would stop for a tenth of a second at each
//! merge. The price is one more look-up for each record of a walk.
//!
//! # Memory
//!
//! An edge costs 12 bytes, 8 at the record that used the artifact and 4 at the record that produced
//! it, and about 15 with its share of the pages. A record costs 64 bytes, and about 80 with its
//! share of pages and index; an artifact costs about 25 and its name. Facts and exposures take 8
//! bytes each, in pages that have any. [`Graph::footprint`] counts them, and a test holds the
//! figures.
//!
//! ```
//! use dats::lineage::{Action, Graph};
//! use dats::task::Seq;
//!
//! let mut graph = Graph::default();
//! let step = graph.apply(Action::Taint, &[], Seq(1)).unwrap();
//! assert!(step.flags.is_empty() && graph.is_empty());
//! ```

mod bulk;
mod cancellation;
mod choice;
mod cover;
mod cycle;
mod flags;
mod graph;
mod link;
mod lists;
mod marks;
mod names;
mod pages;
mod queries;
mod record;
mod restore;
mod revise;
mod rows;
mod statements;
mod update;
mod visit;
mod walk;

pub use cancellation::{CancelWhen, Cancellation, Cancelled, NeverCancelled};
pub use flags::Action;
pub use graph::{Footprint, Graph, RecordState};
pub use queries::Queries;
pub use record::{
    Artifact, Edge, Error, Fact, Flag, FlagChange, Link, Node, Project, Record, Relationship, Step, WorkStart,
};
pub use restore::RestoredRecord;
pub use statements::{
    ReplacedVerdict, Statement, StatementKind, fact_of, remove_steps, since_last_clear, statements_of,
};
pub use visit::{Neighbors, Visited};
pub use walk::{Impact, RootCauses, Walk, WalkEntry};
