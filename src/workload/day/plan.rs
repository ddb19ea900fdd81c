//! The plan of a day: projects, submissions, behaviour of workers and verdicts, all from a
//! seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use crate::workload::random::Random;

/// Tiers to which tasks are submitted.
pub const TIERS: [&str; 5] = ["tiny", "small", "large", "frontier", TIER_WITHOUT_WORKERS];

/// A tier that no worker serves and to which no other tier escalates (`escalate_to`).
pub const TIER_WITHOUT_WORKERS: &str = "coding";

/// Sizes of descriptions, in bytes; the contract allows 64 KiB.
const DESCRIPTION_BYTES: RangeInclusive<usize> = 100..=60_000;
/// Sizes of outputs, in bytes; an event with its envelope may have 1 MiB.
const OUTPUT_BYTES: RangeInclusive<usize> = 100..=900_000;
/// Sizes of outputs in the busiest hour, in bytes: the service stores each in a file of its
/// own.
const LARGE_OUTPUT_BYTES: RangeInclusive<usize> = 66_000..=260_000;

/// A project of the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Id, which begins with the prefix of the day.
    pub id: String,
    /// Most tasks under way at once; `None` for the default of the service.
    pub max_concurrent: Option<u32>,
    /// Share of all submissions, as a part of the sum of all weights.
    weight: u64,
}

/// A part of the day, with its kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hour {
    /// Few requests.
    Night,
    /// The rate rises.
    Morning,
    /// As many requests as the clients can send, and large outputs only.
    Rush,
    /// A steady rate.
    Afternoon,
}

impl Hour {
    /// Returns the longest pause between two requests of one client.
    #[must_use]
    pub const fn pause(self) -> Duration {
        match self {
            Self::Night => Duration::from_millis(1500),
            Self::Morning => Duration::from_millis(400),
            Self::Rush => Duration::from_millis(100),
            Self::Afternoon => Duration::from_millis(600),
        }
    }
}

/// How a worker treats the task that it leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerBehaviour {
    /// Works and reports its output in time.
    Sound,
    /// Takes longer than its lease lasts, and renews it.
    Slow,
    /// Never reports, like a worker that has crashed.
    Dies,
    /// Reports its output after its lease has expired.
    LateOutput,
    /// Reports a failure after its lease has expired.
    LateFailure,
    /// Reports its output twice under one id, and then under another id.
    ReportsTwice,
    /// Reports a failure in time.
    Fails,
    /// Releases the lease.
    Releases,
    /// Its verdict arrives before its output.
    VerdictFirst,
}

/// A task to submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Id of the project.
    pub project: String,
    /// Tier; `None` if the service chooses.
    pub tier: Option<&'static str>,
    /// Whether an output completes it without a verdict.
    pub is_unchecked: bool,
    /// Body of the submission, without dependencies.
    pub body: Value,
}

/// The plan of a day.
#[derive(Debug, Clone)]
pub struct Day {
    /// Seed of the plan.
    pub seed: u64,
    /// Projects, the busiest first.
    pub projects: Vec<Project>,
}

impl Day {
    /// Creates the plan of a seed. The ids of its projects begin with `prefix`.
    #[must_use]
    pub fn new(seed: u64, prefix: &str) -> Self {
        let limits = [None, Some(1), Some(3), Some(40), None, Some(2), Some(100), None, Some(5), Some(1)];
        let projects = limits.into_iter().zip(1..).map(|(max_concurrent, rank)| Project {
            id: format!("{prefix}-{rank}"),
            max_concurrent,
            // Zipf's distribution: the second project is half as busy as the first.
            weight: 2520 / rank,
        });
        Self { seed, projects: projects.collect() }
    }

    /// Returns the hour after so many thousandths of the day.
    #[must_use]
    pub const fn hour(per_mille: u64) -> Hour {
        match per_mille % 1000 {
            0..250 | 450..600 | 750..900 => Hour::Afternoon,
            250..450 => Hour::Rush,
            600..750 => Hour::Morning,
            _ => Hour::Night,
        }
    }

    /// Chooses a project, the busy ones more often.
    #[must_use]
    pub fn project(&self, random: &mut Random) -> &str {
        let all = self.projects.iter().map(|project| project.weight).sum();
        let mut left = random.below(all);
        for project in &self.projects {
            match left.checked_sub(project.weight) {
                Some(rest) => left = rest,
                None => return &project.id,
            }
        }
        ""
    }

