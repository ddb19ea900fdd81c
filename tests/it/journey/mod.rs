//! The command line end to end: what people and scripts do with the binary,
//! and how it ends.

mod backup;
mod bench;
mod service;
mod tasks;

use serde_json::Value;

use crate::support::process::{Ran, Server, run};

/// A command that must succeed; what it printed.
fn done(server: &Server, arguments: &[&str]) -> String {
    let Ran { code, stdout, stderr } = run(&server.address, &[], arguments);
    assert_eq!(code, 0, "dats {arguments:?}: {stdout}{stderr}");
    stdout
}

/// The same as JSON.
fn json(server: &Server, arguments: &[&str]) -> Value {
    let text = done(server, &[&["--output", "json"], arguments].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("dats {arguments:?} prints no JSON, {error}: {text}"))
}

/// A command that must fail with this code; what it complained about.
fn fails(server: &str, code: i32, arguments: &[&str]) -> String {
    let ran = run(server, &[], arguments);
    assert_eq!(ran.code, code, "dats {arguments:?}: {}{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "dats {arguments:?}: {}", ran.stderr);
    ran.stderr
}
