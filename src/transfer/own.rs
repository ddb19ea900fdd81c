//! Recognizes entries of this store's own audit trail in an import.

use uuid::Uuid;

use super::event::{imported_event, own_step, place_of, taint_event};
use crate::engine::{AuditPlace, Engine, Error};
use crate::legacy::TaintEvent;
use crate::store::{CascadeRow, ChangeRow, ImportedEvent};
use crate::task::Seq;

/// Looks up entries of the own trail. Keeps the step that was read last, because entries of one
/// step follow each other.
#[derive(Debug, Default)]
pub(super) struct OwnTrail(Option<(Seq, CascadeRow, Vec<ChangeRow>)>);

impl OwnTrail {
    /// Returns whether an event is an entry of the own trail: by its id or, after a restore has
    /// changed the ids, by its contents.
    pub(super) async fn has(&mut self, engine: &Engine, event: &ImportedEvent) -> Result<bool, Error> {
        let store = engine.store_id();
        if own_step(store, &event.id).is_some_and(|step| step <= engine.provenance().graph().newest()) {
            return Ok(true);
        }
        let stated = place_of(&event.id).and_then(|place| Some((place, imported_event(event)?)));
        let Some((place, stated)) = stated else { return Ok(false) };
        let is_of = |row: &CascadeRow| row.cascade_id == stated.cascade && Some(row.at) == stated.timestamp;
        if !engine.provenance().cascade_row(place.step).await?.is_some_and(|row| is_of(&row)) {
            return Ok(false);
        }
        self.look_at(engine, place.step).await?;
        Ok(self.entry(engine, store, place).is_some_and(|own| states_the_same(&own, &stated)))
    }

    async fn look_at(&mut self, engine: &Engine, step: Seq) -> Result<(), Error> {
        if self.0.as_ref().is_none_or(|(looked_at, ..)| *looked_at != step) {
            let next = engine.transfer().cascades(Seq(step.0.saturating_sub(1)), 1).await?;
            self.0 = next.into_iter().find(|(next, ..)| *next == step);
        }
        Ok(())
    }

    fn entry(&self, engine: &Engine, store: Uuid, place: AuditPlace) -> Option<TaintEvent> {
        let (_, cascade, changes) = self.0.as_ref()?;
        Some(taint_event(&engine.provenance().graph(), store, place, (cascade, changes.get(place.index)?), None))
    }
}

fn states_the_same(one: &TaintEvent, other: &TaintEvent) -> bool {
    let stated = |event: &TaintEvent| (event.record, event.action, event.cascade_depth);
    stated(one) == stated(other)
}
