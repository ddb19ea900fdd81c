//! Tasks that are routed and split: parents and children always agree,
//! whatever is found out about them, whoever fails, whenever the service is
//! started again.

use std::time::Duration;

use dats::engine::{NewCheckpoint, RollbackRequest, RoutingJob, Settings};
use dats::task::{
    Analysis, CheckpointId, Context, Decomposition, Domain, Estimate, Finding, Mode, Now, OnChildFailure, Outcome,
    QaProfile, RoutingStep, Subtask, TaskId,
};
use serde_json::Value;

use crate::support::fixtures::{
    artifact, failure_report, output_report, project, settings, submission, tier, verdict_report,
};
use crate::support::random::{Random, from_environment};
use crate::support::service::{Service, task_of};

const LIMIT: u32 = 3;
const PROJECTS: [&str; 2] = ["p", "q"];

fn routed() -> Settings {
    let mut settings = settings();
    settings.policy.agent = true;
    settings.policy.rag = true;
    settings.policy.max_depth = 3;
    settings.policy.max_subtasks = 6;
    settings.max_concurrent = LIMIT;
    settings
}

fn analysis(split: bool) -> Finding {
    Finding::Analyzed(Analysis {
        mode: Mode::new("new_project").expect("a mode"),
        domain: Domain::new("analysis").expect("a domain"),
        tier: tier("large"),
        needs_decomposition: split,
        qa_profile: Some(QaProfile::new("strict").expect("a profile")),
        acceptance_criteria: None,
    })
}

fn estimate() -> Finding {
    let estimate = Estimate { tier: tier("small"), qa_profile: None, tokens: None, confidence: None, reasoning: None };
    let context = Context { text: "of old".to_owned(), sources: vec![artifact("source")] };
    Finding::Estimated { estimate, context: Some(context) }
}

pub(super) fn subtask(id: &str, is_atomic: bool, dependencies: &[&str]) -> Subtask {
    Subtask {
        id: id.to_owned(),
        description: format!("part {id}"),
        domain: None,
        is_atomic,
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
    }
}

pub(super) fn decomposition(subtasks: Vec<Subtask>) -> Finding {
    Finding::Decomposed(Decomposition { subtasks, depth: None })
}

/// Parts of any shape: alone, in a chain, as a fan, at random; now and then
/// one that can't be carried out.
fn random_parts(random: &mut Random) -> Finding {
    let count = random.index(6);
    let names: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
    let mut subtasks = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let earlier: Vec<&str> = names[..place].iter().filter(|_| random.chance(30)).map(String::as_str).collect();
        subtasks.push(subtask(name, random.chance(60), &earlier));
    }
    if let Some(first) = subtasks.first_mut().filter(|_| random.chance(10)) {
        first.dependencies.push(random.pick(&["s0", "nobody"]).to_string());
    }
    decomposition(subtasks)
}

fn random_finding(job: &RoutingJob, random: &mut Random) -> Finding {
    match job.step {
        _ if random.chance(5) => Finding::Builtin { context: None },
        RoutingStep::Analyze => analysis(random.chance(60)),
        RoutingStep::Decompose { .. } => random_parts(random),
        RoutingStep::Estimate => estimate(),
        RoutingStep::Context => Finding::Builtin { context: None },
    }
}

struct Life {
    service: Service,
    random: Random,
    tasks: Vec<TaskId>,
    checkpoints: Vec<CheckpointId>,
    rolled_back: usize,
    now: Now,
}

impl Life {
    async fn step(&mut self) {
        match self.random.below(22) {
            0..4 => self.submit().await,
            4..10 => self.route(4).await,
            10..15 => self.work().await,
            15..17 => self.cancel().await,
            17 => self.lose_jobs().await,
            18 => self.depend().await,
            19 => self.mark().await,
            20 if self.random.chance(50) => self.roll_back().await,
            _ => {
                let id = self.tasks.last().copied();
                if let Some(id) = id {
                    self.service.engine().tasks().tree(id, 100).await.expect("a tree");
                }
            }
        }
    }

