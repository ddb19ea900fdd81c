//! The `dats` command line: one file for each command.
//!
//! Commands about tasks use a running server through its HTTP API, like any other client.
//! Exit codes: 0 success, 1 the task or check failed or the request was refused, 2 wrong
//! usage or settings, 3 the server is unreachable, 4 the store failed.

mod args;
mod asyncapi;
mod backup;
mod bench;
mod cancel;
mod checkpoint;
mod completions;
mod config;
mod dead_letters;
mod demo;
mod events;
mod exit;
mod export;
mod follow;
mod import;
#[cfg(test)]
mod import_tests;
mod list;
mod local;
mod openapi;
mod output;
mod progress;
mod project;
mod provenance;
mod prune;
mod queues;
mod rerun;
mod restore;
mod rollback;
mod serve;
mod session;
mod signals;
mod simulate;
mod status;
mod submit;
mod taint;
mod tree;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::client::Client;
use crate::config::Secret;
use exit::Failure;
use output::{Output, Screen};
use session::Session;

/// Address of the server if none is given.
const DEFAULT_URL: &str = "http://127.0.0.1:8000";

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn run() -> ExitCode {
    exit::report(execute(Cli::parse()))
}

/// The DATS orchestration service and its command line.
#[derive(Debug, Parser)]
#[command(name = "dats", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Address of the server; if not given, `http://127.0.0.1:8000`, except for `bench`, which
    /// then starts a private server.
    #[arg(long, env = "DATS_URL", global = true)]
    url: Option<String>,
    /// API key of the server.
    #[arg(long, env = "DATS_API_KEY", hide_env_values = true, global = true)]
    api_key: Option<Secret>,
    /// Form of the output: tables for people, or the server's JSON for programs.
    #[arg(long, short, value_enum, default_value = "table", global = true)]
    output: Output,
}

impl Global {
    /// Returns the key, if it is not empty.
    fn api_key(&self) -> Option<&Secret> {
        self.api_key.as_ref().filter(|key| !key.expose().is_empty())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(serve::Arguments),
    #[command(flatten)]
    Remote(Box<Remote>),
    /// Show or check the settings.
    #[command(subcommand)]
    Config(config::Action),
    /// Remove finished tasks from the data directory of a stopped service.
    Prune(prune::Arguments),
    /// Check every page of a stopped service's store against its checksum, and compare the copy
    /// in the configured database row by row.
    Verify(verify::Arguments),
    /// Copy the data directory of a stopped service, and check the copy.
    Backup(backup::Arguments),
    /// Create a data directory from a backup, or from the copy in the configured database.
    Restore(restore::Arguments),
    /// Run a server with stand-ins for the services around it, and show a few tasks.
    Demo(demo::Arguments),
    /// Measure the success criteria on a private server or a running one.
    Bench(bench::Arguments),
    /// Print the `OpenAPI` description of the HTTP interface as JSON.
    #[command(after_help = "Example:\n  dats openapi > openapi.json")]
    Openapi,
    /// Print the `AsyncAPI` description of the messages on the broker as JSON.
    #[command(after_help = "Example:\n  dats asyncapi > asyncapi.json")]
    Asyncapi,
    /// Print the completion script of a shell.
    Completions(completions::Arguments),
}

/// Commands that use a server.
#[derive(Debug, Subcommand)]
enum Remote {
    /// Submit a task.
    Submit(submit::Arguments),
    /// Show a task, or the tree of its subtasks.
    Status(status::Arguments),
    /// List tasks, newest first.
    List(list::Arguments),
    /// Cancel an open task.
    Cancel(cancel::Arguments),
    /// Submit a finished task again.
    Rerun(rerun::Arguments),
    /// Follow a task to its end.
    Watch(watch::Arguments),
    /// Manage projects.
    #[command(subcommand)]
    Project(project::Action),
    /// Show the work queue of each tier, or pause a tier.
    Queues(queues::Arguments),
    /// Show or follow the event log.
    Events(events::Arguments),
    /// Show, requeue or discard events that could not be applied.
    #[command(subcommand)]
    DeadLetters(dead_letters::Action),
    /// Show the dependencies and dependents of results.
    #[command(subcommand)]
    Provenance(provenance::Action),
    /// Mark a record as tainted; its dependents become suspect.
    Taint(taint::Arguments),
    /// Mark a record as suspect.
    Suspect(taint::Arguments),
    /// Clear the flags of a record, or undo a whole cascade.
    Clear(taint::ClearArguments),
    /// Import the provenance files of the old program.
    Import(import::Arguments),
    /// Export provenance as files of the old program.
    Export(export::Arguments),
    /// Create or show points in time to which a project can be rolled back.
    #[command(subcommand)]
    Checkpoint(checkpoint::Action),
    /// Roll a project back: records created after a checkpoint are tainted.
    Rollback(rollback::Arguments),
    /// Run stand-ins for the services around a server, for demos and load.
    #[command(subcommand)]
    Simulate(simulate::Action),
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let screen = Screen::of_stdout(cli.global.output.format());
    let command = if cli.global.output == Output::Dot { as_graph(cli.command)? } else { cli.command };
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Remote(command) => {
            let url = cli.global.url.as_deref().unwrap_or(DEFAULT_URL);
            let client = Client::new(url, cli.global.api_key().map(Secret::expose));
            let session = Session { client: client.map_err(Failure::Usage)?, screen };
            signals::block_on(run_remote(&session, *command))
        }
        Command::Config(action) => config::run(&action, &screen),
        Command::Prune(arguments) => prune::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments, &screen),
        Command::Bench(arguments) => bench::run(&arguments, cli.global.url.as_deref(), cli.global.api_key(), &screen),
        Command::Openapi => openapi::run(),
        Command::Asyncapi => asyncapi::run(),
        Command::Completions(arguments) => completions::run(&arguments, &mut Cli::command()),
    }
}

