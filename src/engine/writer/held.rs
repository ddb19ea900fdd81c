//! Answers that are held back until the commit that makes them true.

use super::command::Reply;
use crate::engine::api::{Error, Grant};
use crate::store::Committed;
use crate::task::LeaseId;

/// An answer that waits for its commit.
pub(super) trait Held: Send {
    /// Sends the answer, now that what it tells of is on disk. Returns leases that no worker
    /// took.
    fn release(self: Box<Self>, committed: &Committed) -> Vec<LeaseId>;

    /// Tells the caller that the commit failed: whether what the answer tells of is on disk
    /// is not known.
    fn report_unknown(self: Box<Self>);
}

/// An answer and where it goes.
struct HeldReply<T> {
    reply: Reply<T>,
    answer: Result<T, Error>,
}

impl<T: Send> Held for HeldReply<T> {
    fn release(self: Box<Self>, _committed: &Committed) -> Vec<LeaseId> {
        // The client may have disconnected; it can read the state again.
        let _ = self.reply.send(self.answer);
        Vec::new()
    }

    fn report_unknown(self: Box<Self>) {
        let _ = self.reply.send(Err(Error::Unknown));
    }
}

/// Leases and the worker that asked for them.
struct HeldGrants {
    reply: Reply<Vec<Grant>>,
    grants: Vec<Grant>,
}

impl Held for HeldGrants {
    fn release(self: Box<Self>, _committed: &Committed) -> Vec<LeaseId> {
        match self.reply.send(Ok(self.grants)) {
            Ok(()) => Vec::new(),
            Err(unsent) => unsent.into_iter().flatten().map(|grant| grant.lease.id).collect(),
        }
    }

    fn report_unknown(self: Box<Self>) {
        let _ = self.reply.send(Err(Error::Unknown));
    }
}

/// Holds an answer back.
pub(super) fn hold<T: Send + 'static>(reply: Reply<T>, answer: Result<T, impl Into<Error>>) -> Box<dyn Held> {
    Box::new(HeldReply { reply, answer: answer.map_err(Into::into) })
}

/// Holds leases back.
pub(super) fn hold_grants(reply: Reply<Vec<Grant>>, grants: Vec<Grant>) -> Box<dyn Held> {
    Box::new(HeldGrants { reply, grants })
}
