//! The pages of the book that are made from the program: its commands and its settings.
//!
//! `DATS_WRITE_DOCS=1 cargo test --test it docs::generated` writes them again.

use std::fmt::Write as _;
use std::process::Command;

use super::root;
use crate::support::process::BINARY;

/// Compares a page with the text that was made for it, or writes it.
fn check(page: &str, made: &str) {
    let path = root().join("docs").join(page);
    if std::env::var_os("DATS_WRITE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/{page} differs from the program; look at what changed and write it again: \
         DATS_WRITE_DOCS=1 cargo test --test it docs::generated"
    );
}

#[test]
fn the_command_line_page_is_that_of_the_program() {
    let mut page = "# Command line\n\n\
        This page is generated from the help texts of the program (`dats COMMAND --help`).\n\n\
        Tables are for people; with `--output json` a command prints the JSON of the server. \
        Exit codes are listed in [operation](operate.md#exit-codes).\n"
        .to_owned();
    describe(&mut page, &[]);
    check("command-line.md", &page);
}

/// Appends the help of a command and of its subcommands.
fn describe(page: &mut String, command: &[&str]) {
    let printed = Command::new(BINARY).args(command).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(printed.stdout).unwrap();
    // The global options stand once, with the program itself.
    let own = if command.is_empty() { help.as_str() } else { help.split("\nGlobal options:").next().unwrap() };
    let level = "#".repeat(2 + command.len().saturating_sub(1));
    let name = ["dats"].iter().chain(command).copied().collect::<Vec<_>>().join(" ");
    writeln!(page, "\n{level} `{name}`\n\n```text").unwrap();
    own.trim_end().lines().for_each(|line| writeln!(page, "{}", line.trim_end()).unwrap());
    page.push_str("```\n");
    for subcommand in subcommands(&help) {
        describe(page, &[command, &[subcommand.as_str()]].concat());
    }
}

/// The names under `Commands:` in a help text, without `help`.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        lines.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_configuration_page_is_that_of_the_default_file() {
    let defaults = std::fs::read_to_string(root().join("src/config/default.yaml")).unwrap();
    let mut page = "# Settings\n\n\
        This page is generated from `src/config/default.yaml`, which is compiled into the program and is the \
        only source of defaults. [Configuration](configuration.md) explains how to change them.\n"
        .to_owned();
    for section in sections(&defaults) {
        let name = section.lines().next().unwrap().trim_end_matches(':');
        write!(page, "\n## {name}\n\n```yaml\n{}\n```\n", section.trim_end()).unwrap();
    }
    check("settings.md", &page);
}

/// The top-level sections of the file, without the comment above the first.
fn sections(defaults: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in defaults.lines() {
        if line.starts_with(|first: char| first.is_ascii_lowercase()) {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}
