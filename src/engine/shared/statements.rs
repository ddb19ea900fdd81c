//! What was said of records, as the store has it.

use std::collections::BTreeSet;

use crate::lineage::{Graph, Statement, statements_of};
use crate::store::{self, Cause, View};
use crate::task::{RecordId, Seq};

/// Returns what was said of a record, oldest first, as of a view and the graph of the same
/// commit.
pub(crate) fn statements_in(view: &View, graph: &Graph, id: RecordId) -> Result<Vec<Statement>, store::Error> {
    if let Some(statements) = view.statements(id)? {
        return Ok(statements);
    }
    Ok(statements_of_fact(graph, id))
}

/// Returns the statements that the fact of a record stands for.
pub(crate) fn statements_of_fact(graph: &Graph, id: RecordId) -> Vec<Statement> {
    statements_of(graph.find(id).and_then(|node| graph.record(node)).and_then(|known| known.fact))
}

/// Returns the records that steps have named, without those that follow from them.
pub(crate) fn named_by(view: &View, steps: &BTreeSet<Seq>) -> Result<BTreeSet<RecordId>, store::Error> {
    let mut named = BTreeSet::new();
    for step in steps {
        let changes = view.step_changes(*step)?;
        let own: Vec<_> = changes.into_iter().filter(|change| change.depth == 0).collect();
        named.extend(view.with_record_ids(&own)?.into_iter().map(|change| change.record));
        let said = view.cascade(*step)?.map(|row| row.cause);
        if let Some(Cause::Said { record, .. }) = said {
            named.insert(record);
        }
    }
    Ok(named)
}
