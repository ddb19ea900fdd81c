//! Marks and clears that were made by hand where an imported record comes
//! from. They count here as far as its file agrees with them, and nothing
//! newer speaks against them.

use super::api::{IMPORT_CASCADE, Word};
use super::machine::Machine;
use crate::lineage::{Action, Fact, Flag, Known};
use crate::store::{self, CascadeRow, Cause, Changes, Record};
use crate::task::{Seq, Timestamp};

type Stored<T> = Result<T, store::Error>;

impl Machine {
    /// Applies a word; whether that has changed anything. A clear counts
    /// where all that is tainted above was so before it: what is tainted
    /// later makes the record suspect again.
    pub(super) fn import_word(&mut self, word: &Word) -> Stored<bool> {
        let graph = self.provenance.graph();
        let Some(node) = graph.find(word.record) else { return Ok(false) };
        let (Some(known), Some(record)) = (graph.record(node), self.stored_record(word.record)?) else {
            return Ok(false);
        };
        let Some(imported) = &record.imported else { return Ok(false) };
        let action = match (word.is_good, imported.was_suspect, known.flag) {
            (true, false, Flag::Suspect) => Action::Clear,
            (false, true, Flag::Clean | Flag::Suspect) => Action::Mark,
            _ => return Ok(false),
        };
        if !self.is_older(&known, word.at)? {
            return Ok(false);
        }
        if action == Action::Clear {
            for above in graph.tainted_dependencies(node).into_iter().filter_map(|node| graph.record(node)) {
                if !self.is_older(&above, word.at)? {
                    return Ok(false);
                }
            }
        }
        let said = self.say(action, &[word.record], IMPORT_CASCADE)?;
        if said.named.is_empty() {
            return Ok(false);
        }
        let row = CascadeRow {
            at: word.at,
            cascade_id: IMPORT_CASCADE.to_owned(),
            cause: Cause::Import(word.record),
            reason: word.reason.clone(),
            source: None,
        };
        let graph = self.provenance.graph();
        self.group.batch.put_cascade(said.seq, &row, Changes::of(graph, &said.told(graph)))?;
        Ok(true)
    }

    /// Whether what was said of a record here was said by a time.
    fn is_older(&self, known: &Known, time: Timestamp) -> Stored<bool> {
        let Some(Fact::Tainted(step) | Fact::Marked(step) | Fact::Cleared(step)) = known.fact else {
            return Ok(true);
        };
        if self.store.view()?.cascade(step)?.is_some_and(|row| row.at <= time) {
            return Ok(true);
        }
        Ok(self.stored_record(known.id)?.is_some_and(|record| came_tainted_at_no_time(&record, step)))
    }
}

/// Whether a record came with this taint, and nobody knows since when.
fn came_tainted_at_no_time(record: &Record, step: Seq) -> bool {
    record.taint_brought_in(step).is_some_and(|taint| taint.at.is_none())
}
