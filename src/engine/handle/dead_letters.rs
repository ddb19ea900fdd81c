//! Messages that could not be taken.

use super::client::Client;
use super::events::EventsHandle;
use crate::engine::api::{DeadLetterFilter, DeadLetterPage, Error, EventOutcome, IncomingEvent, Refusal};
use crate::engine::read::dead_letters;
use crate::engine::writer::Command;
use crate::store::{self, DeadLetter, DeadLetterRemoval};

/// Dead letters that one commit discards.
const ROUND: usize = 256;

/// Dead letters, by [`Engine::dead_letters`](crate::engine::Engine::dead_letters).
#[derive(Debug, Clone, Copy)]
pub struct DeadLettersHandle<'a>(pub(super) &'a Client);

impl DeadLettersHandle<'_> {
    /// Returns a page of dead letters, newest first, before one of them.
    pub async fn list(
        self,
        filter: DeadLetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<DeadLetterPage, Error> {
        self.0.read(move |side| dead_letters::page(&side.store.view()?, &filter, before, limit)).await
    }

    /// Returns a dead letter.
    pub async fn get(self, number: u64) -> Result<Option<DeadLetter>, Error> {
        self.0.read(move |side| side.store.view()?.dead_letter(number)).await
    }

    /// Returns entries of the audit trail of dead letters, newest first, before one
    /// of them, and whether there are more.
    pub async fn removals(
        self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<(u64, DeadLetterRemoval)>, bool), Error> {
        self.0
            .read(move |side| {
                let mut rows = side.store.view()?.dead_letter_removals_before(before)?;
                let entries = rows.by_ref().take(limit).collect::<Result<Vec<_>, store::Error>>()?;
                Ok((entries, rows.next().is_some()))
            })
            .await
    }

    /// Stores messages that could not be taken, durably.
    pub async fn add(self, letters: Vec<DeadLetter>) -> Result<(), Error> {
        self.0.ask(|reply| Command::PutDeadLetters { letters, reply }).await
    }

    /// Accepts a dead letter again as the event that it holds, and removes the letter
    /// unless the event is refused.
    pub async fn requeue(self, number: u64, event: IncomingEvent) -> Result<EventOutcome, Error> {
        let prepared = EventsHandle(self.0).prepare(vec![event]).await?;
        let (mut events, plan) = self.0.plan_events(prepared).await?;
        let Some(event) = events.pop().map(Box::new) else {
            return Err(Refusal::DeadLetterNotFound(number).into());
        };
        let plan = plan.map(|(_, plan)| plan);
        self.0.ask(|reply| Command::Requeue { dead_letter: number, event, plan, reply }).await
    }

    /// Discards a dead letter for good.
    pub async fn discard(self, number: u64) -> Result<(), Error> {
        let discarded = self.0.ask(|reply| Command::DiscardDeadLetters { numbers: vec![number], reply }).await?;
        if discarded == 0 { Err(Refusal::DeadLetterNotFound(number).into()) } else { Ok(()) }
    }

    /// Discards all dead letters that match a filter, newest first, in several
    /// commits. Returns their number.
    ///
    /// Letters that arrive meanwhile stay. On an error, the remaining letters stay too.
    pub async fn discard_matching(self, filter: DeadLetterFilter) -> Result<u64, Error> {
        let (mut before, mut discarded) = (None, 0);
        loop {
            let page = self.list(filter.clone(), before, ROUND).await?;
            let numbers: Vec<u64> = page.entries.iter().map(|(number, _)| *number).collect();
            if !numbers.is_empty() {
                discarded += self.0.ask(|reply| Command::DiscardDeadLetters { numbers, reply }).await?;
            }
            before = page.next;
            if before.is_none() {
                return Ok(discarded);
            }
        }
    }
}
