//! What the actors of a day share: the service, the ledger, the findings and the time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::findings::{Finding, Findings};
use super::ledger::{Contradiction, Ledger};
use super::streams::Followed;
use crate::cli::client::{Call, Client, Error};
use crate::clock::Stopwatch;
use crate::workload::{Day, Hour};

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Outputs that may wait for a verdict; beyond that the oldest is left to the end.
const MAX_WAITING: usize = 10_000;
/// Codes of 503 that the contract has for a service that runs.
const KNOWN_503: [&str; 3] = ["overloaded", "storage_full", "not_owner"];
/// Codes of 503 around a kill or a stop.
const KNOWN_503_AT_THE_END: [&str; 2] = ["shutting_down", "outcome_unknown"];

/// What the actors are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The day.
    Work,
    /// No new work; what is open is ended.
    Drain,
    /// Nothing more.
    End,
}

/// An output that waits for its verdict.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) task: String,
    pub(super) artifact: String,
}

/// What the actors share.
pub(super) struct World {
    pub(super) day: Day,
    pub(super) client: Client,
    pub(super) started: Stopwatch,
    pub(super) length: Duration,
    /// How long anything may take: an answer, or an effect until it is seen everywhere.
    pub(super) patience: Duration,
    pub(super) stage: watch::Sender<Stage>,
    /// Odd while the service is away on purpose; it grows with each kill and each start.
    pub(super) epoch: watch::Sender<u64>,
    ledger: Mutex<Ledger>,
    findings: Mutex<Findings>,
    waiting: Mutex<VecDeque<Waiting>>,
    followed: Mutex<Vec<Followed>>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// The body, where it is JSON; else null.
    pub(super) json: Value,
    /// The request, for findings.
    request: String,
}

impl Reply {
    pub(super) const fn is_ok(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.json.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn code(&self) -> &str {
        self.text("code")
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(day: Day, client: Client, length: Duration, patience: Duration) -> Self {
        Self {
            day,
            client,
            started: Stopwatch::start(),
            length,
            patience,
            stage: watch::Sender::new(Stage::Work),
            epoch: watch::Sender::new(0),
            ledger: Mutex::default(),
            findings: Mutex::default(),
            waiting: Mutex::default(),
            followed: Mutex::default(),
        }
    }

    /// The ledger; never held across an await.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        held(&self.ledger)
    }

    pub(super) fn findings(&self) -> MutexGuard<'_, Findings> {
        held(&self.findings)
    }

    /// Since the day began.
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

    /// Leaves an output to QA.
    pub(super) fn leave_to_qa(&self, waiting: Waiting) {
        let mut queue = held(&self.waiting);
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
        }
        queue.push_back(waiting);
    }

    pub(super) fn next_for_qa(&self) -> Option<Waiting> {
        held(&self.waiting).pop_front()
    }

    pub(super) fn was_followed(&self, followed: Followed) {
        held(&self.followed).push(followed);
    }

    pub(super) fn take_followed(&self) -> Vec<Followed> {
        std::mem::take(&mut held(&self.followed))
    }

    /// Sleeps, but not beyond the end of the stage of work.
    pub(super) async fn pause(&self, time: Duration) {
        let mut stage = self.stage.subscribe();
        // Elapsed or not: both go on.
        let _ = timeout(time, stage.wait_for(|stage| *stage != Stage::Work)).await;
    }

    /// Waits while the service is away on purpose.
    pub(super) async fn up(&self) -> u64 {
        let mut epoch = self.epoch.subscribe();
        epoch.wait_for(|epoch| epoch % 2 == 0).await.map_or(0, |epoch| *epoch)
    }

    /// Whether the service was there all the time since `epoch`.
    pub(super) fn was_up_since(&self, epoch: u64) -> bool {
        *self.epoch.borrow() == epoch && epoch.is_multiple_of(2)
    }

    /// Adds a finding, and shows it at once.
    pub(super) fn find(&self, kind: &'static str, what: impl Into<String>, request: &str, answer: &str) {
        let finding = Finding {
            kind,
            what: what.into(),
            at_seconds: (self.now().as_secs_f64() * 1000.0).round() / 1000.0,
            request: request.to_owned(),
            answer: answer.to_owned(),
        };
        let text = format!("seed {}, {:.1} s: {kind}: {} ({request})", self.day.seed, finding.at_seconds, finding.what);
        if self.findings().add(finding) {
            crate::cli::exit::warn(&text);
        }
    }

    /// Adds a finding where the ledger contradicts an answer.
    pub(super) fn check(&self, result: Result<(), Contradiction>, reply: &Reply) {
        if let Err(what) = result {
            self.find("ledger", what, &reply.request, &String::from_utf8_lossy(&reply.body));
        }
    }

    /// The same for an answer that is wrong in itself.
    pub(super) fn wrong(&self, kind: &'static str, what: impl Into<String>, reply: &Reply) {
        self.find(kind, what, &reply.request, &String::from_utf8_lossy(&reply.body));
    }

    /// Asks, within the time that anything may take. `allowed` are the refusals that
    /// the request may meet. `None`: no answer came, so the outcome is not known.
    pub(super) async fn ask(&self, kind: &'static str, call: Call, allowed: &[u16]) -> Option<Reply> {
        let epoch = self.up().await;
        let request = call.line();
        let wait = call.waits();
        let sent = Stopwatch::start();
        let answer = timeout(self.patience + wait, self.exchange(call)).await;
        let took = sent.elapsed().saturating_sub(wait);
        let was_up = self.was_up_since(epoch);
        match answer {
            Ok(Ok((status, body))) => {
                let json = serde_json::from_slice(&body).unwrap_or_default();
                let reply = Reply { status: status.as_u16(), body, json, request };
                let is_refused = matches!(reply.status, 429 | 503);
                self.findings().answered(kind, took, is_refused);
                self.judge(&reply, allowed, was_up);
                Some(reply)
            }
            Ok(Err(error)) => {
                if was_up {
                    self.find("connection", error.to_string(), &request, "");
                } else {
                    self.findings().lost(kind);
                }
                None
            }
            Err(_) => {
                if was_up {
                    let limit = (self.patience + wait).as_secs();
                    self.find("no answer", format!("no answer within {limit} s"), &request, "");
                } else {
                    self.findings().lost(kind);
                }
                None
            }
        }
    }

    async fn exchange(&self, call: Call) -> Result<(StatusCode, Bytes), Error> {
        let response = self.client.send(call).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| self.client.unreachable(format!("the answer broke off: {error}")))?;
        Ok((status, body.to_bytes()))
    }

    fn judge(&self, reply: &Reply, allowed: &[u16], was_up: bool) {
        let is_known = match reply.status {
            200..=399 | 429 => true,
            503 => KNOWN_503.contains(&reply.code()) || (!was_up && KNOWN_503_AT_THE_END.contains(&reply.code())),
            504 => reply.code() == "walk_timeout",
            status => allowed.contains(&status),
        };
        if !is_known {
            let kind = if reply.status >= 500 { "server error" } else { "refusal" };
            self.wrong(kind, format!("answered {} {}", reply.status, reply.code()), reply);
        }
    }
}
