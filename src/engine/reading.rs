//! Threads that are there to read: on them a read of the store blocks its
//! thread instead of going to another one.

tokio::task_local! {
    static ON_READING_THREAD: ();
}

/// Runs `work` on a thread that its reads may block. Call it only where a
/// blocked thread holds up nothing but other reads.
pub async fn on_reading_thread<T>(work: impl Future<Output = T>) -> T {
    ON_READING_THREAD.scope((), work).await
}

/// Whether the code that runs may block its thread.
pub(super) fn may_block() -> bool {
    ON_READING_THREAD.try_with(|()| ()).is_ok()
}