    async fn submit(&mut self) {
        let mut wanted = submission(PROJECTS[self.random.index(PROJECTS.len())], "build it");
        wanted.options.on_child_failure = Some(*self.random.pick(&[OnChildFailure::Cancel, OnChildFailure::Continue]));
        wanted.options.decompose = self.random.chance(20).then_some(false);
        wanted.options.max_attempts = Some(2);
        self.tasks.push(self.service.submit(wanted).await);
    }

    /// A task that waits for one that may be a parent.
    async fn depend(&mut self) {
        let Some(task) = self.any() else { return };
        let mut wanted = submission("p", "after it");
        wanted.options.depends_on = vec![task];
        self.tasks.push(self.service.submit(wanted).await);
    }

    fn any(&mut self) -> Option<TaskId> {
        (!self.tasks.is_empty()).then(|| *self.random.pick(&self.tasks))
    }

    /// Asks about some tasks; what is found comes twice now and then.
    async fn route(&mut self, max: usize) {
        for job in self.service.engine().routing().take(max).await.expect("jobs") {
            if self.random.chance(10) {
                let until = self.now.after(Duration::from_millis(self.random.below(3)));
                self.service.engine().routing().return_job(job.task, until).await.expect("to return");
                continue;
            }
            let finding = random_finding(&job, &mut self.random);
            self.service
                .engine()
                .routing()
                .submit_finding(job.task, job.step, finding.clone())
                .await
                .expect("to route");
            if self.random.chance(10) {
                let again =
                    self.service.engine().routing().submit_finding(job.task, RoutingStep::Analyze, finding).await;
                assert_eq!(again.expect("an answer"), Outcome::Unchanged, "a finding was taken twice");
            }
        }
    }

    async fn work(&mut self) {
        let tier = *self.random.pick(&["small", "large"]);
        let is_left = self.random.chance(20);
        let undelivered = if is_left { Some(self.service.lease_undelivered(tier).await) } else { None };
        let Some(granted) = self.service.lease(tier).await else { return };
        drop(undelivered);
        let task = task_of(&granted);
        if self.random.chance(15) {
            self.service.report(task, failure_report(self.random.chance(50))).await;
            return;
        }
        let name = format!("artifact-{}", self.random.next());
        self.service.report(task, output_report(&name)).await;
        self.service.report(task, verdict_report(&name, self.random.chance(85))).await;
    }

    /// Cancels a task, or one of its children.
    async fn cancel(&mut self) {
        let Some(task) = self.any() else { return };
        let children = self.service.status(task)["children"].clone();
        let children: Vec<TaskId> = serde_json::from_value(children).expect("ids");
        let victim = if children.is_empty() { task } else { *self.random.pick(&children) };
        // One that has ended refuses, which is fine.
        let _ = self.service.engine().tasks().cancel(victim, None).await;
    }

    async fn mark(&mut self) {
        let name = project(PROJECTS[self.random.index(PROJECTS.len())]);
        // Without a task there is no project yet.
        let made = self.service.engine().checkpoints().create(name, NewCheckpoint::default()).await;
        self.checkpoints.extend(made.map(|checkpoint| checkpoint.id));
    }

    /// What a rollback says of families is so.
    async fn roll_back(&mut self) {
        let newest = self.checkpoints.len().saturating_sub(3);
        let Some(some) = self.checkpoints.get(newest..).filter(|some| !some.is_empty()) else { return };
        let checkpoint = self.random.pick(some).clone();
        let reason = "it went wrong".to_owned();
        let request = RollbackRequest { checkpoint, project: None, reason, requeue: true, dry_run: false };
        let Ok(done) = self.service.engine().checkpoints().roll_back(request).await else { return };
        for task in &done.to_rerun {
            let status = self.service.status(*task);
            assert!(["completed", "failed", "cancelled"].contains(&status["status"].as_str().unwrap()), "{status}");
            assert!(status["parent_id"].is_null(), "{status}");
        }
        for task in &done.still_open {
            let status = self.service.status(*task);
            assert!(["pending", "running"].contains(&status["status"].as_str().unwrap()), "{status}");
        }
        assert!(done.cancelled.iter().all(|task| self.service.status(*task)["status"] == "cancelled"));
        assert_eq!(done.requeued.len(), done.to_rerun.len());
        self.rolled_back += usize::from(done.is_change());
        self.tasks.extend(done.requeued.iter().filter_map(|(_, made)| *made));
    }

