//! Renders entries of the audit trail as taint events of the old program.

use uuid::{Builder, Uuid, Version};

use crate::engine::AuditPlace;
use crate::legacy::{Action, Line, TaintEvent};
use crate::lineage::{Flag, Graph, Node};
use crate::store::{CascadeRow, Cause, ChangeRow, ImportedEvent};
use crate::task::{ArtifactId, Seq};

/// Renders a flag change as an event. The event's id is deterministic. `wanted` selects the
/// artifact to name, for records that have several.
#[must_use]
pub fn taint_event(
    graph: &Graph,
    store: Uuid,
    place: AuditPlace,
    (cascade, change): (&CascadeRow, &ChangeRow),
    wanted: Option<&ArtifactId>,
) -> TaintEvent {
    let node = graph.find(change.record);
    let named = cascade.cause.artifact().filter(|_| change.depth == 0);
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
        id: event_id(store, place).to_string(),
        timestamp: Some(cascade.at),
        artifact: wanted.or(named).cloned().or_else(made),
        record: Some(change.record),
        reason: cascade.reason.clone(),
        source_artifact: source_artifact.unwrap_or_default(),
        source_record,
        cascade_depth: change.depth.into(),
        cascade: cascade.cascade_id.clone(),
        action: match cascade.cause {
            // An undone statement was removed even where the flag stays the same.
            Cause::Undo if change.from == change.to => Action::Clear,
            _ => action(change.from, change.to),
        },
        original: None,
    }
}

/// Bytes of an event id that hold the id of the store; the others encode the place in the trail.
const STORE_BYTES: [usize; 4] = [7, 9, 10, 11];

/// Returns the id of an entry of this store. It encodes the place in the trail, so that an import
/// recognizes entries that were exported from here.
fn event_id(store: Uuid, place: AuditPlace) -> Uuid {
    let mut bytes = [0; 16];
    let [_, _, step @ ..] = place.step.0.to_be_bytes();
    bytes[..6].copy_from_slice(&step);
    bytes[12..].copy_from_slice(&u32::try_from(place.index).unwrap_or(u32::MAX).to_be_bytes());
    for (at, byte) in STORE_BYTES.into_iter().zip(store.as_bytes().iter().rev()) {
        bytes[at] = *byte;
    }
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Decodes the place from an event id; `None` if the id is not of this form.
#[must_use]
pub(super) fn place_of(id: &str) -> Option<AuditPlace> {
    let id = Uuid::try_parse(id).ok().filter(|id| id.get_version() == Some(Version::Custom))?;
    let (head, _) = id.as_bytes().split_first_chunk::<8>()?;
    let step = Seq(u64::from_be_bytes(*head) >> 16);
    let (_, index) = id.as_bytes().split_last_chunk::<4>()?;
    let index = usize::try_from(u32::from_be_bytes(*index)).ok()?;
    Some(AuditPlace { step, index })
}

/// Returns the step of an entry by its event id; `None` if the entry is not of this store.
#[must_use]
pub(super) fn own_step(store: Uuid, id: &str) -> Option<Seq> {
    let place = place_of(id)?;
    (event_id(store, place) == Uuid::try_parse(id).ok()?).then_some(place.step)
}

/// Parses an imported event; `None` if it can't be parsed.
#[must_use]
pub fn imported_event(event: &ImportedEvent) -> Option<TaintEvent> {
    match Line::parse(event.original.as_bytes()) {
        Ok(Line::TaintEvent(event)) => Some(*event),
        Ok(Line::Record(_) | Line::Checkpoint(_)) | Err(_) => None,
    }
}

/// Returns the old program's name for a flag change.
const fn action(from: Flag, to: Flag) -> Action {
    match (from, to) {
        (Flag::Suspect, Flag::Tainted) => Action::Escalate,
        (_, Flag::Tainted) => Action::Taint,
        (Flag::Clean | Flag::Suspect, Flag::Suspect) => Action::Suspect,
        (Flag::Tainted, Flag::Suspect) | (_, Flag::Clean) => Action::Clear,
    }
}

/// Returns the first artifact that a record produced.
fn made(graph: &Graph, node: Node) -> Option<String> {
    graph.outputs(node).next().and_then(|artifact| graph.artifact_id(artifact)).map(str::to_owned)
}

/// Returns an artifact through which a record depends on another. If the edge no longer exists,
/// returns an artifact that the other record produced.
fn edge(graph: &Graph, node: Node, above: Node) -> Option<String> {
    let between = graph.between(node, above).next();
    between.and_then(|artifact| graph.artifact_id(artifact)).map(str::to_owned).or_else(|| made(graph, above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_events_are_known_by_their_ids() {
        let (store, other) = (Uuid::from_u128(0x1234_5678_9abc), Uuid::from_u128(7));
        for (step, index) in [(1, 0), (77, 100_000), (1 << 47, 12)] {
            let place = AuditPlace { step: Seq(step), index };
            let id = event_id(store, place).to_string();
            assert_eq!((own_step(store, &id), own_step(other, &id)), (Some(Seq(step)), None));
        }
        assert_eq!(own_step(store, "event 1"), None);
        assert_eq!(own_step(store, &store.to_string()), None);
    }

    #[test]
    fn actions_have_the_old_words() {
        assert_eq!(action(Flag::Clean, Flag::Tainted), Action::Taint);
        assert_eq!(action(Flag::Suspect, Flag::Tainted), Action::Escalate);
        assert_eq!(action(Flag::Clean, Flag::Suspect), Action::Suspect);
        assert_eq!(action(Flag::Suspect, Flag::Suspect), Action::Suspect);
        assert_eq!(action(Flag::Tainted, Flag::Suspect), Action::Clear);
        assert_eq!(action(Flag::Suspect, Flag::Clean), Action::Clear);
    }
}
