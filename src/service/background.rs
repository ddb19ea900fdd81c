//! Threads for what runs behind the answers: the side of the broker, the copy
//! and traces. On the runtime that answers requests each wave and each transaction
//! would hold up those that come meanwhile, by as long as it takes to make it.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// By how much the system prefers others. It is no wall: some of the time is
/// left to the background even when there is not enough for all.
const NICE: i32 = 10;

/// The threads.
#[derive(Debug)]
pub(super) struct Background(Option<Runtime>);

impl Background {
    /// Starts them.
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("background").on_thread_start(step_back).enable_all();
        Ok(Self(Some(runtime.build()?)))
    }

    /// For what runs something there by itself.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Runs something there.
    pub(super) fn spawn(&self, doing: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(doing))
    }
}

impl Drop for Background {
    /// Does not wait: what had to be waited for has ended.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A priority is one of a thread here. Without it everything works as well.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the background keeps its priority");
    }
}
