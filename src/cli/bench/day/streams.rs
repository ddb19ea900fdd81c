//! Those that follow: streams of a task, of a project and of the whole log; some are
//! slow, some never read, some break off and come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::ACCEPT;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::ledger::End;
use super::world::{Reply, World};
use crate::cli::client::{Call, EventStream, segment, with_query};
use crate::cli::sse::SseEvent;
use crate::workload::Random;

/// How often a stream that is silent looks at the ledger.
const GLANCE: Duration = Duration::from_millis(500);
/// Glances without an event after which the stream of a task asks for its state.
const LOOK: u32 = 4;
/// How long a stream that never reads stays open.
const NEVER_READ: Duration = Duration::from_secs(20);
/// Pause before a lost stream is opened again.
const RESUME: Duration = Duration::from_millis(300);
/// Names of events that are small.
const SMALL: &str = "task.created,task.ready,task.cancelled,task.finished";
/// Entries on a page of the log.
const PAGE: u64 = 1000;

/// What a stream of the log has told.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    /// The parameters of its filter.
    query: Vec<(&'static str, Option<String>)>,
    /// The position that it began behind.
    after: u64,
    /// The positions that it told, in order.
    told: Vec<u64>,
}

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The stream of one task after another, each to its end.
    Task,
    /// New tasks of a project.
    Project,
    /// All small events.
    Log,
    /// Everything, with pauses.
    Slow,
    /// Nothing is ever read.
    Never,
}

impl Reader {
    /// The reader with this number, of any number.
    pub(super) const fn of(number: u64) -> Self {
        match number % 10 {
            0..=3 => Self::Task,
            4 | 5 => Self::Project,
            6 => Self::Log,
            7 => Self::Slow,
            _ => Self::Never,
        }
    }

    /// Reads until the day's work ends.
    pub(super) async fn run(self, world: Arc<World>, mut random: Random) {
        sleep(random.time(Duration::from_secs(3))).await;
        while world.is_working() {
            match self {
                Self::Task => task(&world, &mut random).await,
                Self::Project => project(&world, &mut random).await,
                Self::Log => log(&world, vec![("types", Some(SMALL.to_owned()))], &mut random, None).await,
                Self::Slow => slow(&world, &mut random).await,
                Self::Never => never(&world).await,
            }
            world.pause(random.time(Duration::from_millis(300))).await;
        }
    }
}

/// Opens a stream; the reasons why not are findings, but for those that pass.
async fn open(world: &World, path: &str, last: Option<&str>) -> Option<EventStream> {
    let epoch = world.up().await;
    match world.client.stream(path, last).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            let is_passing = crate::cli::follow::is_passing(&error) && !world.was_up_since(epoch);
            if !is_passing && !error.to_string().contains("overloaded") {
                world.find("stream", format!("can't be opened: {error}"), path, "");
            }
            None
        }
    }
}

/// What came of waiting for an event.
enum Next {
    Event(SseEvent),
    Silence,
    Ended,
}

async fn next(stream: &mut EventStream, patience: Duration) -> Next {
    match timeout(patience, stream.next()).await {
        Ok(Ok(Some(event))) => Next::Event(event),
        Ok(Ok(None) | Err(_)) => Next::Ended,
        Err(_) => Next::Silence,
    }
}

