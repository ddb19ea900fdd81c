//! Large bodies are decoded beside the threads that serve connections: a
//! megabyte with many mistakes in it takes a good part of a second, in which
//! nobody else would be served. A few at once, so that the cores are shared.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::problem::Problem;

/// Bodies up to this size are decoded where they were read.
pub(super) const LARGE_BYTES: usize = 64 << 10;
/// Longest wait for a place; then the client is told to come again.
const WAIT: Duration = Duration::from_secs(10);

/// Places for bodies that are being decoded.
#[derive(Debug)]
pub(super) struct Decoding {
    places: Arc<Semaphore>,
}

impl Decoding {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { places: Arc::new(Semaphore::new(cores)) }
    }

    /// Runs `decode` for a body of so many bytes.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        decode: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if bytes <= LARGE_BYTES {
            return Ok(decode());
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
    async fn large_bodies_are_decoded_elsewhere() {
        let decoding = Decoding::new();
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(decoding.run(LARGE_BYTES, thread).await.unwrap(), here);
        assert_ne!(decoding.run(LARGE_BYTES + 1, thread).await.unwrap(), here);
        let panics = || assert!(std::hint::black_box(false), "planted");
        assert_eq!(decoding.run(LARGE_BYTES + 1, panics).await.unwrap_err().code(), "internal");
        assert_ne!(decoding.run(LARGE_BYTES + 1, thread).await.unwrap(), here);
    }
}
