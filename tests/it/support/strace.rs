//! Faults at exact system calls of the real binary, by strace.

use std::process::{Command, Stdio};

use super::process::Setup;

/// Runs a server whose system calls fail as `injected` says.
pub(crate) fn faulty(setup: &Setup, injected: &str) -> Setup {
    let calls = injected.split_once(':').unwrap().0;
    let log = setup.beside("strace");
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &format!("trace={calls}"),
        "-e",
        &format!("inject={injected}"),
    ];
    setup.clone().under(&wrapper)
}

/// Whether strace is there and may trace; says so where it is not.
pub(crate) fn works() -> bool {
    // Some containers have it and forbid tracing.
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: strace is missing or may not trace");
    }
    works
}
