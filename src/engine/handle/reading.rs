//! Threads that are reserved for reads: there a read of the store blocks its thread
//! instead of moving to another one.

tokio::task_local! {
    static ON_READING_THREAD: ();
}

/// Runs `work` on a thread that its reads may block. Only for threads on which a
/// blocked read delays nothing but other reads.
pub async fn on_reading_thread<T>(work: impl Future<Output = T>) -> T {
    ON_READING_THREAD.scope((), work).await
}

/// Returns whether the current task may block its thread.
pub(super) fn may_block() -> bool {
    ON_READING_THREAD.try_with(|()| ()).is_ok()
}