/// Follows a task to its end.
async fn task(world: &World, random: &mut Random) {
    let Some(task) = world.ledger().pick_open(random) else { return };
    let path = format!("/tasks/{}/stream", segment(&task));
    let (mut entries, mut last): (Vec<(u64, String)>, Option<String>) = (Vec::new(), None);
    let mut epoch = world.up().await;
    let mut since = world.now();
    let Some(mut stream) = open(world, &path, None).await else { return };
    let mut glances = 0_u32;
    while !world.is_ended() {
        match next(&mut stream, GLANCE).await {
            Next::Event(event) => {
                glances = 0;
                entries.push(super::read::entry_of(&event.data));
                last = event.id;
                if random.chance(2) {
                    // Break off and come back: nothing may be missing then.
                    drop(stream);
                    let Some(again) = open(world, &path, last.as_deref()).await else { return };
                    stream = again;
                }
            }
            Next::Silence => {
                glances += 1;
                if glances.is_multiple_of(LOOK) {
                    // It may have ended without a word: then the ledger learns when.
                    super::read::look(world, &task).await;
                }
            }
            Next::Ended if entries.last().is_some_and(|(_, status)| End::of(status).is_some()) => break,
            Next::Ended => {
                sleep(RESUME).await;
                epoch = world.up().await;
                since = world.now();
                let Some(again) = open(world, &path, last.as_deref()).await else { return };
                stream = again;
            }
        }
        let ended = world.ledger().task(&task).and_then(|known| known.end);
        if let Some((end, at)) = ended
            && world.now() > at.max(since) + world.patience
        {
            if world.was_up_since(epoch) {
                let what = format!("task {task} was {end:?} at {:.1} s, and its stream has not told", at.as_secs_f64());
                world.find("wake-up", what, &path, &format!("{entries:?}"));
            }
            return;
        }
    }
    if let Err(what) = super::read::orderly(&task, &entries) {
        world.find("order", format!("{what} (stream)"), &path, &format!("{entries:?}"));
    }
}

/// Follows what happens in a project; each new task must show in time.
async fn project(world: &World, random: &mut Random) {
    let project = world.day.project(random).to_owned();
    let query = vec![("types", Some("task.created".to_owned())), ("project_id", Some(project.clone()))];
    log(world, query, random, Some(&project)).await;
}

/// Follows the log for a while, breaks off now and then, and keeps what it was told.
async fn log(world: &World, query: Vec<(&'static str, Option<String>)>, random: &mut Random, project: Option<&str>) {
    let Some(after) = head(world).await else { return };
    let mut followed = Followed { query, after, told: Vec::new() };
    let until = world.now() + Duration::from_secs(random.between(10, 40));
    let mut wanted = Wanted::new(world, project);
    let mut epoch = world.up().await;
    let mut since = world.now();
    let Some(mut stream) = open(world, &followed.path(), None).await else { return };
    while world.is_working() && world.now() < until {
        match next(&mut stream, GLANCE).await {
            Next::Event(event) => {
                if !followed.took(world, &event) {
                    return;
                }
                wanted.tell(&event);
                if !random.chance(1) {
                    continue;
                }
                // Breaks off, and comes back below.
            }
            Next::Silence => {
                if wanted.is_late(world, since) && world.was_up_since(epoch) {
                    wanted.report(world, &followed);
                    return;
                }
                continue;
            }
            Next::Ended => sleep(RESUME).await,
        }
        let last = followed.last().to_string();
        epoch = world.up().await;
        since = world.now();
        let Some(again) = open(world, &followed.path(), Some(&last)).await else { return };
        stream = again;
    }
    world.was_followed(followed);
}

/// Tasks of a project that a stream must show.
struct Wanted<'a> {
    project: Option<&'a str>,
    /// Tasks that were submitted later must be told.
    opened: Duration,
    /// Acknowledged tasks that were there before.
    skip: usize,
    told: BTreeSet<String>,
}

impl<'a> Wanted<'a> {
    fn new(world: &World, project: Option<&'a str>) -> Self {
        let skip = project.map_or(0, |project| world.ledger().of_project(project).len());
        Self { project, opened: world.now(), skip, told: BTreeSet::new() }
    }

    fn tell(&mut self, event: &SseEvent) {
        if self.project.is_some() {
            let json: Value = serde_json::from_str(&event.data).unwrap_or_default();
            self.told.extend(json["data"]["task_id"].as_str().map(str::to_owned));
        }
    }

    /// The first task that should have been told by now.
    fn late(&self, world: &World, since: Duration) -> Option<String> {
        let ledger = world.ledger();
        let tasks = ledger.of_project(self.project?);
        let late = tasks.iter().skip(self.skip).find(|task| {
            let due = ledger.task(task).filter(|known| known.sent > self.opened).map(|known| known.at.max(since));
            due.is_some_and(|due| world.now() > due + world.patience) && !self.told.contains(*task)
        });
        late.cloned()
    }

