//! Readers of event streams: of a task, of a project and of the whole log. Some are slow,
//! some never read, some disconnect and resume.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::ACCEPT;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::context::{Context, Reply};
use super::followed::FollowedLog;
use super::ledger::KnownEnd;
use super::observe::{Entry, check_order, query_status};
use crate::client::{Call, EventStream, SseEvent, segment, with_query};
use crate::workload::random::Random;

/// How often the reader of a silent stream checks the ledger.
const POLL: Duration = Duration::from_millis(500);
/// Polls without an event after which the reader of a task's stream requests the status.
const POLLS_PER_QUERY: u32 = 4;
/// How long an unread stream stays open.
const UNREAD_TIME: Duration = Duration::from_secs(20);
/// Pause before a lost stream is opened again.
const RESUME_PAUSE: Duration = Duration::from_millis(300);
/// Types of small events.
const SMALL_TYPES: &str = "task.created,task.ready,task.cancelled,task.finished";
/// Entries on a page of the log.
const PAGE: u64 = 1000;

/// A way to read streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Reads the stream of one task after another, each to its end.
    Task,
    /// Reads the new tasks of a project.
    Project,
    /// Reads all small events of the log.
    Log,
    /// Reads all events, with pauses.
    Slow,
    /// Opens a stream and reads nothing.
    Never,
}

impl Reader {
    /// Returns the way of the reader with this number.
    pub(super) const fn of(number: u64) -> Self {
        match number % 10 {
            0..=3 => Self::Task,
            4 | 5 => Self::Project,
            6 => Self::Log,
            7 => Self::Slow,
            _ => Self::Never,
        }
    }

    /// Reads until the stage of work ends.
    pub(super) async fn run(self, context: Arc<Context>, mut random: Random) {
        sleep(random.time(Duration::from_secs(3))).await;
        while context.is_working() {
            match self {
                Self::Task => follow_task(&context, &mut random).await,
                Self::Project => follow_project(&context, &mut random).await,
                Self::Log => {
                    follow_log(&context, vec![("types", Some(SMALL_TYPES.to_owned()))], &mut random, None).await;
                }
                Self::Slow => read_slowly(&context, &mut random).await,
                Self::Never => leave_unread(&context).await,
            }
            context.pause(random.time(Duration::from_millis(300))).await;
        }
    }
}

/// Opens a stream. A failure is a finding, unless it is transient.
async fn open(context: &Context, path: &str, last: Option<&str>) -> Option<EventStream> {
    let epoch = context.wait_until_up().await;
    match context.client.stream(path, last).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            let was_down = error.is_transient() && !context.was_up_since(epoch);
            if !was_down && !error.to_string().contains("overloaded") {
                context.report("stream", format!("can't be opened: {error}"), path, "");
            }
            None
        }
    }
}

/// The result of waiting for an event.
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
async fn follow_task(context: &Context, random: &mut Random) {
    let Some(task) = context.ledger().pick_open(random) else { return };
    let path = format!("/tasks/{}/stream", segment(&task));
    let (mut entries, mut last): (Vec<Entry>, Option<String>) = (Vec::new(), None);
    let mut epoch = context.wait_until_up().await;
    let mut since = context.now();
    let Some(mut stream) = open(context, &path, None).await else { return };
    let mut polls = 0_u32;
    while !context.is_ended() {
        match next(&mut stream, POLL).await {
            Next::Event(event) => {
                polls = 0;
                entries.push(Entry::parse(&event.data));
                last = event.id;
                if random.chance(2) {
                    // Disconnect and resume: no event may be missing.
                    drop(stream);
                    let Some(again) = open(context, &path, last.as_deref()).await else { return };
                    stream = again;
                }
            }
            Next::Silence => {
                polls += 1;
                if polls.is_multiple_of(POLLS_PER_QUERY) {
                    // Records in the ledger when the task ended, if the stream does not deliver it.
                    query_status(context, &task).await;
                }
            }
            Next::Ended if entries.last().is_some_and(Entry::is_end) => break,
            Next::Ended => {
                sleep(RESUME_PAUSE).await;
                epoch = context.wait_until_up().await;
                since = context.now();
                let Some(again) = open(context, &path, last.as_deref()).await else { return };
                stream = again;
            }
        }
        let ended = context.ledger().task(&task).and_then(|known| known.end);
        if let Some(KnownEnd { end, at }) = ended
            && context.now() > at.max(since) + context.patience
        {
            if context.was_up_since(epoch) {
                let what = format!(
                    "task {task} was {end:?} at {:.1} s, and its stream has not delivered it",
                    at.as_secs_f64()
                );
                context.report("wake-up", what, &path, &format!("{entries:?}"));
            }
            return;
        }
    }
    if let Err(what) = check_order(&task, &entries) {
        context.report("order", format!("{what} (stream)"), &path, &format!("{entries:?}"));
    }
}