    /// Creates a task for a project.
    #[must_use]
    pub fn task(&self, project: &str, random: &mut Random) -> Task {
        let tier = match random.below(100) {
            0..20 => Some("tiny"),
            20..60 => Some("small"),
            60..80 => Some("large"),
            80..87 => Some("frontier"),
            87..90 => Some(TIER_WITHOUT_WORKERS),
            _ => None,
        };
        let is_unchecked = random.chance(40);
        let size = random.size(*DESCRIPTION_BYTES.start(), *DESCRIPTION_BYTES.end());
        let mut options = json!({
            "qa_profile": if is_unchecked { "none" } else { "consensus" },
            "max_attempts": random.between(2, 5),
        });
        if let Some(tier) = tier {
            options["tier"] = json!(tier);
        }
        if random.chance(5) {
            options["timeout_seconds"] = json!(random.between(2, 6));
        }
        let priority = ["low", "normal", "high"];
        let body = json!({
            "description": random.text(size),
            "project_id": project,
            "priority": random.choose(&priority),
            "options": options,
            "metadata": {"seed": self.seed},
        });
        Task { project: project.to_owned(), tier, is_unchecked, body }
    }

    /// Chooses the behaviour of a worker.
    #[must_use]
    pub const fn worker_behaviour(random: &mut Random) -> WorkerBehaviour {
        match random.below(100) {
            0..4 => WorkerBehaviour::Slow,
            4..8 => WorkerBehaviour::Dies,
            8..11 => WorkerBehaviour::LateOutput,
            11..15 => WorkerBehaviour::LateFailure,
            15..20 => WorkerBehaviour::ReportsTwice,
            20..25 => WorkerBehaviour::Fails,
            25..29 => WorkerBehaviour::Releases,
            29..35 => WorkerBehaviour::VerdictFirst,
            _ => WorkerBehaviour::Sound,
        }
    }

    /// Chooses the size of an output, in bytes.
    #[must_use]
    pub fn output_size(hour: Hour, random: &mut Random) -> usize {
        let bytes = if hour == Hour::Rush { LARGE_OUTPUT_BYTES } else { OUTPUT_BYTES };
        random.size(*bytes.start(), *bytes.end())
    }

    /// Decides whether QA accepts an output: two of three.
    #[must_use]
    pub const fn is_accepted(random: &mut Random) -> bool {
        random.below(3) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_day() {
        let day = |seed: u64| {
            let day = Day::new(seed, "p");
            let mut random = Random::new(seed);
            let tasks = (0..50).map(|_| {
                let project = day.project(&mut random).to_owned();
                (day.task(&project, &mut random), Day::worker_behaviour(&mut random))
            });
            tasks.collect::<Vec<_>>()
        };
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(2));
    }

    #[test]
    fn a_day_has_every_hour_every_behaviour_and_projects_of_all_sizes() {
        for hour in [Hour::Night, Hour::Morning, Hour::Rush, Hour::Afternoon] {
            assert!((0..1000).any(|part| Day::hour(part) == hour), "{hour:?}");
        }
        let mut random = Random::new(9);
        let workers: Vec<WorkerBehaviour> = (0..1000).map(|_| Day::worker_behaviour(&mut random)).collect();
        let all = [
            WorkerBehaviour::Sound,
            WorkerBehaviour::Slow,
            WorkerBehaviour::Dies,
            WorkerBehaviour::LateOutput,
            WorkerBehaviour::LateFailure,
            WorkerBehaviour::ReportsTwice,
            WorkerBehaviour::Fails,
            WorkerBehaviour::Releases,
            WorkerBehaviour::VerdictFirst,
        ];
        for worker in all {
            assert!(workers.contains(&worker), "{worker:?}");
        }
        let day = Day::new(9, "p");
        let chosen: Vec<&str> = (0..2000).map(|_| day.project(&mut random)).collect();
        let count = |id: &str| chosen.iter().filter(|each| **each == id).count();
        assert!(count("p-1") > 4 * count("p-10") && count("p-10") > 0);
    }

    #[test]
    fn tasks_have_every_allowed_size() {
        let (day, mut random) = (Day::new(4, "p"), Random::new(4));
        let sizes = (0..300).map(|_| day.task("p-1", &mut random).body["description"].as_str().unwrap().len());
        let sizes: Vec<usize> = sizes.collect();
        assert!(sizes.iter().any(|size| *size < 500) && sizes.iter().any(|size| *size > 30_000));
        assert!(sizes.iter().all(|size| *size <= 64 * 1024));
        let outputs: Vec<usize> = (0..300).map(|_| Day::output_size(Hour::Rush, &mut random)).collect();
        assert!(outputs.iter().all(|size| *size > 64 * 1024));
    }
}