/// Converts a provenance command to the one that prints the same as a graph.
fn as_graph(command: Command) -> Result<Command, Failure> {
    if let Command::Remote(remote) = command
        && let Remote::Provenance(action) = *remote
        && let Some(action) = action.into_graph()
    {
        return Ok(Command::Remote(Box::new(Remote::Provenance(action))));
    }
    let commands = "provenance show, dependents, dependencies and export";
    Err(Failure::Usage(format!("--output dot can only be used with {commands}: use table or json")))
}

async fn run_remote(session: &Session, command: Remote) -> Result<(), Failure> {
    match command {
        Remote::Submit(arguments) => submit::run(session, &arguments).await,
        Remote::Status(arguments) => status::run(session, &arguments).await,
        Remote::List(arguments) => list::run(session, &arguments).await,
        Remote::Cancel(arguments) => cancel::run(session, &arguments).await,
        Remote::Rerun(arguments) => rerun::run(session, &arguments).await,
        Remote::Watch(arguments) => watch::run(session, &arguments).await,
        Remote::Project(action) => project::run(session, &action).await,
        Remote::Queues(arguments) => queues::run(session, &arguments).await,
        Remote::Events(arguments) => events::run(session, &arguments).await,
        Remote::DeadLetters(action) => dead_letters::run(session, &action).await,
        Remote::Provenance(action) => provenance::run(session, &action).await,
        Remote::Taint(arguments) => taint::run(session, "taint", &arguments).await,
        Remote::Suspect(arguments) => taint::run(session, "suspect", &arguments).await,
        Remote::Clear(arguments) => taint::clear(session, arguments).await,
        Remote::Import(arguments) => import::run(session, &arguments).await,
        Remote::Export(arguments) => export::run(session, &arguments).await,
        Remote::Checkpoint(action) => checkpoint::run(session, &action).await,
        Remote::Rollback(arguments) => rollback::run(session, &arguments).await,
        Remote::Simulate(action) => simulate::run(session, action).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_after_the_command() {
        let cli = Cli::try_parse_from(["dats", "list", "--output", "json", "--url", "http://x:1"]).unwrap();
        assert_eq!(cli.global.output, Output::Json);
        assert_eq!(cli.global.url.as_deref(), Some("http://x:1"));
    }

    #[test]
    fn debug_output_does_not_show_the_key() {
        let cli = Cli::try_parse_from(["dats", "--api-key", "hunter2", "queues"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }

    #[test]
    fn graphs_are_printed_for_provenance_commands() {
        let is_graph = |line: &str| as_graph(Cli::try_parse_from(line.split(' ')).unwrap().command).is_ok();
        for what in ["show a", "dependents a", "dependencies a --direct", "export a --format prov"] {
            assert!(is_graph(&format!("dats provenance {what} --output dot")), "{what}");
        }
        assert!(
            !is_graph("dats provenance list -o dot") && !is_graph("dats list -o dot") && !is_graph("dats serve -o dot")
        );
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "dats",
            "dats submit",
            "dats submit x --priority urgent",
            "dats submit x --metadata [1]",
            "dats submit x --timeout soon",
            "dats simulate worker --failure-rate 2",
            "dats list --limit 0",
            "dats list --all --cursor x",
            "dats rollback c-1",
            "dats checkpoint show",
            "dats bench --seconds 0",
            "dats bench --rate 0",
            "dats bench --connections 0",
            "dats bench --records 5",
            "dats nonsense",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
