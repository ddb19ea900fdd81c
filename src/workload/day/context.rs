//! What the actors of a day share: the client, the ledger, the findings and the time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::findings::{Finding, Findings};
use super::followed::FollowedLog;
use super::ledger::{Contradiction, Ledger};
use super::plan::{Day, Hour};
use crate::client::{Call, Client};
use crate::clock::Stopwatch;
use crate::workload::console::Console;

/// Most outputs that wait for a verdict; beyond it the oldest one waits until the end of the
/// day.
const MAX_WAITING: usize = 10_000;
/// Codes of 503 that a running service may answer.
const ALLOWED_503: [&str; 3] = ["overloaded", "storage_full", "not_owner"];
/// Codes of 503 that a service may also answer around a kill or a stop.
const ALLOWED_503_AT_STOP: [&str; 2] = ["shutting_down", "outcome_unknown"];

/// Stages of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// New work is submitted.
    Work,
    /// No new work; open tasks are completed.
    Drain,
    /// The actors stop.
    End,
}

/// An output without a verdict.
#[derive(Debug, Clone)]
pub(super) struct UnjudgedOutput {
    pub(super) task: String,
    pub(super) artifact: String,
}

/// State shared by the actors of a day.
pub(super) struct Context {
    pub(super) day: Day,
    pub(super) client: Client,
    console: Console,
    started: Stopwatch,
    pub(super) length: Duration,
    /// Longest time for an answer, and for an effect to be visible everywhere.
    pub(super) patience: Duration,
    pub(super) stage: watch::Sender<Stage>,
    /// Number of kills and starts so far: odd while the service is down on purpose.
    pub(super) epoch: watch::Sender<u64>,
    ledger: Mutex<Ledger>,
    findings: Mutex<Findings>,
    unjudged: Mutex<VecDeque<UnjudgedOutput>>,
    followed: Mutex<Vec<FollowedLog>>,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// The parsed body; null if it is not JSON.
    pub(super) json: Value,
    /// Method and path of the request, for findings.
    request: String,
}

impl Reply {
    pub(super) const fn is_ok(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// Returns a text field of the body; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.json.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn code(&self) -> &str {
        self.text("code")
    }
}

