//! `GET /taint-events`: the audit trail of taints, marks and clears.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::engine::{AuditEntry, AuditFilter, AuditPlace};
use crate::http::api::app::Call;
use crate::http::openapi::TaintAction;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::legacy::TaintEvent;
use crate::lineage::Graph;
use crate::store::Cause;
use crate::task::{ArtifactId, RecordId, Seq};
use crate::transfer::{imported_event, taint_event};

/// A change of a record's flag.
#[derive(Serialize, ToSchema)]
#[schema(as = TaintEvent)]
pub(in crate::http) struct EventWire {
    /// Its id.
    id: String,
    /// When; null where an imported event does not say.
    timestamp: Option<Time>,
    /// The artifact, where one is known.
    artifact_id: Option<ArtifactId>,
    /// The record, where it is known.
    provenance_id: Option<RecordId>,
    /// Why.
    reason: String,
    /// The artifact that it comes from.
    source_artifact_id: Option<String>,
    /// The record that it comes from.
    source_provenance_id: Option<RecordId>,
    /// Steps from there.
    cascade_depth: u64,
    /// What belongs together has one.
    cascade_id: String,
    /// What was done.
    #[schema(value_type = TaintAction)]
    action: &'static str,
    /// What the old program's events do not have: why a project was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

impl From<TaintEvent> for EventWire {
    fn from(event: TaintEvent) -> Self {
        Self {
            id: event.id,
            timestamp: event.timestamp.map(Shown),
            artifact_id: event.artifact,
            provenance_id: event.record,
            reason: event.reason,
            source_artifact_id: Some(event.source_artifact).filter(|source| !source.is_empty()),
            source_provenance_id: event.source_record,
            cascade_depth: event.cascade_depth,
            cascade_id: event.cascade,
            action: event.action.as_str(),
            detail: None,
        }
    }
}

/// An entry of the trail; `None`: an imported one that can't be read any more.
fn event(graph: &Graph, store: Uuid, entry: &AuditEntry, wanted: Option<&ArtifactId>) -> Option<EventWire> {
    match entry {
        AuditEntry::Own { place, cascade, change } => {
            let detail = match &cascade.cause {
                Cause::Rollback { why, .. } => Some(why.clone()),
                Cause::Upgrade => Some("upgrade".to_owned()),
                Cause::Undo => Some("undo".to_owned()),
                Cause::Said { .. } | Cause::Arrival(_) | Cause::Verdict(_) | Cause::Import(_) => None,
            };
            let event = taint_event(graph, store, *place, (cascade, change), wanted);
            Some(EventWire { detail, ..event.into() })
        }
        AuditEntry::Imported { event, .. } => imported_event(event).map(EventWire::from),
    }
}

/// A page of the audit trail.
#[derive(Serialize, ToSchema)]
#[schema(as = TaintEventList)]
pub(in crate::http) struct ListWire {
    /// The entries.
    #[schema(value_type = Vec<EventWire>)]
    taint_events: Entries,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes or because looking for more was given up: go on with the cursor.
    truncated: bool,
}

/// `GET /taint-events`
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&["artifact_id", "cascade_id", "provenance_id", "limit", "cursor"]);
    let limit = query.limit();
    let filter = AuditFilter {
        artifact: query.parsed("artifact_id"),
        // Imported records may be asked for by the id that they had.
        record: query.parsed::<ArtifactId>("provenance_id").map(|id| RecordId::of_text(id.as_str())),
        cascade: query.one("cascade_id"),
    };
    let scope = format!("taint events {filter:?}");
    let from = query.cursor(&scope, |place| decode(&place));
    query.finish()?;
    let engine = &call.app.engine;
    let wanted = filter.artifact.clone();
    let page = engine.provenance().audit(filter, from, limit).await?;
    let graph = engine.provenance().graph();
    let (mut taint_events, mut next) = (Entries::new(limit), page.next);
    for entry in &page.entries {
        let event = event(&graph, engine.store_id(), entry, wanted.as_ref());
        if event.is_some_and(|event| !taint_events.push(&event)) {
            next = Some(entry.place());
            break;
        }
    }
    let wire = ListWire {
        truncated: page.truncated || taint_events.is_truncated(),
        taint_events,
        next_cursor: next.map(|place| cursor::encode(&scope, &encode(place))),
        limit,
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
    fn places_round_trip() {
        let place = AuditPlace { step: Seq(7), index: 9 };
        assert_eq!(decode(&encode(place)), Some(place));
        assert_eq!(decode(b"short"), None);
    }
}
