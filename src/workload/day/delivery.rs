//! Events that are sent until their outcome is known.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::context::{Context, Reply};
use crate::workload::event::event_call;

/// Most tries of an event whose answer was lost.
const MAX_TRIES: u32 = 30;
/// Pause between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// The answer to an event.
pub(super) struct EventReply {
    pub(super) outcome: String,
    pub(super) reply: Reply,
}

/// Sends an event until its outcome is known. The service recognises repetitions by the id.
pub(super) async fn send_event(context: &Context, kind: &'static str, event: &Value) -> Option<EventReply> {
    for _ in 0..MAX_TRIES {
        // 409: too many verdicts wait for their outputs.
        match context.send(kind, event_call(event), &[409]).await {
            Some(reply) if reply.is_ok() => {
                return Some(EventReply { outcome: reply.text("outcome").to_owned(), reply });
            }
            Some(reply) if !matches!(reply.status, 429 | 503) => return None,
            _ => sleep(TRY_PAUSE).await,
        }
        if context.is_ended() {
            return None;
        }
    }
    None
}