/// Locks a mutex. A panic in another actor is reported as a finding of its own.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(super) fn new(day: Day, client: Client, console: Console, length: Duration, patience: Duration) -> Self {
        Self {
            day,
            client,
            console,
            started: Stopwatch::start(),
            length,
            patience,
            stage: watch::Sender::new(Stage::Work),
            epoch: watch::Sender::new(0),
            ledger: Mutex::default(),
            findings: Mutex::default(),
            unjudged: Mutex::default(),
            followed: Mutex::default(),
        }
    }

    /// Locks the ledger. The guard must not be held across an await.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(super) fn findings(&self) -> MutexGuard<'_, Findings> {
        lock(&self.findings)
    }

    /// Returns the time since the start of the day.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn hour(&self) -> Hour {
        let length = self.length.as_millis().max(1);
        Day::hour(u64::try_from(self.now().as_millis() * 1000 / length).unwrap_or(999).min(999))
    }

    pub(super) fn is_working(&self) -> bool {
        *self.stage.borrow() == Stage::Work
    }

    pub(super) fn is_ended(&self) -> bool {
        *self.stage.borrow() == Stage::End
    }

    /// Queues an output for a verdict.
    pub(super) fn queue_for_qa(&self, output: UnjudgedOutput) {
        let mut queue = lock(&self.unjudged);
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
        }
        queue.push_back(output);
    }

    pub(super) fn next_for_qa(&self) -> Option<UnjudgedOutput> {
        lock(&self.unjudged).pop_front()
    }

    pub(super) fn keep_followed(&self, followed: FollowedLog) {
        lock(&self.followed).push(followed);
    }

    pub(super) fn take_followed(&self) -> Vec<FollowedLog> {
        std::mem::take(&mut lock(&self.followed))
    }

    /// Sleeps for `time`, or until the stage of work ends.
    pub(super) async fn pause(&self, time: Duration) {
        let mut stage = self.stage.subscribe();
        // Whether the time elapsed does not matter.
        let _ = timeout(time, stage.wait_for(|stage| *stage != Stage::Work)).await;
    }

    /// Waits while the service is down on purpose, and returns the epoch.
    pub(super) async fn wait_until_up(&self) -> u64 {
        let mut epoch = self.epoch.subscribe();
        epoch.wait_for(|epoch| epoch % 2 == 0).await.map_or(0, |epoch| *epoch)
    }

    /// Returns whether the service was up throughout since `epoch`.
    pub(super) fn was_up_since(&self, epoch: u64) -> bool {
        *self.epoch.borrow() == epoch && epoch.is_multiple_of(2)
    }

    /// Adds a finding, and writes it to the console at once.
    pub(super) fn report(&self, kind: &'static str, what: impl Into<String>, request: &str, answer: &str) {
        let finding = Finding {
            kind,
            what: what.into(),
            at_seconds: (self.now().as_secs_f64() * 1000.0).round() / 1000.0,
            request: request.to_owned(),
            answer: answer.to_owned(),
        };
        let text = format!("seed {}, {:.1} s: {kind}: {} ({request})", self.day.seed, finding.at_seconds, finding.what);
        if self.findings().add(finding) {
            (self.console.warn)(&text);
        }
    }

    /// Adds a finding if an answer contradicts the ledger.
    pub(super) fn check(&self, result: Result<(), Contradiction>, reply: &Reply) {
        if let Err(what) = result {
            self.report("ledger", what, &reply.request, &String::from_utf8_lossy(&reply.body));
        }
    }

    /// Adds a finding that an answer shows.
    pub(super) fn report_reply(&self, kind: &'static str, what: impl Into<String>, reply: &Reply) {
        self.report(kind, what, &reply.request, &String::from_utf8_lossy(&reply.body));
    }

    /// Sends a request and waits for its answer within the patience of the day. `allowed`
    /// holds the statuses of refusals that are not findings. `None` if no answer arrived, so
    /// that the outcome is not known.
    pub(super) async fn send(&self, kind: &'static str, call: Call, allowed: &[u16]) -> Option<Reply> {
        let epoch = self.wait_until_up().await;
        let request = call.request_line();
        let wait = call.wait_time();
        let sent = Stopwatch::start();
        let answer = timeout(self.patience + wait, self.client.exchange(call)).await;
        let took = sent.elapsed().saturating_sub(wait);
        let was_up = self.was_up_since(epoch);
        match answer {
            Ok(Ok((status, body))) => {
                let json = serde_json::from_slice(&body).unwrap_or_default();
                let reply = Reply { status: status.as_u16(), body, json, request };
                let is_refused = matches!(reply.status, 429 | 503);
                self.findings().record_answer(kind, took, is_refused);
                self.check_status(&reply, allowed, was_up);
                Some(reply)
            }
            Ok(Err(error)) => {
                if was_up {
                    self.report("connection", error.to_string(), &request, "");
                } else {
                    self.findings().record_loss(kind);
                }
                None
            }
            Err(_) => {
                if was_up {
                    let limit = (self.patience + wait).as_secs();
                    self.report("no answer", format!("no answer within {limit} s"), &request, "");
                } else {
                    self.findings().record_loss(kind);
                }
                None
            }
        }
    }

    /// Adds a finding if the status of an answer is not allowed.
    fn check_status(&self, reply: &Reply, allowed: &[u16], was_up: bool) {
        let is_allowed = match reply.status {
            200..=399 | 429 => true,
            503 => ALLOWED_503.contains(&reply.code()) || (!was_up && ALLOWED_503_AT_STOP.contains(&reply.code())),
            504 => reply.code() == "walk_timeout",
            status => allowed.contains(&status),
        };
        if !is_allowed {
            let kind = if reply.status >= 500 { "server error" } else { "refusal" };
            self.report_reply(kind, format!("answered {} {}", reply.status, reply.code()), reply);
        }
    }
}
