//! Events of other services, on their way in.

use super::client::Client;
use super::contents;
use crate::engine::api::{Error, EventOutcome, IncomingEvent, PreparedEvent, Refusal};
use crate::engine::writer::Command;

/// Incoming events, by [`Engine::events`](crate::engine::Engine::events).
#[derive(Debug, Clone, Copy)]
pub struct EventsHandle<'a>(pub(super) &'a Client);

impl EventsHandle<'_> {
    /// Accepts events in order, in one durable commit. Returns one result for each.
    pub async fn accept(self, events: Vec<IncomingEvent>) -> Result<Vec<Result<EventOutcome, Refusal>>, Error> {
        self.accept_prepared(self.prepare(events).await?).await
    }

    /// Like [`Self::accept`], for events whose large contents are in files already.
    pub async fn accept_prepared(
        self,
        events: Vec<PreparedEvent>,
    ) -> Result<Vec<Result<EventOutcome, Refusal>>, Error> {
        let (events, plan) = self.0.plan_events(events).await?;
        self.0.ask(|reply| Command::Accept { events, plan, reply }).await
    }

    /// Writes the large contents of events to files, so that the writer does not wait
    /// for it. The result can be passed to [`Self::accept_prepared`] any number of times.
    pub async fn prepare(self, events: Vec<IncomingEvent>) -> Result<Vec<PreparedEvent>, Error> {
        if !events.iter().any(contents::has_large) {
            return Ok(events.into_iter().map(|event| PreparedEvent { event, files: Vec::new() }).collect());
        }
        let bytes = contents::total_bytes(&events);
        let _room = self.0.read.store.room().admit(1, bytes)?;
        self.0.read(move |side| events.into_iter().map(|event| contents::prepare(side, event)).collect()).await
    }
}
