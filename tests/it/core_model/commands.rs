//! What can be done to the tasks of a random life, drawn by chance.

use dats::task::{Priority, ReviewDecision};
use proptest::prelude::*;

use super::{ARTIFACTS, PROJECTS, REVIEWS, TIERS};

/// One thing to do. `task` counts modulo the tasks there are.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Submit(Wish),
    Lease {
        tier: usize,
        seconds: i64,
    },
    Renew {
        task: usize,
        right: bool,
        seconds: i64,
    },
    Release {
        task: usize,
        right: bool,
        delivered: bool,
    },
    /// From a broker, without a lease.
    Take {
        task: usize,
    },
    Report {
        task: usize,
        what: What,
    },
    /// One of the reports so far, once more.
    Again {
        report: usize,
    },
    Cancel {
        task: usize,
    },
    Limit {
        project: usize,
        limit: Option<u32>,
    },
    /// A project, or else a tier.
    Pause {
        is_project: bool,
        number: usize,
        paused: bool,
    },
    /// The wall clock is set: by how many seconds it is ahead of observed time then.
    SetClock {
        ahead: i64,
    },
    /// Time goes on (or back); `late`: the timers are not looked at yet.
    Time {
        millis: i64,
        late: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) project: usize,
    pub(super) priority: Priority,
    pub(super) depends_on: Vec<usize>,
    pub(super) wait: Option<i64>,
    pub(super) max_attempts: u32,
    pub(super) timeout: u32,
    pub(super) qa: bool,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// `shift` counts attempts from the newest one; `sender`: the holder, or
    /// else another worker, or else not told.
    Output {
        shift: Option<i64>,
        main: usize,
        more: Option<usize>,
        sender: Option<bool>,
    },
    Verdict {
        artifact: Which,
        good: bool,
    },
    Failed {
        shift: Option<i64>,
        again: bool,
        sender: Option<bool>,
        from_qa: bool,
    },
    Started {
        shift: Option<i64>,
        sender: Option<bool>,
    },
    Requested {
        review: usize,
        artifact: Option<Which>,
    },
    Reviewed {
        review: usize,
        decision: ReviewDecision,
        artifact: Option<Which>,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Which {
    Current,
    Some(usize),
}

fn wishes() -> impl Strategy<Value = Command> {
    let priorities = proptest::sample::select(Priority::ALL.to_vec());
    let dependencies = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0_usize..20, 1..3)];
    let waits = prop_oneof![3 => Just(None), 1 => (-5_i64..60).prop_map(Some)];
    let qa = prop::bool::weighted(0.8);
    (0..PROJECTS.len(), priorities, dependencies, waits, 1_u32..6, 5_u32..60, qa).prop_map(
        |(project, priority, depends_on, wait, max_attempts, timeout, qa)| {
            Command::Submit(Wish { project, priority, depends_on, wait, max_attempts, timeout, qa })
        },
    )
}

fn reports() -> impl Strategy<Value = What> {
    let shift = || prop_oneof![5 => Just(None), 3 => Just(Some(0)), 1 => (-2_i64..2).prop_map(Some)];
    let which = || prop_oneof![2 => Just(Which::Current), 1 => (0..ARTIFACTS.len()).prop_map(Which::Some)];
    let maybe = || proptest::option::of(which());
    let decisions = [ReviewDecision::Approved, ReviewDecision::Rejected, ReviewDecision::ChangesRequested];
    let decisions = proptest::sample::select(decisions.to_vec());
    let names = 0..ARTIFACTS.len();
    let sender = || prop_oneof![2 => Just(None), 2 => Just(Some(true)), 1 => Just(Some(false))];
    prop_oneof![
        5 => (shift(), names.clone(), proptest::option::of(names), sender())
            .prop_map(|(shift, main, more, sender)| What::Output { shift, main, more, sender }),
        4 => (which(), prop::bool::weighted(0.3)).prop_map(|(artifact, good)| What::Verdict { artifact, good }),
        2 => (shift(), prop::bool::weighted(0.8), sender(), prop::bool::weighted(0.2))
            .prop_map(|(shift, again, sender, from_qa)| What::Failed { shift, again, sender, from_qa }),
        1 => (shift(), sender()).prop_map(|(shift, sender)| What::Started { shift, sender }),
        2 => (0..REVIEWS.len(), maybe()).prop_map(|(review, artifact)| What::Requested { review, artifact }),
        2 => (0..REVIEWS.len(), decisions, maybe())
            .prop_map(|(review, decision, artifact)| What::Reviewed { review, decision, artifact }),
    ]
}

