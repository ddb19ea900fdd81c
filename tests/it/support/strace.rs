//! Faults at exact system calls of the real binary, by strace.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::process::Setup;

/// Runs a server whose system calls fail as `injected` says.
pub(crate) fn faulty(setup: &Setup, injected: &str) -> Setup {
    faulty_with(setup, injected, &[])
}

/// As [`faulty`], of the calls for one file of the data directory.
pub(crate) fn faulty_at(setup: &Setup, file: &str, injected: &str) -> Setup {
    faulty_with(setup, injected, &["-P", setup.data_dir().join(file).to_str().unwrap()])
}

fn faulty_with(setup: &Setup, injected: &str, more: &[&str]) -> Setup {
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
    setup.clone().under(&[&wrapper[..], more].concat())
}

/// Makes system calls of a running process fail until it is dropped.
pub(crate) struct Attached(Child);

impl Attached {
    /// Returns once the process, which has this id, is traced.
    pub(crate) fn to(id: &str, injected: &str) -> Self {
        let calls = injected.split_once(':').unwrap().0;
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-p", id]);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={injected}")]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("attached"), "{line}");
        // It would end if nobody read what it goes on to say.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
