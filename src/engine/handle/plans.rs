//! Plans for taints, clears, undos and rollbacks: made outside the writer, and
//! carried out by it.

use super::client::Client;
use crate::engine::api::{Error, EventContent, PreparedEvent};
use crate::engine::read::ReadSide;
use crate::engine::state::{Attempt, EventPlan, Failure, Snapshot, Stored, answer};
use crate::engine::writer::{Command, Reply};

/// How often a plan is made outside the writer. The last one is carried out in any case: the
/// writer brings it up to date.
const TRIES: u32 = 3;
/// Most plans that are made at once. Each can hold changes of a hundred thousand records.
pub(super) const AT_ONCE: usize = 4;

/// Takes a snapshot to plan from. Blocks until the tables have the last commit.
pub(super) fn snapshot(side: &ReadSide) -> Stored<Snapshot> {
    // In this order: see [`Snapshot`].
    let version = side.version();
    let graph = side.graph();
    let given = side.shared.given.ids();
    Ok(Snapshot { version, graph, view: side.store.view()?, given })
}

fn is_planned(event: &PreparedEvent) -> bool {
    !matches!(event.event().message, EventContent::Report { .. })
}

impl Client {
    /// Plans the effect of a request and has the writer carry it out. An outdated plan
    /// is made again, at most [`TRIES`] times in all; the writer brings the last one up
    /// to date itself.
    pub(super) async fn carry_out<P, T>(
        &self,
        plan: impl Fn(&ReadSide) -> Result<P, Failure> + Clone + Send + 'static,
        command: impl Fn(Box<P>, bool, Reply<Attempt<T>>) -> Command,
    ) -> Result<T, Error>
    where
        P: Send + 'static,
    {
        if self.read.is_halted() {
            return Err(Error::NotOwner);
        }
        drop(self.read.store.room().admit(0, 0)?);
        let _permit = self.plans.acquire().await.map_err(|_| Error::ShuttingDown)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let plan = plan.clone();
            let planned = Box::new(self.read(move |side| answer(plan(side))).await??);
            match self.ask(|reply| command(planned, tries >= TRIES, reply)).await? {
                Attempt::Done(done) => return Ok(*done),
                Attempt::Stale => tracing::debug!(tries, "a plan was out of date before it was carried out"),
            }
        }
    }

    /// Plans the first of some events that makes statements of records. The plans of
    /// later events would depend on its effect: the writer makes them itself.
    pub(super) async fn plan_events(
        &self,
        events: Vec<PreparedEvent>,
    ) -> Result<(Vec<PreparedEvent>, Option<(usize, EventPlan)>), Error> {
        let Some(index) = events.iter().position(is_planned) else { return Ok((events, None)) };
        if self.read.is_halted() {
            return Err(Error::NotOwner);
        }
        let _permit = self.plans.acquire().await.map_err(|_| Error::ShuttingDown)?;
        let settings = self.settings.clone();
        self.read(move |side| {
            let message = events.get(index).map(|event| &event.event().message);
            let plan = message.map(|message| EventPlan::of(&snapshot(side)?, message, &settings.router));
            match plan.transpose() {
                Ok(plan) => Ok((events, plan.flatten().map(|plan| (index, plan)))),
                // The writer decides whether it accepts the event all the same.
                Err(error) if error.is_no_room() => Ok((events, None)),
                Err(error) => Err(error),
            }
        })
        .await
    }
}