/// Follows the new tasks of a project; each must be delivered in time.
async fn follow_project(context: &Context, random: &mut Random) {
    let project = context.day.project(random).to_owned();
    let query = vec![("types", Some("task.created".to_owned())), ("project_id", Some(project.clone()))];
    follow_log(context, query, random, Some(&project)).await;
}

/// Follows the log for a while, disconnects now and then, and keeps the delivered positions.
async fn follow_log(
    context: &Context,
    query: Vec<(&'static str, Option<String>)>,
    random: &mut Random,
    project: Option<&str>,
) {
    let Some(after) = head(context).await else { return };
    let mut followed = FollowedLog::new(query, after);
    let until = context.now() + Duration::from_secs(random.between(10, 40));
    let mut expected = ExpectedTasks::new(context, project);
    let mut epoch = context.wait_until_up().await;
    let mut since = context.now();
    let Some(mut stream) = open(context, &followed.path(), None).await else { return };
    while context.is_working() && context.now() < until {
        match next(&mut stream, POLL).await {
            Next::Event(event) => {
                if !add_event(context, &mut followed, &event) {
                    return;
                }
                expected.record(&event);
                if !random.chance(1) {
                    continue;
                }
                // Disconnects, and resumes below.
            }
            Next::Silence => {
                if expected.is_late(context, since) && context.was_up_since(epoch) {
                    expected.report(context, &followed);
                    return;
                }
                continue;
            }
            Next::Ended => sleep(RESUME_PAUSE).await,
        }
        let last = followed.last().to_string();
        epoch = context.wait_until_up().await;
        since = context.now();
        let Some(again) = open(context, &followed.path(), Some(&last)).await else { return };
        stream = again;
    }
    context.keep_followed(followed);
}

/// Tasks of a project that a stream must deliver.
struct ExpectedTasks<'a> {
    project: Option<&'a str>,
    /// When the stream was opened; tasks submitted later must be delivered.
    opened: Duration,
    /// Number of tasks that were acknowledged before.
    skip: usize,
    delivered: BTreeSet<String>,
}

impl<'a> ExpectedTasks<'a> {
    fn new(context: &Context, project: Option<&'a str>) -> Self {
        let skip = project.map_or(0, |project| context.ledger().of_project(project).len());
        Self { project, opened: context.now(), skip, delivered: BTreeSet::new() }
    }

    fn record(&mut self, event: &SseEvent) {
        if self.project.is_some() {
            let json: Value = serde_json::from_str(&event.data).unwrap_or_default();
            self.delivered.extend(json["data"]["task_id"].as_str().map(str::to_owned));
        }
    }

