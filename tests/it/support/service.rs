//! An engine on a directory of its own, that can be stopped and started.

use std::time::Duration;

use dats::clock::{Clock, Stopwatch};
use dats::engine::{Answer, Engine, EventOutcome, GrantedLease, IncomingEvent, Refusal, Settings, WriterThread};
use dats::store::{Error, LogEntry, Store};
use dats::task::{Outcome, Report, Seq, Submission, TaskId};
use serde_json::Value;
use tempfile::TempDir;

use super::fixtures::{CACHE_BYTES, event, lease_request, tier};
use super::invariants::{self, HighestLimit};

/// The longest that anything may take that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Service {
    engine: Option<Engine>,
    settings: Settings,
    writer: Option<WriterThread>,
    dir: TempDir,
    events: u64,
    clock: Clock,
    /// What its wall clock is ahead of the machine's, in microseconds.
    ahead: i64,
}

impl Service {
    pub(crate) fn new(settings: Settings) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::new();
        let (engine, writer) = start(&dir, &settings, &clock);
        Self { engine: Some(engine), settings, writer: Some(writer), dir, events: 0, clock, ahead: 0 }
    }

    /// Stops and starts again. In between every invariant must hold; the log
    /// must never have been trimmed.
    pub(crate) fn restart(self) -> Self {
        self.restart_as(|_| ())
    }

    /// The same with other settings.
    pub(crate) fn restart_as(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.check_and_start(Some(&|_| u32::MAX), change)
    }

    /// The same, and no project may ever have held more slots than it had.
    pub(crate) fn restart_limited(self, limit: HighestLimit<'_>) -> Self {
        self.check_and_start(Some(limit), |_| ())
    }

    /// Starts again without a check.
    pub(crate) fn reopen(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.check_and_start(None, change)
    }

    /// Its clock.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sets its wall clock ahead, or back.
    pub(crate) fn set_wall(&mut self, seconds: i64) {
        self.ahead += seconds * 1_000_000;
        self.clock.step_wall(seconds * 1_000_000);
    }

    /// Lets time go by.
    pub(crate) fn advance(&mut self, duration: Duration) {
        self.ahead += i64::try_from(duration.as_micros()).expect("not that long");
        self.clock.advance(duration);
    }

    /// Stops, and starts again while the wall clock shows so many seconds more
    /// than it would, or less.
    pub(crate) fn restart_at(mut self, seconds: i64) -> Self {
        self.stop();
        self.ahead += seconds * 1_000_000;
        self.reopen_stopped()
    }

    /// Stops the writer; the handle stays.
    pub(crate) fn stop_writer(&mut self) {
        self.writer.take().expect("it runs").stop().expect("a clean end");
    }

    /// Stops, lets a closure look into the store, and starts again.
    pub(crate) fn with_store<T>(mut self, look: impl FnOnce(&Store) -> T) -> (Self, T) {
        self.stop();
        let seen = look(&open(&self.dir));
        (self.reopen_stopped(), seen)
    }

    fn reopen_stopped(mut self) -> Self {
        self.clock = Clock::new();
        self.clock.step_wall(self.ahead);
        let (engine, writer) = start(&self.dir, &self.settings, &self.clock);
        (self.engine, self.writer) = (Some(engine), Some(writer));
        self
    }

    fn check_and_start(mut self, limit: Option<HighestLimit<'_>>, change: impl FnOnce(&mut Settings)) -> Self {
        self.stop();
        if let Some(limit) = limit {
            let store = open(&self.dir);
            invariants::check(&store, limit).expect("a sound store");
        }
        change(&mut self.settings);
        self.reopen_stopped()
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it runs")
    }

    /// Stops the writer and lets go of the directory.
    fn stop(&mut self) {
        self.engine = None;
        self.stop_writer();
    }

    pub(crate) async fn submit(&self, submission: Submission) -> TaskId {
        let submitted = self.engine().tasks().submit(vec![submission], None).await.expect("to submit");
        submitted.results[0].as_ref().expect("to be taken").task
    }

    /// Sends an event with an id of its own.
    pub(crate) async fn report(&mut self, task: TaskId, report: Report) -> Outcome {
        self.events += 1;
        let id = format!("event-{}", self.events);
        match self.send(event(&id, task, report)).await.expect("to be taken") {
            EventOutcome::Taken(outcome) => outcome,
            EventOutcome::Duplicate => panic!("{id} is new"),
        }
    }

    pub(crate) async fn send(&self, event: IncomingEvent) -> Result<EventOutcome, Refusal> {
        self.engine().events().accept(vec![event]).await.expect("an answer").remove(0)
    }

    pub(crate) async fn lease(&self, tier: &str) -> Option<GrantedLease> {
        let mut request = lease_request(tier, 1);
        request.wait = Duration::from_millis(1);
        self.engine().work().lease(request).await.expect("to lease").pop()
    }

    /// Leases as soon as there is something to lease.
    pub(crate) async fn lease_soon(&self, tier: &str) -> GrantedLease {
        let mut request = lease_request(tier, 1);
        request.wait = PATIENCE;
        self.engine().work().lease(request).await.expect("to lease").pop().expect("something to lease")
    }

    /// Leases a task whose worker goes away before it has the answer: the lease goes
    /// back once what this returns is dropped.
    pub(crate) async fn lease_undelivered(&self, name: &str) -> impl Future<Output = ()> + use<> {
        let (engine, mut request) = (self.engine().clone(), lease_request(name, 1));
        request.wait = PATIENCE;
        let mut asked = Box::pin(async move { drop(engine.work().lease(request).await) });
        // Nothing is given before the worker waits, and nothing is taken after.
        self.engine().work().pause_tier(tier(name)).await.expect("to pause");
        let waits = tokio::time::timeout(Duration::ZERO, &mut asked).await;
        assert!(waits.is_err(), "nothing is given while the tier is paused");
        self.engine().work().resume_tier(tier(name)).await.expect("to resume");
        // Another answer of the writer: what it gives was sent before.
        self.engine().routing().take(0).await.expect("an answer");
        asked
    }

    /// The status answer of a task that there is.
    pub(crate) fn answer(&self, task: TaskId) -> Answer {
        let started = Stopwatch::start();
        loop {
            match self.engine().tasks().status_now(task).expect("to read") {
                Some(answer) => return answer,
                // The tables may just be following a commit.
                None => assert!(started.elapsed() < PATIENCE, "there is no task {task}"),
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn status(&self, task: TaskId) -> Value {
        let answer = self.answer(task);
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["version"], answer.version);
        body
    }

    pub(crate) fn phase(&self, task: TaskId) -> String {
        self.status(task)["phase"].as_str().expect("a phase").to_owned()
    }

    pub(crate) async fn phase_becomes(&self, task: TaskId, phase: &str) {
        self.soon(phase, || self.phase(task) == phase).await;
    }

    /// Waits for what is bound to happen.
    pub(crate) async fn soon(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let started = Stopwatch::start();
        while !happened() {
            assert!(started.elapsed() < PATIENCE, "{what}: it did not happen");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn history(&self, task: TaskId) -> Vec<LogEntry> {
        let history =
            self.engine().tasks().history(task, Seq(0), 1000).await.expect("to read").expect("a task").entries;
        history.into_iter().map(|each| each.entry).collect()
    }

    pub(crate) async fn history_names(&self, task: TaskId) -> Vec<String> {
        self.history(task).await.iter().map(|entry| entry.change.name().to_owned()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            let ended = writer.stop();
            if !std::thread::panicking() {
                ended.expect("a clean end");
            }
        }
    }
}

fn start(dir: &TempDir, settings: &Settings, clock: &Clock) -> (Engine, WriterThread) {
    Engine::start(open(dir), settings.clone(), clock).expect("to start")
}

/// Opens the store. A child process that another test starts shares our
/// files, and so the lock, until it has become the other program.
fn open(dir: &TempDir) -> Store {
    let started = Stopwatch::start();
    loop {
        match Store::open(dir.path(), CACHE_BYTES) {
            Err(Error::InUse(_)) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened.expect("to open"),
        }
    }
}

/// The task that a lease's data names.
pub(crate) fn task_of(granted: &GrantedLease) -> TaskId {
    let data: Value = serde_json::from_slice(&granted.task).expect("JSON");
    data["task_id"].as_str().expect("an id").parse().expect("an id")
}
