//! The plan of a day: projects, submissions, workers and verdicts, by seed.

use std::time::Duration;

use serde_json::{Value, json};

use super::Random;

/// The tiers that tasks are submitted to.
pub const TIERS: [&str; 5] = ["tiny", "small", "large", "frontier", TIER_WITHOUT_WORKERS];

/// No worker serves this tier. No other tier escalates to it (`escalate_to`).
pub const TIER_WITHOUT_WORKERS: &str = "coding";

/// Sizes of descriptions in bytes; the contract allows 64 KiB.
const DESCRIPTION: (usize, usize) = (100, 60_000);
/// Sizes of outputs in bytes; with its envelope an event may have 1 MiB.
const OUTPUT: (usize, usize) = (100, 900_000);
/// Sizes of outputs in the busiest hour: all of them are kept in files of their own.
const LARGE_OUTPUT: (usize, usize) = (66_000, 260_000);

/// A project of the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Tasks that may be at work at once; `None`: the default of the service.
    pub max_concurrent: Option<u32>,
    /// Its share of all submissions, in parts of the sum of all weights.
    weight: u64,
}

/// What the day asks for at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hour {
    /// Little work; imports and exports.
    Night,
    /// Work begins.
    Morning,
    /// As much as the clients can send, with large outputs only.
    Rush,
    /// Steady work.
    Afternoon,
}

impl Hour {
    /// The longest pause between two requests of one client.
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

/// What a worker does with what it leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Works and reports its output.
    Sound,
    /// Takes longer than its lease and renews it.
    Slow,
    /// Never reports.
    Dies,
    /// Reports its output after its lease has run out.
    LateOutput,
    /// Reports a failure after its lease has run out.
    LateFailure,
    /// Reports its output twice under one id, and then under another one.
    ReportsTwice,
    /// Reports a failure in time.
    Fails,
    /// Gives the task back.
    Releases,
    /// Its verdict comes before its output.
    VerdictFirst,
}

/// A task to be submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its project.
    pub project: String,
    /// Its tier; `None`: the service chooses.
    pub tier: Option<&'static str>,
    /// Whether an output completes it without a verdict.
    pub is_unchecked: bool,
    /// The body of its submission, without dependencies.
    pub body: Value,
}

/// A day, as its seed makes it.
#[derive(Debug, Clone)]
pub struct Day {
    /// The seed.
    pub seed: u64,
    /// The projects, the busiest first.
    pub projects: Vec<Project>,
}

impl Day {
    /// The day of a seed, with ids of projects that begin with `prefix`.
    #[must_use]
    pub fn new(seed: u64, prefix: &str) -> Self {
        let limits = [None, Some(1), Some(3), Some(40), None, Some(2), Some(100), None, Some(5), Some(1)];
        let projects = limits.into_iter().zip(1..).map(|(max_concurrent, rank)| Project {
            id: format!("{prefix}-{rank}"),
            max_concurrent,
            // As Zipf found it: the second is half as busy as the first.
            weight: 2520 / rank,
        });
        Self { seed, projects: projects.collect() }
    }

    /// What the day asks for when so many thousandths of it have passed.
    #[must_use]
    pub const fn hour(per_mille: u64) -> Hour {
        match per_mille % 1000 {
            0..250 | 450..600 | 750..900 => Hour::Afternoon,
            250..450 => Hour::Rush,
            600..750 => Hour::Morning,
            _ => Hour::Night,
        }
    }

    /// A project, the busy ones more often.
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

    /// A task of this project.
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
        let size = random.size(DESCRIPTION.0, DESCRIPTION.1);
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

    /// What a worker does next.
    #[must_use]
    pub const fn worker(random: &mut Random) -> Worker {
        match random.below(100) {
            0..4 => Worker::Slow,
            4..8 => Worker::Dies,
            8..11 => Worker::LateOutput,
            11..15 => Worker::LateFailure,
            15..20 => Worker::ReportsTwice,
            20..25 => Worker::Fails,
            25..29 => Worker::Releases,
            29..35 => Worker::VerdictFirst,
            _ => Worker::Sound,
        }
    }

    /// The size of an output, in bytes.
    #[must_use]
    pub fn output_size(hour: Hour, random: &mut Random) -> usize {
        let (low, high) = if hour == Hour::Rush { LARGE_OUTPUT } else { OUTPUT };
        random.size(low, high)
    }

    /// Whether QA takes an output: two of three.
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
                (day.task(&project, &mut random), Day::worker(&mut random))
            });
            tasks.collect::<Vec<_>>()
        };
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(2));
    }

    #[test]
    fn a_day_has_every_hour_and_every_worker_and_projects_of_all_sizes() {
        for hour in [Hour::Night, Hour::Morning, Hour::Rush, Hour::Afternoon] {
            assert!((0..1000).any(|part| Day::hour(part) == hour), "{hour:?}");
        }
        let mut random = Random::new(9);
        let workers: Vec<Worker> = (0..1000).map(|_| Day::worker(&mut random)).collect();
        let all = [
            Worker::Sound,
            Worker::Slow,
            Worker::Dies,
            Worker::LateOutput,
            Worker::LateFailure,
            Worker::ReportsTwice,
            Worker::Fails,
            Worker::Releases,
            Worker::VerdictFirst,
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
    fn tasks_are_of_every_size_that_is_allowed() {
        let (day, mut random) = (Day::new(4, "p"), Random::new(4));
        let sizes = (0..300).map(|_| day.task("p-1", &mut random).body["description"].as_str().unwrap().len());
        let sizes: Vec<usize> = sizes.collect();
        assert!(sizes.iter().any(|size| *size < 500) && sizes.iter().any(|size| *size > 30_000));
        assert!(sizes.iter().all(|size| *size <= 64 * 1024));
        let outputs: Vec<usize> = (0..300).map(|_| Day::output_size(Hour::Rush, &mut random)).collect();
        assert!(outputs.iter().all(|size| *size > 64 * 1024));
    }
}
