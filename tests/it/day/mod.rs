//! A day of work against the real binary: `dats bench --scenario day` finds nothing.
//!
//! It runs where `DATS_DAY_MINUTES` says how long, and is skipped elsewhere; `DATS_DAY_SEED` asks for
//! other days, `DATS_DAY_AROUND` for one of `nothing`, `rabbitmq` and `postgres` around the
//! service. Without it the commit decides, so that all of them have their turn.
//! `DATS_DAY_PROGRAM` names another `dats`, such as a release build.

mod planted;

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::process::BINARY;
use crate::support::random::{Random, from_environment};
use crate::support::{postgres, rabbitmq};

/// How long a day may take beyond its length: the drain, the looks and a loaded machine.
const BEYOND: Duration = Duration::from_mins(12);
const POLL: Duration = Duration::from_millis(50);

/// What is around the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    RabbitMq,
    Postgres,
}

impl Around {
    /// As the environment says, or by the commit.
    fn of_this_run() -> Self {
        match std::env::var("DATS_DAY_AROUND").as_deref() {
            Ok("nothing") => Self::Nothing,
            Ok("rabbitmq") => Self::RabbitMq,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("DATS_DAY_AROUND is nothing, rabbitmq or postgres, not {other:?}"),
            Err(_) => [Self::Nothing, Self::RabbitMq, Self::Postgres][usize::from(commit() % 3)],
        }
    }
}

/// A number that changes with the commit; zero where there is none.
fn commit() -> u8 {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// The bench as a child; killed when the test ends before it.
struct Day(Child);

impl Day {
    fn start(minutes: u64, seed: u64, more: &[String]) -> Self {
        let (minutes, seed) = (minutes.to_string(), seed.to_string());
        let program = std::env::var_os("DATS_DAY_PROGRAM").unwrap_or_else(|| BINARY.into());
        let mut command = Command::new(program);
        command
            .args(["bench", "--scenario", "day", "--output", "json", "--minutes", &minutes, "--seed", &seed])
            .args(more)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(["TMPDIR", "DATS_PLANTED"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end: its code and its report.
    fn report(&mut self, most: Duration) -> (Option<i32>, Value) {
        let mut stdout = self.0.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let mut left = most;
        while self.is_running() {
            assert!(!left.is_zero(), "the day did not come to its end");
            std::thread::sleep(POLL);
            left = left.saturating_sub(POLL);
        }
        let text = reader.join().unwrap().unwrap();
        let code = self.0.wait().unwrap().code();
        (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("no report, {error}: {text}")))
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            // The bench ends its server when it is asked to stop.
            let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
            let _ = self.0.wait();
        }
    }
}

fn holds(code: Option<i32>, report: &Value) {
    let readable = serde_json::to_string_pretty(report).unwrap();
    assert_eq!((code, &report["holds"]), (Some(0), &Value::Bool(true)), "{readable}");
    // A day in which nothing happens shows nothing.
    for what in ["tasks", "outputs", "kills"] {
        assert!(report[what].as_u64().unwrap() > 0, "{what}: {readable}");
    }
    println!("{readable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_work_has_no_findings() {
    if std::env::var_os("DATS_DAY_MINUTES").is_none() {
        println!("skipped: DATS_DAY_MINUTES does not say how long the day takes");
        return;
    }
    let minutes = from_environment("DATS_DAY_MINUTES", 2);
    let seed = from_environment("DATS_DAY_SEED", u64::from(commit()));
    let most = Duration::from_secs(60 * minutes) + BEYOND;
    match Around::of_this_run() {
        Around::RabbitMq if rabbitmq::is_installed("a_day_of_work_has_no_findings") => {
            let broker = rabbitmq::RabbitMq::start();
            let mut day = Day::start(minutes, seed, &["--broker".to_owned(), broker.address().to_string()]);
            let away = Away::new(seed, minutes);
            away.while_running(&mut day, |is_away| if is_away { broker.kill() } else { broker.run() });
            let (code, report) = day.report(most);
            holds(code, &report);
        }
        Around::Postgres => {
            let Some(database) = postgres::private_database().await else { return };
            let mut day = Day::start(minutes, seed, &["--database".to_owned(), database.url()]);
            let away = Away::new(seed, minutes);
            away.while_running(&mut day, |is_away| {
                if is_away {
                    database.server.stop(true);
                } else {
                    database.server.run();
                }
            });
            let (code, report) = day.report(most);
            holds(code, &report);
        }
        Around::Nothing | Around::RabbitMq => {
            let (code, report) = Day::start(minutes, seed, &[]).report(most);
            holds(code, &report);
        }
    }
}

/// When the other service is away: once in each half of the day.
struct Away(Vec<(Duration, Duration)>);

impl Away {
    fn new(seed: u64, minutes: u64) -> Self {
        let mut random = Random::new(seed);
        let half = 30 * minutes;
        let begin = |part: u64, random: &mut Random| part * half + random.below(half / 2 + 1);
        let times = (0..2).map(|part| {
            let begin = Duration::from_secs(begin(part, &mut random));
            (begin, begin + Duration::from_secs(3 + random.below(12)))
        });
        Self(times.collect())
    }

    /// Says when it goes and when it comes back; at the end it is there.
    fn while_running(&self, day: &mut Day, mut set_away: impl FnMut(bool)) {
        let mut passed = Duration::ZERO;
        for (begin, end) in &self.0 {
            for (time, is_away) in [(begin, true), (end, false)] {
                while passed < *time && day.is_running() {
                    std::thread::sleep(POLL);
                    passed += POLL;
                }
                set_away(is_away);
            }
        }
    }
}