    /// Jobs that nobody answers are handed out again after a restart.
    async fn lose_jobs(&mut self) {
        drop(self.service.engine().routing().take(2).await.expect("jobs"));
    }

    /// From here on nothing goes wrong: everything must come to its end.
    async fn drain(&mut self) {
        for _ in 0..20_000 {
            let counters = self.service.engine().figures().counters;
            if counters.open() == 0 {
                return;
            }
            for job in self.service.engine().routing().take(16).await.expect("jobs") {
                let finding = match job.step {
                    RoutingStep::Analyze => analysis(false),
                    RoutingStep::Decompose { .. } => decomposition(Vec::new()),
                    RoutingStep::Estimate => estimate(),
                    RoutingStep::Context => Finding::Builtin { context: None },
                };
                self.service.engine().routing().submit_finding(job.task, job.step, finding).await.expect("to route");
            }
            for tier in ["small", "large"] {
                while let Some(granted) = self.service.lease(tier).await {
                    let name = format!("artifact-{}", self.random.next());
                    self.service.report(task_of(&granted), output_report(&name)).await;
                    self.service.report(task_of(&granted), verdict_report(&name, true)).await;
                }
            }
        }
        panic!("not everything ended: {:?}", self.service.engine().figures().counters);
    }
}

/// A part whose worker went away before it had the lease was never taken.
#[tokio::test]
async fn a_parent_begins_with_the_first_part_that_a_worker_got() {
    let service = Service::new(routed());
    let parent = service.submit(submission("p", "build it")).await;
    loop {
        let jobs = service.engine().routing().take(4).await.expect("jobs");
        for job in &jobs {
            let finding = match job.step {
                RoutingStep::Analyze => analysis(true),
                RoutingStep::Decompose { .. } => {
                    decomposition(vec![subtask("a", true, &[]), subtask("b", true, &[]), subtask("c", true, &[])])
                }
                RoutingStep::Estimate => estimate(),
                RoutingStep::Context => Finding::Builtin { context: None },
            };
            service.engine().routing().submit_finding(job.task, job.step, finding).await.expect("to route");
        }
        if jobs.is_empty() {
            break;
        }
    }
    let began = |task: TaskId| service.status(task)["started_at"].clone();
    assert_eq!((service.phase(parent).as_str(), began(parent)), ("children", Value::Null));
    let first = service.lease_undelivered("small").await;
    let second = service.lease_undelivered("small").await;
    assert!(!began(parent).is_null(), "nobody knows yet that they were not delivered");
    let third = task_of(&service.lease_soon("small").await);
    drop((first, second));
    service.soon("the third one was first", || began(parent) == began(third)).await;
    assert!(!began(parent).is_null());
    service.restart();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_and_children_always_agree() {
    let first = from_environment("DATS_SEED", 1);
    let rounds = from_environment("DATS_ROUNDS", 4);
    let limit = |_: &dats::task::ProjectId| LIMIT;
    let mut rolled_back = 0;
    for seed in first..first + rounds {
        println!("DATS_SEED={seed} DATS_ROUNDS=1");
        let now = dats::clock::Clock::new().now();
        let service = Service::new(routed());
        let mut life = Life {
            service,
            random: Random::new(seed),
            tasks: Vec::new(),
            checkpoints: Vec::new(),
            rolled_back: 0,
            now,
        };
        for _ in 0..4 {
            for _ in 0..50 {
                life.step().await;
            }
            life.service = life.service.restart_limited(&limit);
        }
        life.drain().await;
        let tasks = life.service.engine().figures().counters;
        assert!(tasks.total() > u64::try_from(life.tasks.len()).unwrap(), "nothing was ever split");
        drop(life.service.restart_limited(&limit));
        rolled_back += life.rolled_back;
    }
    assert!(rolled_back > 0, "nothing was ever rolled back");
}
