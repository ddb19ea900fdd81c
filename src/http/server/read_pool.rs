//! The threads that read and render lists, trees, exports and histories, so that
//! neither a large page nor a slow disk delays the threads that serve connections.
//!
//! The answers that are rendered and not sent yet have a limit in bytes: a client
//! that does not read its answer holds only that answer.

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

/// Threads, and so reads at the same time.
const THREADS: usize = 4;
/// Longest wait for a thread; then the client is told to retry.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Answers up to this size, in bytes, are not counted: they cost no more than their
/// request.
const SMALL_BYTES: usize = 64 << 10;
/// Larger answers that are not sent yet, in KiB.
const MAX_UNSENT_KIB: usize = 128 << 10;

/// The threads of expensive reads, and their limits.
#[derive(Debug)]
pub(in crate::http) struct ReadPool {
    /// `None` only during the drop.
    runtime: Option<Runtime>,
    slots: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
    max_wait: Duration,
}

/// A running read. Dropping it, with its request, aborts the read.
struct RunningRead(JoinHandle<Reply>);

impl Drop for RunningRead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer with its share of the memory for unsent answers, which is released when
/// its last byte is sent.
struct UnsentAnswer {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for UnsentAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ReadPool {
    /// Starts the threads.
    pub(in crate::http) fn new() -> io::Result<Self> {
        Self::with_max_wait(MAX_WAIT)
    }

    fn with_max_wait(wait: Duration) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("dats-reads").enable_all();
        Ok(Self {
            runtime: Some(runtime.build()?),
            slots: Arc::new(Semaphore::new(THREADS)),
            unsent: Arc::new(Semaphore::new(MAX_UNSENT_KIB)),
            max_wait: wait,
        })
    }

    /// Runs a handler on one of the threads. Dropping the future aborts it.
    pub(in crate::http) async fn run(&self, answer: impl Future<Output = Reply> + Send + 'static) -> Reply {
        let Some(runtime) = &self.runtime else { return Err(Problem::too_many_reads()) };
        let slot = tokio::time::timeout(self.max_wait, self.slots.clone().acquire_owned());
        let Ok(Ok(slot)) = slot.await else { return Err(Problem::too_many_reads()) };
        let (unsent, wait) = (self.unsent.clone(), self.max_wait);
        let mut running = RunningRead(runtime.spawn(async move {
            // Held until the read has ended, even if the client has disconnected.
            let _slot = slot;
            let response = engine::on_reading_thread(answer).await?;
            reserve_memory(response, unsent, wait).await
        }));
        (&mut running.0).await.unwrap_or_else(|_| Err(Problem::internal()))
    }
}

impl Drop for ReadPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // All reads have ended with their connections.
            runtime.shutdown_background();
        }
    }
}

/// Takes a share of the memory for unsent answers, if the answer is large.
async fn reserve_memory(response: Response<Body>, unsent: Arc<Semaphore>, wait: Duration) -> Reply {
    let (head, body) = response.into_parts();
    let bytes = match body {
        Body::Full(bytes) if bytes.len() > SMALL_BYTES => bytes,
        body => return Ok(Response::from_parts(head, body)),
    };
    // An answer that is larger than the whole memory takes all of it.
    let share = u32::try_from(bytes.len().div_ceil(1024).min(MAX_UNSENT_KIB)).unwrap_or(u32::MAX);
    let share = tokio::time::timeout(wait, unsent.acquire_many_owned(share)).await;
    let Ok(Ok(share)) = share else { return Err(Problem::too_many_reads()) };
    Ok(Response::from_parts(head, Body::full(Bytes::from_owner(UnsentAnswer { bytes, _share: share }))))
}

/// Waits for the answer to a search of the provenance. After `limit` it returns a
/// problem, and drops `answer`, which stops the search.
pub(in crate::http) async fn with_walk_timeout(limit: Duration, answer: impl Future<Output = Reply>) -> Reply {
    let late = |_| Err(Problem::walk_timeout(limit));
    tokio::time::timeout(limit, answer).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::*;
    use crate::http::server::reply;

    fn reads(wait: Duration) -> Arc<ReadPool> {
        Arc::new(ReadPool::with_max_wait(wait).unwrap())
    }

    #[tokio::test]
    async fn waiting_for_a_thread_ends() {
        let reads = reads(Duration::from_millis(20));
        let release = Arc::new(Semaphore::new(0));
        let held: Vec<_> = (0..THREADS)
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
        while reads.slots.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = reads.run(async { Ok(reply::no_content()) }).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (503, "overloaded"));
        release.add_permits(THREADS);
        for each in held {
            assert!(each.await.unwrap().is_ok());
        }
        assert!(reads.run(async { Ok(reply::no_content()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_large_answer_holds_memory_until_it_is_sent() {
        let reads = reads(Duration::from_millis(20));
        let large = || async { Ok(reply::rendered(hyper::StatusCode::OK, vec![b'x'; MAX_UNSENT_KIB << 9])) };
        let (one, other) = (reads.run(large()).await.unwrap(), reads.run(large()).await.unwrap());
        assert_eq!(reads.run(large()).await.unwrap_err().code(), "overloaded");
        assert!(reads.run(async { Ok(reply::rendered(hyper::StatusCode::OK, vec![b'x'; SMALL_BYTES])) }).await.is_ok());
        let sent = one.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(sent.len(), MAX_UNSENT_KIB << 9);
        drop(sent);
        assert!(reads.run(large()).await.is_ok());
        drop(other);
    }

    #[tokio::test]
    async fn dropping_the_request_aborts_the_read() {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let reads = reads(MAX_WAIT);
        let ended = Arc::new(AtomicBool::new(false));
        let guard = Dropped(ended.clone());
        let endless = async move {
            let _guard = guard;
            std::future::pending::<Reply>().await
        };
        assert!(tokio::time::timeout(Duration::from_millis(20), reads.run(endless)).await.is_err());
        drop(reads.slots.acquire_many(u32::try_from(THREADS).unwrap()).await.unwrap());
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_releases_the_thread() {
        let reads = reads(MAX_WAIT);
        for _ in 0..=THREADS {
            let panics = async { if is_false() { Ok(reply::no_content()) } else { panic!("planted") } };
            assert_eq!(reads.run(panics).await.unwrap_err().code(), "internal");
        }
    }

    fn is_false() -> bool {
        std::hint::black_box(false)
    }
}
