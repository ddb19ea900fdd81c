//! Tasks that are to be routed.

use tokio::sync::watch;

use super::client::Client;
use super::granted;
use crate::engine::api::{Error, RoutingJob};
use crate::engine::writer::Command;
use crate::task::{Finding, Moment, Outcome, RoutingStep, TaskId};

/// Tasks that are to be routed, by [`Engine::routing`](crate::engine::Engine::routing).
#[derive(Debug, Clone, Copy)]
pub struct RoutingHandle<'a>(pub(super) &'a Client);

impl RoutingHandle<'_> {
    /// Hands out tasks that are to be routed, at most `max`, in turns between
    /// projects. Each is out until its finding is submitted or it is returned.
    pub async fn take(self, max: usize) -> Result<Vec<RoutingJob>, Error> {
        let taken = self.0.ask(|reply| Command::TakeRouting { max, reply }).await?;
        self.0
            .read(move |side| {
                let view = side.store.view()?;
                taken.into_iter().map(|taken| granted::routing_job(&view, taken)).collect()
            })
            .await
    }

    /// Returns a signal that changes whenever a task may have become ready to be routed.
    #[must_use]
    pub fn ready(self) -> watch::Receiver<u64> {
        self.0.read.routing()
    }

    /// Submits the finding of a routing step. Nothing changes if the task has left
    /// that step meanwhile.
    pub async fn submit_finding(self, task: TaskId, step: RoutingStep, finding: Finding) -> Result<Outcome, Error> {
        let finding = Box::new(finding);
        self.0.ask(|reply| Command::Route { task, step, finding, reply }).await
    }

    /// Returns a job without a finding. It is handed out again at `until`.
    pub async fn return_job(self, task: TaskId, until: Moment) -> Result<(), Error> {
        self.0.ask(|reply| Command::ReturnRouting { task, until, reply }).await
    }
}
