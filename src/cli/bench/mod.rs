//! `dats bench`: measures the success criteria, or runs a day of work.

mod criteria;
mod day;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::{Failure, warn};
use super::output::{Format, Screen};
use super::signals;
use crate::client::Client;
use crate::config::Secret;
use crate::planted;
use crate::workload::criteria::{Bench, Options};
use crate::workload::day::{self as workload_day, broker_environment};
use crate::workload::load::Pace;
use crate::workload::{Console, PrivateServer, Program, Target};

/// Fewest and most records that can be requested.
const RECORDS: std::ops::RangeInclusive<u64> = 10..=1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "Without --url and DATS_URL, the bench starts a private server with the built-in settings and \
    a temporary data directory, and removes both at the end. The exit code is 1 if a criterion is missed.\n\n\
    Examples:\n  dats bench --seconds 30\n  dats bench --scenario day --minutes 5 --seed 7")]
pub(super) struct Arguments {
    /// Length of the load, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Most submissions under way at once, and as many status queries.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Submissions a second, and as many status queries.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Records to import and query, or 0. If not given, 100000 on a private server and 0 on a
    /// running one, from which they can't be removed.
    #[arg(long, value_parser = records)]
    records: Option<u64>,
    /// What to run: the success criteria, or a day of mixed work.
    #[arg(long, value_enum, default_value = "criteria")]
    scenario: Scenario,
    /// Seed of the day: the same seed gives the same work.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the day, in minutes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Longest time for an answer during the day, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
    /// How often a private server is killed with SIGKILL and restarted during the day; if not
    /// given, twice a minute.
    #[arg(long)]
    kills: Option<u64>,
    /// Program of the private server, such as an earlier version; if not given, this one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Broker (`RabbitMQ`, user guest) of the private server and of the workers of the day.
    #[arg(long, value_name = "IP:PORT")]
    broker: Option<SocketAddr>,
    /// Postgres database to which the private server replicates.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The success criteria.
    Criteria,
    /// A day of mixed work, checked against a ledger outside of the service.
    Day,
}

impl Arguments {
    fn program(&self) -> Program {
        // The server gets a planted fault, too.
        let mut environment: Vec<(&'static str, String)> = planted::environment().into_iter().collect();
        environment.extend(self.broker.map(broker_environment).unwrap_or_default());
        environment.extend(self.database.clone().map(|url| ("DATABASE_URL", url)));
        Program { path: self.program.clone(), environment }
    }

    fn day_settings(&self) -> workload_day::Settings {
        workload_day::Settings {
            broker: self.broker,
            seed: self.seed,
            minutes: self.minutes,
            kills: self.kills.unwrap_or(2 * self.minutes),
            patience: Duration::from_secs(self.patience),
        }
    }

    fn criteria_options(&self, screen: &Screen) -> Options {
        Options {
            pace: Pace {
                per_second: self.rate,
                duration: Duration::from_secs(self.seconds),
                connections: self.connections,
            },
            records: self.records,
            shows_progress: screen.format == Format::Table,
        }
    }
}

fn records(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count == 0 || RECORDS.contains(count));
    count.ok_or_else(|| format!("expected 0, or a number from {} to {}", RECORDS.start(), RECORDS.end()))
}

pub(super) fn run(
    arguments: &Arguments,
    url: Option<&str>,
    api_key: Option<&Secret>,
    screen: &Screen,
) -> Result<(), Failure> {
    let console = Console { warn, ..Console::SILENT };
    // A private server is ended when the future is dropped, which Ctrl-C does.
    signals::block_on(async {
        let target = match url {
            Some(url) => {
                let client = Client::new(url, api_key.map(Secret::expose)).map_err(Failure::Usage)?;
                Target::Running { url: url.to_owned(), client }
            }
            None => Target::Private(PrivateServer::start(arguments.program()).await?),
        };
        match arguments.scenario {
            Scenario::Day => {
                day::conclude(&workload_day::run(arguments.day_settings(), target, console).await?, screen)
            }
            Scenario::Criteria => {
                let report = Bench::new(target, arguments.criteria_options(screen), console).run().await?;
                criteria::conclude(&report, screen)
            }
        }
    })
}