    /// Returns the first task that should have been delivered by now.
    fn late(&self, context: &Context, since: Duration) -> Option<String> {
        let ledger = context.ledger();
        let tasks = ledger.of_project(self.project?);
        let late = tasks.iter().skip(self.skip).find(|task| {
            let submitted = ledger.task(task).map(|known| known.submitted).filter(|times| times.sent > self.opened);
            let due = submitted.map(|times| times.acknowledged.max(since));
            due.is_some_and(|due| context.now() > due + context.patience) && !self.delivered.contains(*task)
        });
        late.cloned()
    }

    fn is_late(&self, context: &Context, since: Duration) -> bool {
        self.late(context, since).is_some()
    }

    fn report(&self, context: &Context, followed: &FollowedLog) {
        if let Some(task) = self.late(context, Duration::ZERO) {
            let what = format!(
                "task {task} was acknowledged {} s ago, and a stream has not delivered it",
                context.patience.as_secs()
            );
            context.report("wake-up", what, &followed.path(), &format!("{:?}", followed.delivered()));
        }
    }
}

/// Adds an event to the log of a stream; `false` if the stream is not worth following any
/// longer.
fn add_event(context: &Context, followed: &mut FollowedLog, event: &SseEvent) -> bool {
    if event.event == "reset" {
        context.report("stream", "the log was trimmed within the day", &followed.path(), &event.data);
        return false;
    }
    let position = event.id.as_deref().and_then(|id| id.parse().ok());
    let last = followed.last();
    let is_next = position.is_some_and(|position| followed.add(position));
    if !is_next {
        let what = format!("position {position:?} was delivered after {last}");
        context.report("order", what, &followed.path(), &event.data);
    }
    is_next
}

/// Compares the events that a stream delivered with the pages of the log.
pub(super) async fn check_followed(context: &Context, followed: &FollowedLog) {
    let last = followed.last();
    let (mut at, mut expected) = (followed.after(), Vec::new());
    while at < last {
        let call = Call::new(Method::GET, followed.path_after(at, Some(PAGE))).header(ACCEPT, "application/json");
        let Some(reply) = context.send("log", call, &[]).await.filter(Reply::is_ok) else { return };
        let events = reply.json["events"].as_array().map_or(&[][..], Vec::as_slice);
        expected.extend(events.iter().filter_map(|event| event["seq"].as_u64()).filter(|seq| *seq <= last));
        let read_to = reply.json["read_to"].as_u64().unwrap_or(last);
        if read_to <= at {
            break;
        }
        at = read_to;
    }
    let delivered = followed.delivered();
    if expected != delivered {
        let missing: Vec<&u64> = expected.iter().filter(|seq| !delivered.contains(seq)).take(5).collect();
        let foreign: Vec<&u64> = delivered.iter().filter(|seq| !expected.contains(seq)).take(5).collect();
        let what = format!(
            "a stream delivered {} events and the log has {} there; missing: {missing:?}; not in the log: {foreign:?}",
            delivered.len(),
            expected.len()
        );
        context.report("stream", what, &followed.path(), "");
    }
}

/// Returns the newest position of the log.
async fn head(context: &Context) -> Option<u64> {
    let query = [("after", Some(u64::MAX.to_string())), ("limit", Some("1".to_owned()))];
    let call = Call::new(Method::GET, with_query("/events", &query)).header(ACCEPT, "application/json");
    let reply = context.send("log", call, &[]).await.filter(Reply::is_ok)?;
    reply.json["read_to"].as_u64()
}

/// Reads events with pauses.
async fn read_slowly(context: &Context, random: &mut Random) {
    let Some(mut stream) = open(context, "/events", None).await else { return };
    for _ in 0..random.between(10, 60) {
        if !context.is_working() {
            return;
        }
        if matches!(next(&mut stream, POLL).await, Next::Ended) {
            return;
        }
        sleep(random.time(Duration::from_secs(1))).await;
    }
}

/// Opens a stream of all events from the beginning, and reads nothing of it.
async fn leave_unread(context: &Context) {
    let stream = open(context, "/events?after=0", None).await;
    context.pause(UNREAD_TIME).await;
    drop(stream);
}
