//! Leases for workers, and the work queues of the tiers.

use std::time::Duration;

use tokio::sync::oneshot;

use super::client::Client;
use super::granted;
use super::unclaimed::Unclaimed;
use crate::engine::api::{Error, GrantedLease, LeaseRequest, WorkQueue};
use crate::engine::writer::Command;
use crate::store::guarded;
use crate::task::{LeaseId, Tier, Timestamp};

/// Leases and work queues, by [`Engine::work`](crate::engine::Engine::work).
#[derive(Debug, Clone, Copy)]
pub struct WorkHandle<'a>(pub(super) &'a Client);

impl WorkHandle<'_> {
    /// Leases waiting tasks of a tier to a worker, and waits for the first one if
    /// there are none.
    ///
    /// The data of the tasks ends at about [`PAGE_BYTES`](crate::store::PAGE_BYTES), after
    /// at least one task. Dropping the future ends the wait; leases that were granted
    /// by then are released.
    pub async fn lease(self, request: LeaseRequest) -> Result<Vec<GrantedLease>, Error> {
        let Self(client) = self;
        if client.read.is_halted() {
            return Err(Error::NotOwner);
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Lease { request, reply };
        // A lease is small, and may wait for long: it reserves nothing.
        let _none = client.admit(&command)?;
        client.commands.send(command)?;
        let mut unclaimed = Unclaimed { answer, leases: Vec::new(), commands: client.commands.clone() };
        let grants = if client.read.is_stopped() {
            unclaimed.answer.try_recv().unwrap_or(Err(Error::ShuttingDown))?
        } else {
            (&mut unclaimed.answer).await.unwrap_or(Err(Error::ShuttingDown))?
        };
        unclaimed.leases = grants.iter().map(|grant| grant.lease.id).collect();
        // The rows that a lease needs are mostly in the tables since the submission.
        // If not, another thread waits for them.
        let now = guarded(|| granted::granted_now(&client.read.store.view_of_tables()?, &grants))?;
        let granted = match now {
            Some(granted) => granted,
            None => client.read(move |side| granted::granted(&side.store.view()?, &grants)).await?,
        };
        // The leases that do not fit into the answer are released.
        unclaimed.leases.drain(..granted.len());
        Ok(granted)
    }

    /// Renews a lease for a duration from now on. Returns its new end.
    pub async fn renew(self, lease: LeaseId, duration: Duration) -> Result<Timestamp, Error> {
        self.0.ask(|reply| Command::Renew { lease, duration, reply }).await
    }

    /// Releases a lease: the task waits for a worker again.
    pub async fn release(self, lease: LeaseId) -> Result<(), Error> {
        self.0.ask(|reply| Command::Release { lease, delivered: true, reply }).await
    }

    /// Returns the work queue of every configured tier.
    #[must_use]
    pub fn queues(self) -> Vec<WorkQueue> {
        self.0.read.projects.queues()
    }

    /// Pauses a tier: its tasks are no longer dispatched or leased, and running ones
    /// go on. A paused tier stays as it is.
    pub async fn pause_tier(self, tier: Tier) -> Result<WorkQueue, Error> {
        self.0.ask(|reply| Command::PauseTier { tier, pause: true, reply }).await
    }

    /// Ends the pause of a tier.
    pub async fn resume_tier(self, tier: Tier) -> Result<WorkQueue, Error> {
        self.0.ask(|reply| Command::PauseTier { tier, pause: false, reply }).await
    }
}
