//! A client that does what comes to its mind, and writes down what it was
//! told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use dats::engine::{Engine, Error, IdempotencyKey, NewCheckpoint, NewProject, ProjectPatch, Refusal, RollbackRequest};
use dats::task::{Content, Priority, ProjectId, QaProfile, Report, Submission, TaskId};

use super::journal::{Acknowledged, Journal, Lost, Submitted};
use crate::support::fixtures::{
    event, failure_report, lease_request, output_report, project, submission, verdict_report,
};
use crate::support::random::Random;

pub(super) const MAX_CONCURRENT: u32 = 4;
/// A project whose limit clients change.
const CHANGING: &str = "changing";
const PROJECTS: [&str; 3] = ["one", "two", CHANGING];
const STEPS: usize = 40;
/// Most tasks and most bytes of a batch: those of the largest group of the writer.
const MOST_TASKS: usize = 512;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How large what clients send is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// Some hundred bytes, so that much happens before the disk dies.
    Small,
    /// From 100 bytes to the most that the service takes.
    All,
}

impl Sizes {
    /// The bytes of a description, in a batch of so many tasks.
    fn description(self, random: &mut Random, tasks: usize) -> usize {
        match self {
            Self::Small => 0,
            Self::All => random.size(100, (MOST_BYTES / tasks).min(60_000)),
        }
    }

    /// How many tasks a batch has.
    fn batch(self, random: &mut Random) -> usize {
        if self == Self::All && random.chance(20) { random.size(1, MOST_TASKS) } else { 1 + random.index(5) }
    }

    /// The bytes of a content.
    fn content(self, random: &mut Random) -> usize {
        match self {
            Self::Small => random.size(1, 200),
            Self::All => random.size(100, 1_000_000),
        }
    }
}

pub(super) fn highest_limit(project: &ProjectId) -> u32 {
    if project.as_str() == CHANGING { 6 } else { MAX_CONCURRENT }
}

pub(super) struct Client {
    engine: Engine,
    journal: Arc<Journal>,
    random: Random,
    number: u64,
    sizes: Sizes,
}

impl Client {
    pub(super) fn new(engine: Engine, journal: Arc<Journal>, random: Random, number: u64, sizes: Sizes) -> Self {
        Self { engine, journal, random, number, sizes }
    }

