//! Leases on their way to a worker that may have gone away.

use tokio::sync::oneshot;

use super::api::Error;
use super::queue::CommandSender;
use super::turns::Grant;
use crate::task::LeaseId;

/// The answer to a worker that may go away while it waits: leases that are
/// on their way to it then are given back.
pub(super) struct Unclaimed {
    pub(super) answer: oneshot::Receiver<Result<Vec<Grant>, Error>>,
    /// Those that have come, but are not with the worker yet.
    pub(super) leases: Vec<LeaseId>,
    pub(super) commands: CommandSender,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        // What was not sent yet is given back by the writer.
        self.answer.close();
        let sent = self.answer.try_recv().into_iter().flatten().flatten().map(|grant| grant.lease.id);
        sent.chain(self.leases.drain(..)).for_each(|lease| self.commands.give_back(lease));
    }
}