pub(super) fn commands() -> impl Strategy<Value = Command> {
    let task = 0_usize..20;
    prop_oneof![
        4 => wishes(),
        4 => (0..TIERS.len(), 1_i64..40).prop_map(|(tier, seconds)| Command::Lease { tier, seconds }),
        1 => (task.clone(), prop::bool::weighted(0.7), -3_i64..40)
            .prop_map(|(task, right, seconds)| Command::Renew { task, right, seconds }),
        1 => (task.clone(), prop::bool::weighted(0.7), prop::bool::weighted(0.7))
            .prop_map(|(task, right, delivered)| Command::Release { task, right, delivered }),
        1 => task.clone().prop_map(|task| Command::Take { task }),
        14 => (task.clone(), reports()).prop_map(|(task, what)| Command::Report { task, what }),
        3 => (0_usize..1000).prop_map(|report| Command::Again { report }),
        1 => task.prop_map(|task| Command::Cancel { task }),
        1 => (0..PROJECTS.len(), proptest::option::of(0_u32..4))
            .prop_map(|(project, limit)| Command::Limit { project, limit }),
        2 => (prop::bool::ANY, 0..PROJECTS.len(), prop::bool::weighted(0.4))
            .prop_map(|(is_project, number, paused)| Command::Pause { is_project, number, paused }),
        5 => (-500_i64..12_000, prop::bool::weighted(0.2)).prop_map(|(millis, late)| Command::Time { millis, late }),
        1 => (0_i64..700_000).prop_map(|millis| Command::Time { millis, late: false }),
        1 => (-900_i64..2000).prop_map(|ahead| Command::SetClock { ahead }),
    ]
}

/// What moves the turns between projects: few tasks, most of them on one tier.
pub(super) fn turns() -> impl Strategy<Value = Command> {
    let task = 0_usize..12;
    let project = 0..PROJECTS.len();
    let priorities = proptest::sample::select(Priority::ALL.to_vec());
    let dependencies = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(task.clone(), 1..2)];
    let submissions =
        (project.clone(), priorities, dependencies, prop::bool::ANY).prop_map(|(project, priority, depends_on, qa)| {
            Command::Submit(Wish { project, priority, depends_on, wait: None, max_attempts: 3, timeout: 50, qa })
        });
    let output = What::Output { shift: None, main: 0, more: None, sender: None };
    let rejection = What::Verdict { artifact: Which::Current, good: false };
    let reports = proptest::sample::select(vec![output, rejection]);
    prop_oneof![
        4 => submissions,
        8 => prop_oneof![4 => Just(0), 1 => 0..TIERS.len()].prop_map(|tier| Command::Lease { tier, seconds: 30 }),
        2 => (task.clone(), prop::bool::ANY)
            .prop_map(|(task, delivered)| Command::Release { task, right: true, delivered }),
        3 => (task.clone(), reports).prop_map(|(task, what)| Command::Report { task, what }),
        1 => task.prop_map(|task| Command::Cancel { task }),
        2 => (prop::bool::weighted(0.8), project.clone(), prop::bool::ANY)
            .prop_map(|(is_project, number, paused)| Command::Pause { is_project, number, paused }),
        1 => (project, 0_u32..4).prop_map(|(project, limit)| Command::Limit { project, limit: Some(limit) }),
        1 => (0_i64..3000).prop_map(|millis| Command::Time { millis, late: false }),
    ]
}
