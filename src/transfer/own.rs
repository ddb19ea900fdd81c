//! Entries of our own audit trail that come back with an import.

use uuid::Uuid;

use super::event::{imported_event, own_step, place_of, taint_event};
use crate::engine::{AuditPlace, Engine, Error};
use crate::legacy::TaintEvent;
use crate::store::{CascadeRow, ChangeRow, ImportedEvent};
use crate::task::Seq;

/// Knows entries of our own trail, with the step that was looked at last:
/// entries of one step come one after the other.
#[derive(Debug, Default)]
pub(super) struct OwnTrail(Option<(Seq, CascadeRow, Vec<ChangeRow>)>);

impl OwnTrail {
    /// Whether an event is one of our own entries: by its id, or, where the
    /// store has been restored since and ids are others, by what it tells.
    pub(super) async fn has(&mut self, engine: &Engine, event: &ImportedEvent) -> Result<bool, Error> {
        let store = engine.store_id();
        if own_step(store, &event.id).is_some_and(|step| step <= engine.graph().newest()) {
            return Ok(true);
        }
        let told = place_of(&event.id).and_then(|place| Some((place, imported_event(event)?)));
        let Some((place, told)) = told else { return Ok(false) };
        let is_of = |row: &CascadeRow| row.cascade_id == told.cascade && Some(row.at) == told.timestamp;
        if !engine.cascade_row(place.step).await?.is_some_and(|row| is_of(&row)) {
            return Ok(false);
        }
        self.look_at(engine, place.step).await?;
        Ok(self.entry(engine, store, place).is_some_and(|own| tells_the_same(&own, &told)))
    }

    async fn look_at(&mut self, engine: &Engine, step: Seq) -> Result<(), Error> {
        if self.0.as_ref().is_none_or(|(looked_at, ..)| *looked_at != step) {
            let next = engine.cascades_after(Seq(step.0.saturating_sub(1)), 1).await?;
            self.0 = next.into_iter().find(|(next, ..)| *next == step);
        }
        Ok(())
    }

    fn entry(&self, engine: &Engine, store: Uuid, place: AuditPlace) -> Option<TaintEvent> {
        let (_, cascade, changes) = self.0.as_ref()?;
        Some(taint_event(&engine.graph(), store, place, (cascade, changes.get(place.index)?), None))
    }
}

fn tells_the_same(one: &TaintEvent, other: &TaintEvent) -> bool {
    let told = |event: &TaintEvent| (event.record, event.action, event.cascade_depth);
    told(one) == told(other)
}
