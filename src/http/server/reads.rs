//! Where lists, trees, exports and histories are read and rendered: on threads
//! of their own, a few at once, so that neither a large page nor a slow disk
//! holds up the threads that serve connections.
//!
//! What is read and not yet sent is bounded as well: a client that does not
//! read its answer holds that answer and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::body::Body;
use super::problem::Problem;
use super::reply::Reply;
use crate::engine;

/// Most reads at once, each on a thread of its own.
const AT_ONCE: usize = 4;
/// Longest wait for a place; then the client is told to come again.
const WAIT: Duration = Duration::from_secs(5);
/// Answers up to this size are not counted: they cost no more than the request.
const SMALL_BYTES: usize = 64 << 10;
/// Most KiB of larger answers that are not sent yet.
const UNSENT_KIB: usize = 128 << 10;

/// The threads of expensive reads, and the limits beside them.
#[derive(Debug)]
pub(in crate::http) struct Reads {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    places: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
    wait: Duration,
}

/// A read that ends with the request it belongs to.
struct Reading(JoinHandle<Reply>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The bytes of an answer and their share of what may be unsent, which is
/// given back when the last of them is sent.
struct Unsent {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Reads {
    /// Starts the threads.
    pub(in crate::http) fn new() -> io::Result<Self> {
        Self::with_wait(WAIT)
    }

    fn with_wait(wait: Duration) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(AT_ONCE).thread_name("dats-reads").enable_all();
        Ok(Self {
            runtime: Some(runtime.build()?),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            unsent: Arc::new(Semaphore::new(UNSENT_KIB)),
            wait,
        })
    }

    /// Runs a handler on one of the threads. Dropping the future ends it.
    pub(in crate::http) async fn run(&self, answer: impl Future<Output = Reply> + Send + 'static) -> Reply {
        let Some(runtime) = &self.runtime else { return Err(Problem::too_many_reads()) };
        let place = tokio::time::timeout(self.wait, self.places.clone().acquire_owned());
        let Ok(Ok(place)) = place.await else { return Err(Problem::too_many_reads()) };
        let (unsent, wait) = (self.unsent.clone(), self.wait);
        let mut reading = Reading(runtime.spawn(async move {
            // Held until the read has really ended, also when nobody waits for it any more.
            let _place = place;
            let response = engine::on_reading_thread(answer).await?;
            counted(response, unsent, wait).await
        }));
        (&mut reading.0).await.unwrap_or_else(|_| Err(Problem::internal()))
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Reads have ended with their connections.
            runtime.shutdown_background();
        }
    }
}

/// Takes a share of what may be unsent for a large answer.
async fn counted(response: Response<Body>, unsent: Arc<Semaphore>, wait: Duration) -> Reply {
    let (head, body) = response.into_parts();
    let bytes = match body {
        Body::Full(bytes) if bytes.len() > SMALL_BYTES => bytes,
        body => return Ok(Response::from_parts(head, body)),
    };
    // One answer that is larger than everything allowed takes all of it.
    let share = u32::try_from(bytes.len().div_ceil(1024).min(UNSENT_KIB)).unwrap_or(u32::MAX);
    let share = tokio::time::timeout(wait, unsent.acquire_many_owned(share)).await;
    let Ok(Ok(share)) = share else { return Err(Problem::too_many_reads()) };
    Ok(Response::from_parts(head, Body::full(Bytes::from_owner(Unsent { bytes, _share: share }))))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::*;
    use crate::http::reply;

    fn reads(wait: Duration) -> Arc<Reads> {
        Arc::new(Reads::with_wait(wait).unwrap())
    }

    #[tokio::test]
    async fn at_the_limit_the_wait_has_an_end() {
        let reads = reads(Duration::from_millis(20));
        let release = Arc::new(Semaphore::new(0));
        let held: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (reads, release) = (reads.clone(), release.clone());
                tokio::spawn(async move {
                    reads
                        .run(async move {
                            release.acquire().await.map(|_| reply::no_content()).map_err(|_| Problem::internal())
                        })
                        .await
                })
            })
            .collect();
        while reads.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = reads.run(async { Ok(reply::no_content()) }).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (503, "overloaded"));
        release.add_permits(AT_ONCE);
        for each in held {
            assert!(each.await.unwrap().is_ok());
        }
        assert!(reads.run(async { Ok(reply::no_content()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_large_answer_counts_until_it_is_sent() {
        let reads = reads(Duration::from_millis(20));
        let large = || async { Ok(reply::rendered(hyper::StatusCode::OK, vec![b'x'; UNSENT_KIB << 9])) };
        let (one, other) = (reads.run(large()).await.unwrap(), reads.run(large()).await.unwrap());
        assert_eq!(reads.run(large()).await.unwrap_err().code(), "overloaded");
        assert!(reads.run(async { Ok(reply::rendered(hyper::StatusCode::OK, vec![b'x'; SMALL_BYTES])) }).await.is_ok());
        let sent = one.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(sent.len(), UNSENT_KIB << 9);
        drop(sent);
        assert!(reads.run(large()).await.is_ok());
        drop(other);
    }

    #[tokio::test]
    async fn a_read_ends_with_its_request() {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let reads = reads(WAIT);
        let ended = Arc::new(AtomicBool::new(false));
        let guard = Dropped(ended.clone());
        let endless = async move {
            let _guard = guard;
            std::future::pending::<Reply>().await
        };
        assert!(tokio::time::timeout(Duration::from_millis(20), reads.run(endless)).await.is_err());
        drop(reads.places.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap());
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_leaves_its_place() {
        let reads = reads(WAIT);
        for _ in 0..=AT_ONCE {
            let panics = async { if reads_nothing() { Ok(reply::no_content()) } else { panic!("planted") } };
            assert_eq!(reads.run(panics).await.unwrap_err().code(), "internal");
        }
    }

    fn reads_nothing() -> bool {
        std::hint::black_box(false)
    }
}
