//! `dats completions`: prints completion scripts for shells.

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Failure;
use super::output::line;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats completions bash > /etc/bash_completion.d/dats")]
pub(super) struct Arguments {
    /// Shell for which to print the script.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, command: &mut Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "dats", &mut script);
    line(String::from_utf8_lossy(&script).trim_end())
}
