//! `GET /taint-events`: the audit trail of taints, marks and clears.

use hyper::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::cursor;
use super::reply::{self, Reply, Shown};
use super::request::Call;
use crate::engine::{AuditEntry, AuditFilter, AuditPlace};
use crate::lineage::{Flag, Graph, Node};
use crate::store::Cause;
use crate::task::{ArtifactId, RecordId, Seq, Timestamp};

#[derive(Serialize)]
struct EventWire<'a> {
    id: Uuid,
    timestamp: Shown<Timestamp>,
    artifact_id: Option<&'a str>,
    provenance_id: RecordId,
    reason: &'a str,
    source_artifact_id: Option<&'a str>,
    source_provenance_id: Option<RecordId>,
    cascade_depth: u32,
    cascade_id: &'a str,
    action: &'static str,
    /// What the old program's events do not have: why a project was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// The old program's word for a change.
const fn action(from: Flag, to: Flag) -> &'static str {
    match (from, to) {
        (Flag::Suspect, Flag::Tainted) => "escalate",
        (_, Flag::Tainted) => "taint",
        (Flag::Clean, Flag::Suspect) => "suspect",
        (_, Flag::Suspect | Flag::Clean) => "clear",
    }
}

impl<'a> EventWire<'a> {
    fn new(graph: &'a Graph, store: Uuid, entry: &'a AuditEntry, wanted: Option<&'a str>) -> Self {
        let AuditEntry { place, cascade, change } = entry;
        let node = graph.find(change.record);
        let named = cascade.cause.artifact().filter(|_| change.depth == 0).map(ArtifactId::as_str);
        let through = change.through.and_then(|through| graph.find(through));
        let (source_artifact_id, source_provenance_id) = match (&cascade.source, change.through) {
            (_, Some(record)) => (node.zip(through).and_then(|(node, above)| edge(graph, node, above)), Some(record)),
            (Some(source), None) => match source.parse().ok().filter(|id| graph.find(*id).is_some()) {
                Some(record) => (None, Some(record)),
                None => (Some(source.as_str()), None),
            },
            (None, None) => (None, None),
        };
        Self {
            // The same however often it is read.
            id: Uuid::new_v5(&store, format!("taint {} {}", place.step.0, place.index).as_bytes()),
            timestamp: Shown(cascade.at),
            artifact_id: wanted.or(named).or_else(|| node.and_then(|node| made(graph, node))),
            provenance_id: change.record,
            reason: &cascade.reason,
            source_artifact_id,
            source_provenance_id,
            cascade_depth: change.depth,
            cascade_id: &cascade.cascade_id,
            action: action(change.from, change.to),
            detail: match &cascade.cause {
                Cause::Rollback { why, .. } => Some(why),
                Cause::Said { .. } | Cause::Arrival(_) | Cause::Verdict(_) => None,
            },
        }
    }
}

/// The first artifact that a record has made.
fn made(graph: &Graph, node: Node) -> Option<&str> {
    graph.outputs(node).next().and_then(|artifact| graph.artifact_id(artifact))
}

/// An artifact by which a record depends on another; where the edge is no
/// more, one that the other has made.
fn edge(graph: &Graph, node: Node, above: Node) -> Option<&str> {
    let between = graph.between(node, above).next();
    between.and_then(|artifact| graph.artifact_id(artifact)).or_else(|| made(graph, above))
}

#[derive(Serialize)]
struct ListWire<'a> {
    taint_events: Vec<EventWire<'a>>,
    next_cursor: Option<String>,
    limit: usize,
    truncated: bool,
}

/// `GET /taint-events`
pub(super) async fn list(call: Call) -> Reply {
    let mut query = call.query(&["artifact_id", "cascade_id", "provenance_id", "limit", "cursor"]);
    let limit = query.limit();
    let filter = AuditFilter {
        artifact: query.parsed("artifact_id"),
        record: query.parsed("provenance_id"),
        cascade: query.one("cascade_id"),
    };
    let scope = format!("taint events {filter:?}");
    let from = query.one("cursor").and_then(|cursor| {
        let place = cursor::decode(&scope, &cursor).and_then(|bytes| decode(&bytes));
        if place.is_none() {
            query.wrong("cursor", cursor::MISMATCH);
        }
        place
    });
    query.finish()?;
    let engine = &call.app.engine;
    let wanted = filter.artifact.clone();
    let page = engine.audit(filter, from, limit).await?;
    let graph = engine.graph();
    let wanted = wanted.as_ref().map(ArtifactId::as_str);
    let event = |entry| EventWire::new(&graph, engine.store_id(), entry, wanted);
    let wire = ListWire {
        taint_events: page.entries.iter().map(event).collect(),
        next_cursor: page.next.map(|place| cursor::encode(&scope, &encode(place))),
        limit,
        truncated: page.truncated,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

fn encode(place: AuditPlace) -> Vec<u8> {
    let index = u64::try_from(place.index).unwrap_or(u64::MAX);
    [place.step.0.to_be_bytes(), index.to_be_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<AuditPlace> {
    let (step, index) = bytes.split_first_chunk()?;
    let index = usize::try_from(u64::from_be_bytes(index.try_into().ok()?)).ok()?;
    Some(AuditPlace { step: Seq(u64::from_be_bytes(*step)), index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_the_old_words() {
        assert_eq!(action(Flag::Clean, Flag::Tainted), "taint");
        assert_eq!(action(Flag::Suspect, Flag::Tainted), "escalate");
        assert_eq!(action(Flag::Clean, Flag::Suspect), "suspect");
        assert_eq!(action(Flag::Tainted, Flag::Suspect), "clear");
        assert_eq!(action(Flag::Suspect, Flag::Clean), "clear");
    }

    #[test]
    fn places_round_trip() {
        let place = AuditPlace { step: Seq(7), index: 9 };
        assert_eq!(decode(&encode(place)), Some(place));
        assert_eq!(decode(b"short"), None);
    }
}
