//! Where things came from: the provenance graph of all records, and the
//! taint and suspicion that follow from it.
//!
//! Nothing here reads a clock, does I/O or knows of storage, HTTP or threads.
//! Records and facts go in with their position in the log; links, flags and
//! walks come out.
//!
//! # Links
//!
//! Record A depends on record B when an input of A is bound to B. Which record
//! that is stands in `choice.rs`: one of the same project before others, one no
//! later than A started before later ones, one that has not failed before one
//! that has. So links are a function of the records alone, whatever the order
//! in which they came,
//! but for one thing: an edge that would close a cycle is refused, and which
//! edge of a cycle that is depends on which came last. A refused edge is tried
//! again whenever another edge goes away: at any time each refused edge would
//! close a cycle.
//!
//! # Flags
//!
//! Facts have positions: a taint, a mark by hand, a clear, and the binding of
//! an edge. A record has at most one fact of its own; a newer one takes its
//! place, and the clear of a tainted record removes its taint and leaves none.
//! Several cascades can say something of the same record. The fact is what
//! follows from all that stands of it (`statements.rs`), and one of them can be
//! taken back: then the fact can be an older one again ([`Graph::restate`]).
//!
//! A path from a tainted record down to another is as new as its newest part:
//! the taint, or one of its edges. The *exposure* of a record is the position
//! of the newest such path. Then a record is
//!
//! * tainted, if its fact is a taint;
//! * suspect, if its fact is a mark;
//! * suspect, if it has any exposure, unless its fact is a clear no older
//!   than that;
//! * clean otherwise.
//!
//! So a clear covers its record alone, paths run through it, and it is void
//! as soon as anything new brings a taint: a taint above, or an edge on any
//! path down to it. When that new thing goes away again, the clear holds
//! again. All this is a function of facts and edges; `tests/it/lineage`
//! computes it anew after every step, in the plainest way.
//!
//! # Versions
//!
//! A [`Graph`] is a value. Its rows are in pages of 256 that versions share
//! (`pages.rs`); a clone costs a dozen reference counts, and the writer, going
//! on, copies a page of some kilobytes when it first changes one that a reader
//! may still hold. So a reader has one version for as long as it likes, no
//! walk delays the writer, a step that is not committed is undone by dropping
//! it, and a preview is a step on a clone. A lock would let a walk of a
//! million records hold up every commit; an immutable array with a mutable
//! tail, merged now and then, would stop the writer for a tenth of a second
//! at each merge. The price is one more look-up for each record of a walk.
//!
//! # Memory
//!
//! An edge costs 12 bytes, 8 at the record that used the artifact and 4 at
//! the one that produced it, and about 15 with its part of the pages. A record
//! costs 64 bytes, and about 80 with its part of pages and index; an artifact
//! about 25 and its name. Facts and exposures take 8 bytes each, only in pages
//! that have any. [`Graph::footprint`] counts, and a test holds the figures.

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

pub use cancellation::{Endless, Pace, Stopped, Until};
pub use flags::Action;
pub use graph::{Footprint, Graph, Known};
pub use queries::Questions;
pub use record::{
    Artifact, Began, Edge, Error, Fact, Flag, FlagChange, Link, Node, Project, Record, Relationship, Step,
};
pub use restore::Restored;
pub use statements::{Replaced, Saying, Statement, fact_of, live, statements_of, without};
pub use visit::{Neighbors, Seen};
pub use walk::{Found, Impact, RootCauses, Walk};
