//! Reading and decoding the bodies of requests, within limits on size, time,
//! memory and processor time.
//!
//! Large bodies are decoded on blocking threads, and so are bodies with mistakes:
//! finding all mistakes takes another pass over the whole body, and a megabyte of
//! them takes a good part of a second, during which a connection thread would
//! serve no other client. At most one body per core is decoded at a time.
//!
//! The bodies that are received and not answered yet share a limit in bytes. A
//! body takes its share as its bytes arrive, so a body that is announced and
//! never sent takes nothing from the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::content_type;
use super::exchange::RequestBody;
use super::problem::Problem;
use crate::json;

/// Bodies up to this size are decoded on the connection's thread, if one pass
/// decides, and take no share of the memory: they cost no more than their
/// connection.
pub(in crate::http) const LARGE_BYTES: usize = 16 << 10;
/// Longest wait for a decoding slot; then the client is told to retry.
const DECODING_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for a larger share of the memory.
const MEMORY_WAIT: Duration = Duration::from_secs(2);
/// Unit in which the memory is shared out, in bytes.
const UNIT_BYTES: usize = 16 << 10;
/// Units of memory for all bodies together: 256 MiB.
const UNITS: usize = 16 << 10;

/// Reads and decodes bodies within the limits that all requests share.
#[derive(Debug)]
pub(in crate::http) struct BodyReader {
    max_bytes: usize,
    timeout: Duration,
    decoding_slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_wait: Duration,
}

/// A body's share of the memory for all bodies, until it is dropped.
#[derive(Debug, Default)]
pub(in crate::http) struct MemoryShare(Option<OwnedSemaphorePermit>);

impl BodyReader {
    /// Accepts bodies of at most `max_bytes` that arrive within `timeout`.
    pub(in crate::http) fn new(max_bytes: usize, timeout: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            max_bytes,
            timeout,
            decoding_slots: Arc::new(Semaphore::new(cores)),
            memory: Arc::new(Semaphore::new(UNITS)),
            memory_wait: MEMORY_WAIT,
        }
    }

    /// Size limit of a body, in bytes.
    pub(in crate::http) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Reads the whole body. A body that is not empty must have a media type.
    pub(in crate::http) async fn read(
        &self,
        headers: &HeaderMap,
        body: &mut RequestBody,
        share: &mut MemoryShare,
    ) -> Result<Bytes, Problem> {
        let announced = body.size_hint().lower();
        if announced > 0 {
            content_type::require_any(headers)?;
        }
        if usize::try_from(announced).unwrap_or(usize::MAX) > self.max_bytes {
            return Err(Problem::body_too_large(self.max_bytes));
        }
        match tokio::time::timeout(self.timeout, self.collect(body, share)).await {
            Ok(Ok(bytes)) if !bytes.is_empty() => {
                content_type::require_any(headers)?;
                Ok(bytes)
            }
            Ok(empty) => empty,
            Err(_) => Err(Problem::body_timeout()),
        }
    }

    /// Most bodies arrive in one piece, which is returned without a copy.
    async fn collect(&self, body: &mut RequestBody, share: &mut MemoryShare) -> Result<Bytes, Problem> {
        let mut whole = Bytes::new();
        let mut pieces = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(|_| Problem::body_incomplete())?;
            let received = whole.len() + pieces.len() + data.len();
            if received > self.max_bytes {
                return Err(Problem::body_too_large(self.max_bytes));
            }
            self.reserve(share, received).await?;
            if whole.is_empty() && pieces.is_empty() {
                whole = data;
                continue;
            }
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&data);
        }
        Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
    }

    /// Grows `share` to cover a body of which `bytes` have arrived.
    async fn reserve(&self, share: &mut MemoryShare, bytes: usize) -> Result<(), Problem> {
        if bytes <= LARGE_BYTES {
            return Ok(());
        }
        let held = share.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // A body that is larger than the whole memory takes all of it.
        let missing = bytes.div_ceil(UNIT_BYTES).min(UNITS).saturating_sub(held);
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

    /// Runs `decode` for a body of `bytes` bytes. It runs a second time, on a
    /// blocking thread, if the first pass stopped early because of a mistake.
    pub(in crate::http) async fn decode<T: Send + 'static>(
        &self,
        bytes: usize,
        decode: impl Fn() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if bytes <= LARGE_BYTES
            && let Some(decoded) = json::try_single_pass(&decode)
        {
            return Ok(decoded);
        }
        let slot = tokio::time::timeout(DECODING_WAIT, self.decoding_slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return Err(Problem::too_many_bodies()) };
        let decoded = tokio::task::spawn_blocking(move || {
            // Held until decoding has ended, even if the client has disconnected.
            let _slot = slot;
            decode()
        });
        decoded.await.map_err(|_| Problem::internal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> BodyReader {
        BodyReader::new(1 << 20, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn large_and_invalid_bodies_are_decoded_on_other_threads() {
        let reader = reader();
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(reader.decode(LARGE_BYTES, thread).await.unwrap(), here);
        assert_ne!(reader.decode(LARGE_BYTES + 1, thread).await.unwrap(), here);
        let panics = || assert!(std::hint::black_box(false), "planted");
        assert_eq!(reader.decode(LARGE_BYTES + 1, panics).await.unwrap_err().code(), "internal");
        assert_ne!(reader.decode(LARGE_BYTES + 1, thread).await.unwrap(), here);
        let wrong = || {
            let decoded = json::decode_all::<std::collections::BTreeMap<String, u8>>(br#"{"a":300,"b":-1}"#, 100);
            (std::thread::current().id(), decoded.map(|(_, errors)| errors.len()))
        };
        let (there, errors) = reader.decode(16, wrong).await.unwrap();
        assert!(there != here && errors == Ok(2), "{errors:?}");
    }

    #[tokio::test]
    async fn bodies_share_a_limit_in_bytes() {
        let reader = BodyReader { memory_wait: Duration::from_millis(20), ..reader() };
        let all = UNITS * UNIT_BYTES;
        let (mut one, mut other, mut small) = (MemoryShare::default(), MemoryShare::default(), MemoryShare::default());
        reader.reserve(&mut one, all / 2).await.unwrap();
        reader.reserve(&mut one, all / 2).await.unwrap();
        reader.reserve(&mut other, all / 4).await.unwrap();
        reader.reserve(&mut other, all / 2).await.unwrap();
        reader.reserve(&mut small, LARGE_BYTES).await.unwrap();
        let refused = reader.reserve(&mut small, LARGE_BYTES + 1).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (503, "overloaded"));
        drop(one);
        reader.reserve(&mut small, LARGE_BYTES + 1).await.unwrap();
        drop((other, small));
        reader
            .reserve(&mut MemoryShare::default(), all * 2)
            .await
            .expect("a single body has room, however large it is");
    }
}