    /// Works until it has had enough, or the engine has.
    pub(super) async fn run(mut self) -> Result<()> {
        for _ in 0..STEPS {
            let goes_on = match self.random.below(22) {
                0..6 => self.submit().await?,
                6..8 => self.cancel().await?,
                8..13 => self.report().await?,
                13..17 => self.lease().await?,
                17 => self.change_project().await?,
                18 => self.mark().await?,
                19 => self.roll_back().await?,
                _ => self.look().await?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn marker(&mut self) -> String {
        format!("{}-{:016x}", self.number, self.random.next())
    }

    fn submission(&mut self, tasks: usize) -> Submission {
        let bytes = self.sizes.description(&mut self.random, tasks);
        let description = self.marker() + &self.random.text(bytes);
        let mut submission = submission(PROJECTS[self.random.index(PROJECTS.len())], &description);
        submission.priority = Some(*self.random.pick(&Priority::ALL));
        let options = &mut submission.options;
        options.max_attempts = Some(2);
        if self.random.chance(20) {
            options.qa_profile = Some(QaProfile::new("none").expect("a profile"));
        }
        if self.random.chance(20) {
            options.depends_on.extend(self.journal.any_task(&mut self.random));
        } else if self.random.chance(5) {
            // Nobody has this one: the submission must leave no trace.
            options.depends_on.push(TaskId::from_bytes([1; 16]));
        }
        submission
    }

    async fn submit(&mut self) -> Result<bool> {
        let count = if self.random.chance(25) { self.sizes.batch(&mut self.random) } else { 1 };
        let submissions: Vec<Submission> = (0..count).map(|_| self.submission(count)).collect();
        let fresh = Submitted { submissions, key: self.random.chance(40).then(|| self.key()), results: None };
        // Sometimes what was sent before, whatever came of it, is sent again.
        let again = if self.random.chance(25) { self.journal.any_keyed(&mut self.random) } else { None };
        let request = again.unwrap_or(fresh);
        let answer = self.engine.tasks().submit(request.submissions.clone(), request.key).await;
        match answer {
            Ok(answer) => {
                if let Some(first) = &request.results {
                    ensure!(answer.replayed && answer.results == *first, "another answer to the same key");
                }
                self.journal.add(Acknowledged::Submission(Submitted { results: Some(answer.results), ..request }));
                Ok(true)
            }
            Err(error) => self.journal.failed(error, Lost::Submission(request)),
        }
    }

    fn key(&mut self) -> IdempotencyKey {
        let mut bytes = || u128::from(self.random.next()).to_le_bytes();
        IdempotencyKey { key: bytes(), body: bytes() }
    }

    async fn cancel(&mut self) -> Result<bool> {
        let Some(task) = self.journal.any_task(&mut self.random) else { return Ok(true) };
        let reason = self.marker();
        match self.engine.tasks().cancel(task, Some(reason.clone())).await {
            Ok(answer) => {
                ensure!(answer.ended, "a cancelled task has not ended");
                self.journal.add(Acknowledged::Cancel { task });
                self.journal.see(task, false, &answer)?;
                Ok(true)
            }
            Err(error) => self.journal.failed(error, Lost::Marked(reason)),
        }
    }

    fn any_report(&mut self, task: TaskId) -> Report {
        // Few artifacts a task, so that verdicts often match an output.
        let artifact = format!("{task}/{}", self.random.below(2));
        match self.random.below(8) {
            0..3 => self.output(&artifact),
            3..5 => verdict_report(&artifact, true),
            5..7 => verdict_report(&artifact, false),
            _ => failure_report(self.random.chance(70)),
        }
    }

    fn output(&mut self, artifact: &str) -> Report {
        let Report::Output(mut output) = output_report(artifact) else { unreachable!("an output") };
        if self.random.chance(if self.sizes == Sizes::All { 90 } else { 50 }) {
            let bytes = self.sizes.content(&mut self.random);
            let content = Content::new(self.random.text(bytes));
            output.contents.insert(output.artifact.clone(), content);
        }
        Report::Output(output)
    }

    async fn report(&mut self) -> Result<bool> {
        let mut events = Vec::new();
        for _ in 0..=self.random.below(3) {
            let Some(task) = self.journal.any_task(&mut self.random) else { return Ok(true) };
            let sent_before = if self.random.chance(15) { self.journal.any_event(&mut self.random) } else { None };
            let id = sent_before.unwrap_or_else(|| self.marker());
            events.push((id.clone(), event(&id, task, self.any_report(task))));
        }
        let (ids, events): (Vec<String>, Vec<_>) = events.into_iter().unzip();
        match self.engine.events().accept(events).await {
            Ok(answers) => {
                ensure!(answers.len() == ids.len(), "not one answer for each event");
                self.journal.add(Acknowledged::Events(ids.into_iter().zip(answers).collect()));
                Ok(true)
            }
            Err(error) => self.journal.failed(error, Lost::Events(ids)),
        }
    }

    async fn lease(&mut self) -> Result<bool> {
        let mut request = lease_request(if self.random.chance(70) { "small" } else { "large" }, 2);
        request.lease = Duration::from_millis(10 + self.random.below(500));
        request.wait = Duration::from_millis(self.random.below(4));
        let granted = match self.engine.work().lease(request).await {
            Ok(granted) => granted,
            Err(error) => return self.journal.failed(error, Lost::Other),
        };
        for granted in granted {
            self.journal.add(Acknowledged::Lease { lease: granted.lease });
            let answer = match self.random.below(4) {
                0 => self.engine.work().release(granted.lease).await.map(|()| None),
                1 => self.engine.work().renew(granted.lease, Duration::from_mins(10)).await.map(Some),
                _ => continue,
            };
            match answer {
                Ok(None) => self.journal.add(Acknowledged::Release { lease: granted.lease }),
                Ok(Some(until)) => self.journal.add(Acknowledged::Renewal { lease: granted.lease, until }),
                Err(error) => {
                    if !self.journal.failed(error, Lost::Other)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn change_project(&mut self) -> Result<bool> {
        let marker = self.marker();
        let limit = u32::try_from(3 + self.random.below(4))?;
        let answer = if self.random.chance(20) {
            let new = NewProject {
                id: project(&marker),
                name: Some(marker.clone()),
                description: None,
                qa_profile: None,
                constitution: None,
                max_concurrent: None,
            };
            self.engine.projects().create(new).await
        } else {
            let patch = ProjectPatch {
                name: Some(marker.clone()),
                max_concurrent: Some(Some(limit)),
                ..ProjectPatch::default()
            };
            self.engine.projects().update(project(CHANGING), patch, None).await
        };
        match answer {
            Ok(project) => {
                self.journal.add(Acknowledged::Project(project));
                Ok(true)
            }
            Err(error) => self.journal.failed(error, Lost::Project(marker)),
        }
    }

    async fn mark(&mut self) -> Result<bool> {
        let name = project(PROJECTS[self.random.index(PROJECTS.len())]);
        match self.engine.checkpoints().create(name, NewCheckpoint::default()).await {
            Ok(checkpoint) => {
                self.journal.add(Acknowledged::Checkpoint(checkpoint));
                Ok(true)
            }
            Err(error) => self.journal.failed(error, Lost::Other),
        }
    }

    async fn roll_back(&mut self) -> Result<bool> {
        let Some(checkpoint) = self.journal.any_checkpoint(&mut self.random) else { return Ok(true) };
        let (requeue, reason) = (self.random.chance(50), self.marker());
        let request = RollbackRequest { checkpoint, project: None, reason, requeue, dry_run: false };
        match self.engine.checkpoints().roll_back(request).await {
            Ok(rollback) => {
                self.journal.add(Acknowledged::Rollback(Box::new(rollback)));
                Ok(true)
            }
            Err(error) => self.journal.failed(error, Lost::Other),
        }
    }

    /// What a reader sees must be there for good.
    async fn look(&mut self) -> Result<bool> {
        let Some(task) = self.journal.any_task(&mut self.random) else { return Ok(true) };
        let had_ended = self.journal.saw_end(task);
        match self.engine.tasks().status(task).await {
            Ok(Some(answer)) => self.journal.see(task, had_ended, &answer).map(|()| true),
            Ok(None) => anyhow::bail!("task {task} was acknowledged and is not there"),
            // A dead disk can't be read either.
            Err(Error::Store(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Refusals that a client of this kind has to expect.
pub(super) fn is_expected(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::LeaseLost(_) | Refusal::ProjectNotFound(_) | Refusal::CheckpointInvalid(_) | Refusal::Task(_) => true,
        Refusal::TaskNotFound(_)
        | Refusal::NothingCorrelates
        | Refusal::ProjectExists(_)
        | Refusal::ProjectHasOpenTasks { .. }
        | Refusal::UnknownDependency { .. }
        | Refusal::IdempotencyKeyReused
        | Refusal::TooManyIdempotencyKeys { .. }
        | Refusal::TooManyProjects { .. }
        | Refusal::NotEnded(_)
        | Refusal::DeadLetterNotFound(_)
        | Refusal::TierNotFound(_)
        | Refusal::SubjectNotFound(_)
        | Refusal::CheckpointNotFound(_)
        | Refusal::CascadeNotFound(_)
        | Refusal::SourceNotFound(_)
        | Refusal::CheckpointOfOtherProject { .. }
        | Refusal::DependencyNotCompleted { .. }
        | Refusal::ProjectChanged(_) => false,
    }
}
