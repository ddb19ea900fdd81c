//! Large bodies are decoded beside the threads that serve connections, and so are those
//! with mistakes in them, each of which takes another look at all of it: a megabyte of
//! these takes a good part of a second, in which nobody else would be served. A few at
//! once, so that the cores are shared.
//!
//! Bodies that are received and not answered yet have a bound in bytes. Each takes a
//! share of it as its bytes come, so that one that is announced and does not come
//! keeps nothing from the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::json;

/// Bodies up to this size are decoded where they were read, if one look at them is enough,
/// and are not counted: they cost no more than their connection.
pub(in crate::http) const LARGE_BYTES: usize = 16 << 10;
/// Longest wait for a place; then the client is told to come again.
const WAIT: Duration = Duration::from_secs(10);
/// Longest wait for a larger share of the memory.
const MEMORY_WAIT: Duration = Duration::from_secs(2);
/// In what pieces that is shared out, in bytes.
const PIECE_BYTES: usize = 16 << 10;
/// Most pieces of all bodies together: 256 MiB.
const PIECES: usize = 16 << 10;

/// Places for bodies that are being decoded, and memory for those that have come.
#[derive(Debug)]
pub(in crate::http) struct Decoding {
    places: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_wait: Duration,
}

/// What a body takes of the memory for all of them, until it is dropped.
#[derive(Debug, Default)]
pub(in crate::http) struct Share(Option<OwnedSemaphorePermit>);

impl Decoding {
    pub(in crate::http) fn new() -> Self {
        Self::with_wait(MEMORY_WAIT)
    }

    fn with_wait(memory_wait: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { places: Arc::new(Semaphore::new(cores)), memory: Arc::new(Semaphore::new(PIECES)), memory_wait }
    }

    /// Counts a body of which so many bytes have come.
    pub(in crate::http) async fn count(&self, share: &mut Share, bytes: usize) -> Result<(), Problem> {
        if bytes <= LARGE_BYTES {
            return Ok(());
        }
        let held = share.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // One that is larger than everything allowed takes all of it.
        let missing = bytes.div_ceil(PIECE_BYTES).min(PIECES).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = tokio::time::timeout(self.memory_wait, self.memory.clone().acquire_many_owned(missing)).await;
        let Ok(Ok(more)) = more else { return Err(Problem::too_many_body_bytes()) };
        match &mut share.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// Runs `decode` for a body of so many bytes; twice, where the first look at it does
    /// not decide.
    pub(in crate::http) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        decode: impl Fn() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if bytes <= LARGE_BYTES
            && let Some(decoded) = json::in_haste(&decode)
        {
            return Ok(decoded);
        }
        let place = tokio::time::timeout(WAIT, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(Problem::too_many_bodies()) };
        let decoded = tokio::task::spawn_blocking(move || {
            // Held until it has really ended, also when nobody waits for it any more.
            let _place = place;
            decode()
        });
        decoded.await.map_err(|_| Problem::internal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_bodies_and_wrong_ones_are_decoded_elsewhere() {
        let decoding = Decoding::new();
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(decoding.run(LARGE_BYTES, thread).await.unwrap(), here);
        assert_ne!(decoding.run(LARGE_BYTES + 1, thread).await.unwrap(), here);
        let panics = || assert!(std::hint::black_box(false), "planted");
        assert_eq!(decoding.run(LARGE_BYTES + 1, panics).await.unwrap_err().code(), "internal");
        assert_ne!(decoding.run(LARGE_BYTES + 1, thread).await.unwrap(), here);
        let wrong = || {
            let decoded = json::decode_all::<std::collections::BTreeMap<String, u8>>(br#"{"a":300,"b":-1}"#, 100);
            (std::thread::current().id(), decoded.map(|(_, errors)| errors.len()))
        };
        let (there, errors) = decoding.run(16, wrong).await.unwrap();
        assert!(there != here && errors == Ok(2), "{errors:?}");
    }

    #[tokio::test]
    async fn bodies_share_a_bound_in_bytes() {
        let decoding = Decoding::with_wait(Duration::from_millis(20));
        let all = PIECES * PIECE_BYTES;
        let (mut one, mut other, mut small) = (Share::default(), Share::default(), Share::default());
        decoding.count(&mut one, all / 2).await.unwrap();
        decoding.count(&mut one, all / 2).await.unwrap();
        decoding.count(&mut other, all / 4).await.unwrap();
        decoding.count(&mut other, all / 2).await.unwrap();
        decoding.count(&mut small, LARGE_BYTES).await.unwrap();
        let refused = decoding.count(&mut small, LARGE_BYTES + 1).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (503, "overloaded"));
        drop(one);
        decoding.count(&mut small, LARGE_BYTES + 1).await.unwrap();
        drop((other, small));
        decoding.count(&mut Share::default(), all * 2).await.expect("one alone has room, however large it is");
    }
}
