//! `GET /taint-events`: the audit trail of taint, suspect and clear requests and rollbacks.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::engine::{AuditEntry, AuditFilter, AuditPlace};
use crate::http::api::app::Call;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::reply::{self, Reply, Time};
use crate::legacy::{Action, TaintEvent};
use crate::lineage::Graph;
use crate::store::Cause;
use crate::task::{ArtifactId, RecordId, Seq};
use crate::transfer::{imported_event, taint_event};

/// An entry of the audit trail: a change of the flag of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = TaintEvent)]
pub(in crate::http) struct EventWire {
    /// The id of the entry.
    id: String,
    /// The time of the change; null if an imported entry has none.
    timestamp: Option<Time>,
    /// The artifact; null if it is not known.
    artifact_id: Option<ArtifactId>,
    /// The record; null if it is not known.
    provenance_id: Option<RecordId>,
    /// The reason of the change.
    reason: String,
    /// The artifact from which the change spread.
    source_artifact_id: Option<String>,
    /// The record from which the change spread.
    source_provenance_id: Option<RecordId>,
    /// The number of steps from that record.
    cascade_depth: u64,
    /// The id of the cascade, which all entries of one request share.
    cascade_id: String,
    /// The action.
    #[schema(value_type = Action)]
    action: &'static str,
    /// The reason of a rollback, `upgrade` or `undo`. Entries of the old program do not have this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

impl From<TaintEvent> for EventWire {
    fn from(event: TaintEvent) -> Self {
        Self {
            id: event.id,
            timestamp: event.timestamp.map(Time),
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

/// Renders an entry. Returns `None` if it was imported and cannot be read.
fn render_entry(graph: &Graph, store: Uuid, entry: &AuditEntry, wanted: Option<&ArtifactId>) -> Option<EventWire> {
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
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes or by the limit of the search; the cursor continues after it.
    truncated: bool,
}

/// Handles `GET /taint-events`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&["artifact_id", "cascade_id", "provenance_id", "limit", "cursor"]);
    let limit = query.limit();
    let filter = AuditFilter {
        artifact: query.parsed("artifact_id"),
        // An imported record can be named by its original id.
        record: query.parsed::<ArtifactId>("provenance_id").map(|id| RecordId::of_text(id.as_str())),
        cascade: query.one("cascade_id"),
    };
    let scope = format!("taint events {filter:?}");
    let from = query.cursor(&scope, |place| decode_position(&place));
    query.finish()?;
    let engine = &call.app.engine;
    let wanted = filter.artifact.clone();
    let page = engine.provenance().audit(filter, from, limit).await?;
    let graph = engine.provenance().graph();
    let (mut taint_events, mut next) = (Entries::new(limit), page.next);
    for entry in &page.entries {
        let event = render_entry(&graph, engine.store_id(), entry, wanted.as_ref());
        if event.is_some_and(|event| !taint_events.push(&event)) {
            next = Some(entry.place());
            break;
        }
    }
    let wire = ListWire {
        truncated: page.truncated || taint_events.is_truncated(),
        taint_events,
        next_cursor: next.map(|place| cursor::encode(&scope, &encode_position(place))),
        limit,
    };
    Ok(reply::json(StatusCode::OK, &wire))
}

fn encode_position(place: AuditPlace) -> Vec<u8> {
    let index = u64::try_from(place.index).unwrap_or(u64::MAX);
    [place.step.0.to_be_bytes(), index.to_be_bytes()].concat()
}

fn decode_position(bytes: &[u8]) -> Option<AuditPlace> {
    let (step, index) = bytes.split_first_chunk()?;
    let index = usize::try_from(u64::from_be_bytes(index.try_into().ok()?)).ok()?;
    Some(AuditPlace { step: Seq(u64::from_be_bytes(*step)), index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let place = AuditPlace { step: Seq(7), index: 9 };
        assert_eq!(decode_position(&encode_position(place)), Some(place));
        assert_eq!(decode_position(b"short"), None);
    }
}
