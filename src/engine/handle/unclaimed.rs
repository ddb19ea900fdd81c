//! Leases on their way to a worker that may have disconnected.

use tokio::sync::oneshot;

use crate::engine::api::{Error, Grant};
use crate::engine::writer::CommandSender;
use crate::task::LeaseId;

/// The answer to a worker that may disconnect while it waits. Dropping it releases
/// the leases that have not reached the worker.
pub(super) struct Unclaimed {
    pub(super) answer: oneshot::Receiver<Result<Vec<Grant>, Error>>,
    /// Leases that were received from the writer and are not with the worker yet.
    pub(super) leases: Vec<LeaseId>,
    pub(super) commands: CommandSender,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        // From now on the writer can't send an answer, and releases its leases itself.
        self.answer.close();
        let sent = self.answer.try_recv().into_iter().flatten().flatten().map(|grant| grant.lease.id);
        sent.chain(self.leases.drain(..)).for_each(|lease| self.commands.give_back(lease));
    }
}
