//! Entries of the audit trail in the form of the old program's taint events.

use uuid::Uuid;

use crate::engine::AuditPlace;
use crate::legacy::{Action, Line, TaintEvent};
use crate::lineage::{Flag, Graph, Node};
use crate::store::{CascadeRow, ChangeRow, ImportedEvent};
use crate::task::ArtifactId;

/// A change of a flag as an event. Its id is the same however often it is
/// made; `wanted` is the artifact that it is to be told of, where the record
/// has several.
#[must_use]
pub fn taint_event(
    graph: &Graph,
    store: Uuid,
    place: AuditPlace,
    (cascade, change): (&CascadeRow, &ChangeRow),
    wanted: Option<&ArtifactId>,
) -> TaintEvent {
    let node = graph.find(change.record);
    let named = cascade.artifact.as_ref().filter(|_| change.depth == 0);
    let through = change.through.and_then(|through| graph.find(through));
    let (source_artifact, source_record) = match (&cascade.source, change.through) {
        (_, Some(record)) => (node.zip(through).and_then(|(node, above)| edge(graph, node, above)), Some(record)),
        (Some(source), None) => match source.parse().ok().filter(|id| graph.find(*id).is_some()) {
            Some(record) => (None, Some(record)),
            None => (Some(source.clone()), None),
        },
        (None, None) => (None, None),
    };
    let made = || ArtifactId::new(&node.and_then(|node| made(graph, node))?).ok();
    TaintEvent {
        id: Uuid::new_v5(&store, format!("taint {} {}", place.step.0, place.index).as_bytes()).to_string(),
        timestamp: Some(cascade.at),
        artifact: wanted.or(named).cloned().or_else(made),
        record: Some(change.record),
        reason: cascade.reason.clone(),
        source_artifact: source_artifact.unwrap_or_default(),
        source_record,
        cascade_depth: change.depth.into(),
        cascade: cascade.cascade_id.clone(),
        action: action(change.from, change.to),
        original: None,
    }
}

/// An imported event; `None`: it is none that can be read.
#[must_use]
pub fn imported_event(event: &ImportedEvent) -> Option<TaintEvent> {
    match Line::parse(event.original.as_bytes()) {
        Ok(Line::TaintEvent(event)) => Some(*event),
        Ok(Line::Record(_) | Line::Checkpoint(_)) | Err(_) => None,
    }
}

/// The old program's word for a change.
const fn action(from: Flag, to: Flag) -> Action {
    match (from, to) {
        (Flag::Suspect, Flag::Tainted) => Action::Escalate,
        (_, Flag::Tainted) => Action::Taint,
        (Flag::Clean, Flag::Suspect) => Action::Suspect,
        (_, Flag::Suspect | Flag::Clean) => Action::Clear,
    }
}

/// The first artifact that a record has made.
fn made(graph: &Graph, node: Node) -> Option<String> {
    graph.outputs(node).next().and_then(|artifact| graph.artifact_id(artifact)).map(str::to_owned)
}

/// An artifact by which a record depends on another; where the edge is no
/// more, one that the other has made.
fn edge(graph: &Graph, node: Node, above: Node) -> Option<String> {
    let between = graph.between(node, above).next();
    between.and_then(|artifact| graph.artifact_id(artifact)).map(str::to_owned).or_else(|| made(graph, above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_the_old_words() {
        assert_eq!(action(Flag::Clean, Flag::Tainted), Action::Taint);
        assert_eq!(action(Flag::Suspect, Flag::Tainted), Action::Escalate);
        assert_eq!(action(Flag::Clean, Flag::Suspect), Action::Suspect);
        assert_eq!(action(Flag::Tainted, Flag::Suspect), Action::Clear);
        assert_eq!(action(Flag::Suspect, Flag::Clean), Action::Clear);
    }
}
