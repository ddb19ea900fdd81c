//! Threads for work in the background: the broker, the copy and traces. On the runtime that
//! answers requests, each batch of messages and each transaction would delay the requests
//! that arrive meanwhile.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Priority of the threads. Even on a busy machine the system gives them some of the time.
const NICE: i32 = 10;

/// The runtime of the background threads.
#[derive(Debug)]
pub(super) struct Background(Option<Runtime>);

impl Background {
    /// Starts the threads.
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("background").on_thread_start(lower_priority).enable_all();
        Ok(Self(Some(runtime.build()?)))
    }

    /// Returns the handle of the runtime; `None` once it is shut down.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Spawns a task on the background threads.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(task))
    }
}

impl Drop for Background {
    /// Does not wait, because the tasks that matter have been joined.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of this thread. A failure has no other effect.
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the priority of a background thread was not lowered");
    }
}
