//! Ctrl-C and SIGTERM.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::Failure;

/// Exit code after a second signal: 128 + SIGINT.
const EXIT_CODE: i32 = 130;

/// Runs a command. Ctrl-C drops its future.
pub(super) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    block_on_value(command)
}

/// As [`block_on`], for a command with a result.
pub(super) fn block_on_value<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command => result,
            () = wait_for_signal() => Err(Failure::Interrupted),
        }
    });
    // Does not wait for a thread that may be blocked in a read from stdin.
    runtime.shutdown_background();
    result
}

/// Converts the error of a runtime that can't start.
#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn no_runtime(error: std::io::Error) -> Failure {
    Failure::Failed(format!("can't start the runtime: {error}"))
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn wait_for_signal() {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    } else {
        // Without handlers, the signals end the process by default.
        std::future::pending::<()>().await;
    }
}

/// Returns a token that the first signal cancels. The second signal ends the process.
pub(super) fn stop_token() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        stop.cancel();
        wait_for_signal().await;
        std::process::exit(EXIT_CODE);
    });
    token
}
