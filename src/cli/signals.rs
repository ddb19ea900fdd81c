//! Ctrl-C and SIGTERM.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::Failure;

/// Exit code of a process that a second signal stopped: 128 + SIGINT.
const STOPPED_BY_SIGNAL: i32 = 130;

/// Runs a command that talks to a server; Ctrl-C drops it where it stands.
pub(super) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    block_on_value(command)
}

/// The same for one that gives something.
pub(super) fn block_on_value<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command => result,
            () = stop_asked() => Err(Failure::Interrupted),
        }
    });
    // A read from stdin may still block a thread.
    runtime.shutdown_background();
    result
}

/// What a runtime that can't start is reported as.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(super) fn no_runtime(error: std::io::Error) -> Failure {
    Failure::Failed(format!("can't start the runtime: {error}"))
}

/// Ends with the first Ctrl-C or SIGTERM.
pub(super) async fn stop_asked() {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    } else {
        // Without handlers the signals end the process, as they do by default.
        std::future::pending::<()>().await;
    }
}

/// A token that the first signal cancels; the second one ends the process.
pub(super) fn stop_token() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        stop_asked().await;
        stop.cancel();
        stop_asked().await;
        std::process::exit(STOPPED_BY_SIGNAL);
    });
    token
}