    fn is_late(&self, world: &World, since: Duration) -> bool {
        self.late(world, since).is_some()
    }

    fn report(&self, world: &World, followed: &Followed) {
        if let Some(task) = self.late(world, Duration::ZERO) {
            let what =
                format!("task {task} was acknowledged {} s ago, and a stream has not told", world.patience.as_secs());
            world.find("wake-up", what, &followed.path(), &format!("{:?}", followed.told));
        }
    }
}

impl Followed {
    fn path(&self) -> String {
        let mut query = self.query.clone();
        query.push(("after", Some(self.after.to_string())));
        with_query("/events", &query)
    }

    fn last(&self) -> u64 {
        self.told.last().copied().unwrap_or(self.after)
    }

    /// Takes an event; `false`: the stream is not worth going on with.
    fn took(&mut self, world: &World, event: &SseEvent) -> bool {
        let position = event.id.as_deref().and_then(|id| id.parse().ok());
        match position {
            _ if event.event == "reset" => {
                world.find("stream", "the log was trimmed within the day", &self.path(), &event.data);
                false
            }
            Some(position) if position > self.last() => {
                self.told.push(position);
                true
            }
            other => {
                let what = format!("position {other:?} came after {}", self.last());
                world.find("order", what, &self.path(), &event.data);
                false
            }
        }
    }

    /// Holds what was told against the pages of the log.
    pub(super) async fn check(&self, world: &World) {
        let last = self.last();
        let (mut at, mut expected) = (self.after, Vec::new());
        while at < last {
            let mut query = self.query.clone();
            query.push(("after", Some(at.to_string())));
            query.push(("limit", Some(PAGE.to_string())));
            let call = Call::new(Method::GET, with_query("/events", &query)).header(ACCEPT, "application/json");
            let Some(reply) = world.ask("log", call, &[]).await.filter(Reply::is_ok) else { return };
            let events = reply.json["events"].as_array().map_or(&[][..], Vec::as_slice);
            expected.extend(events.iter().filter_map(|event| event["seq"].as_u64()).filter(|seq| *seq <= last));
            let read_to = reply.json["read_to"].as_u64().unwrap_or(last);
            if read_to <= at {
                break;
            }
            at = read_to;
        }
        if expected != self.told {
            let missing: Vec<&u64> = expected.iter().filter(|seq| !self.told.contains(seq)).take(5).collect();
            let foreign: Vec<&u64> = self.told.iter().filter(|seq| !expected.contains(seq)).take(5).collect();
            let what = format!(
                "a stream told {} events and the log has {} there; missing: {missing:?}; not in the log: {foreign:?}",
                self.told.len(),
                expected.len()
            );
            world.find("stream", what, &self.path(), "");
        }
    }
}

/// The newest position of the log.
async fn head(world: &World) -> Option<u64> {
    let query = [("after", Some(u64::MAX.to_string())), ("limit", Some("1".to_owned()))];
    let call = Call::new(Method::GET, with_query("/events", &query)).header(ACCEPT, "application/json");
    let reply = world.ask("log", call, &[]).await.filter(Reply::is_ok)?;
    reply.json["read_to"].as_u64()
}

/// Takes an event, and some time.
async fn slow(world: &World, random: &mut Random) {
    let Some(mut stream) = open(world, "/events", None).await else { return };
    for _ in 0..random.between(10, 60) {
        if !world.is_working() {
            return;
        }
        if matches!(next(&mut stream, GLANCE).await, Next::Ended) {
            return;
        }
        sleep(random.time(Duration::from_secs(1))).await;
    }
}

/// Opens a stream of everything from the beginning, and reads nothing of it.
async fn never(world: &World) {
    let stream = open(world, "/events?after=0", None).await;
    world.pause(NEVER_READ).await;
    drop(stream);
}
