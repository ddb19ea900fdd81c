//! Runs every console example of README and `docs/` against the program.
//!
//! The commands of a page run in the order of the page, in one shell and one directory.
//! Comments above a block say what a reader sees without them:
//!
//! | `<!-- test: ... -->` | meaning |
//! |---|---|
//! | `server` | a server with the default settings runs from here on |
//! | `stop` | all servers and programs in the background are stopped before |
//! | `new` | as `stop`, with a new directory |
//! | `file NAME` | the block is the content of this file |
//! | `exit CODE` | the last command ends with this code |
//! | `skip, REASON` | the block cannot run in a test |
//!
//! `DATS_DOCS_PAGE` runs the pages whose path contains its value only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::expected::Ids;
use super::markdown::{self, Block};
use super::session::Session;
use super::{name, pages};

/// Pages that run at once.
const AT_ONCE: usize = 3;

/// What the examples of a page came to.
#[derive(Default)]
struct Report {
    ran: usize,
    /// How many blocks were skipped, by reason.
    skipped: BTreeMap<String, usize>,
    faults: Vec<String>,
}

/// A command of a block, and the output that the page shows for it.
struct Example {
    command: String,
    shown: String,
}

#[test]
fn every_console_example_does_what_it_shows() {
    let chosen = std::env::var("DATS_DOCS_PAGE").unwrap_or_default();
    let pages: Vec<PathBuf> = pages().into_iter().filter(|page| name(page).contains(&chosen)).collect();
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run_page(page);
                    let mut total = total.lock().unwrap();
                    total.ran += report.ran;
                    report.skipped.into_iter().for_each(|(why, count)| *total.skipped.entry(why).or_default() += count);
                    total.faults.extend(report.faults);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{} commands ran; {} blocks were skipped:", total.ran, total.skipped.values().sum::<usize>());
    total.skipped.iter().for_each(|(why, count)| println!("  {count}: {why}"));
    assert!(total.faults.is_empty(), "{}", total.faults.join("\n"));
    assert!(total.ran > 0, "no command ran");
}

fn run_page(page: &Path) -> Report {
    let text = std::fs::read_to_string(page).unwrap();
    let mut report = Report::default();
    let mut session: Option<Session> = None;
    let mut ids = Ids::default();
    for block in markdown::blocks(&text) {
        let is_file = block.directives.iter().any(|directive| directive.starts_with("file "));
        if block.language != "console" && !is_file {
            continue;
        }
        if let Some(reason) = block.directives.iter().find_map(|directive| directive.strip_prefix("skip, ")) {
            *report.skipped.entry(reason.to_owned()).or_default() += 1;
            continue;
        }
        let place = format!("{}:{}", name(page), block.line);
        if block.directives.iter().any(|directive| directive == "new") {
            (session, ids) = (None, Ids::default());
        }
        let session = session.get_or_insert_with(Session::start);
        if let Err(fault) = run_block(&block, session, &mut ids, &mut report.ran) {
            report.faults.push(format!("{place}: {fault}"));
            break;
        }
    }
    report
}

fn run_block(block: &Block, session: &mut Session, ids: &mut Ids, ran: &mut usize) -> Result<(), String> {
    let mut code = 0;
    for directive in &block.directives {
        match directive.split_once(' ') {
            None if directive == "new" => {}
            None if directive == "stop" => session.stop_jobs(),
            None if directive == "server" => run_example(&Example::server(), 0, session, ids)?,
            Some(("file", name)) => {
                let text = session.resolve(&block.text);
                session.write(name, &ids.resolve(&text));
                return Ok(());
            }
            Some(("exit", number)) => code = number.parse().map_err(|_| format!("exit {number} is no code"))?,
            _ => return Err(format!("there is no test comment {directive:?}")),
        }
    }
    let examples = examples(&block.text)?;
    for (index, example) in examples.iter().enumerate() {
        let code = if index + 1 == examples.len() { code } else { 0 };
        run_example(example, code, session, ids)?;
        *ran += 1;
    }
    Ok(())
}

fn run_example(example: &Example, code: i32, session: &mut Session, ids: &mut Ids) -> Result<(), String> {
    let mut command = ids.resolve(&session.resolve(&example.command));
    if example.is_server() {
        command = format!("{} 2>>../server-log &", command.trim_end().trim_end_matches('&'));
    }
    let shown = session.resolve(&example.shown);
    let mut matches = shown.trim().is_empty();
    let result = session.run(&command, |output| {
        matches = matches || ids.matches(&shown, output);
        matches
    });
    let mut fault = String::new();
    if !matches {
        write!(fault, "`{}` printed\n{}\nbut the page shows\n{shown}", example.command, result.output).unwrap();
    } else if result.code != code {
        write!(fault, "`{}` ended with {}, not {code}:\n{}", example.command, result.code, result.output).unwrap();
    }
    if fault.is_empty() { Ok(()) } else { Err(fault) }
}

impl Example {
    fn server() -> Self {
        Self { command: "dats serve".to_owned(), shown: "dats listening on http://127.0.0.1:8000".to_owned() }
    }

    /// Whether the command is a server, which does not end by itself.
    fn is_server(&self) -> bool {
        let mut words = self.command.split_whitespace().skip_while(|word| word.contains('=') && !word.starts_with('-'));
        words.next() == Some("dats") && words.next() == Some("serve") && !self.command.contains("--help")
    }
}

/// Splits a block into its commands, which begin with `$ `, and their output.
fn examples(block: &str) -> Result<Vec<Example>, String> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_open = false;
    for line in block.lines() {
        if is_open {
            let example = examples.last_mut().unwrap();
            example.command.push_str(line);
            example.command.push('\n');
        } else if let Some(command) = line.strip_prefix("$ ") {
            examples.push(Example { command: format!("{command}\n"), shown: String::new() });
        } else {
            let example = examples.last_mut().ok_or("the block does not begin with a command")?;
            example.shown.push_str(line);
            example.shown.push('\n');
            continue;
        }
        is_open = is_incomplete(&examples.last().unwrap().command);
    }
    if is_open { Err("a command is not complete".to_owned()) } else { Ok(examples) }
}

/// Whether a command goes on in the next line: a quote is open, or the line ends with `\`.
fn is_incomplete(command: &str) -> bool {
    let mut quote = None;
    let mut chars = command.trim_end_matches('\n').chars();
    while let Some(char) = chars.next() {
        match (char, quote) {
            ('\\', None | Some('"')) if chars.next().is_none() => return true,
            ('\\', None | Some('"')) => {}
            ('\'' | '"', None) => quote = Some(char),
            ('#', None) if command.contains(" #") => break,
            (_, Some(open)) if char == open => quote = None,
            _ => {}
        }
    }
    quote.is_some()
}

#[test]
fn commands_and_their_output_are_told_apart() {
    let found = examples("$ curl x \\\n  -d '{\"a\":\n 1}'\n{}\n$ true # it's\n").unwrap();
    assert_eq!(found[0].command, "curl x \\\n  -d '{\"a\":\n 1}'\n");
    assert_eq!((found[0].shown.as_str(), found[1].shown.as_str()), ("{}\n", ""));
    assert!(examples("nothing\n").is_err() && examples("$ echo 'a\n").is_err());
}
