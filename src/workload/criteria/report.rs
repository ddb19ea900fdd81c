//! The report of a bench: each criterion with its limit and the measured value, and the
//! figures behind them.

use serde::Serialize;

use super::events::EventFigures;
use super::provenance::ProvenanceFigures;
use super::tasks::TaskCounts;
use crate::workload::load::Figures;

/// Limit of the P95 of a submission.
const SUBMISSION_MS: f64 = 500.0;
/// Limit of the P95 of a status query.
const STATUS_MS: f64 = 100.0;
/// Limit of the slowest P95 of the provenance queries.
const PROVENANCE_MS: f64 = 1000.0;
/// Limit of the time from an event to its visible effect.
const EVENT_MS: f64 = 2000.0;

/// The report of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// `release` or `debug`; a debug build is several times slower.
    pub build: &'static str,
    /// Cores of this machine.
    pub cores: usize,
    /// The server that was measured.
    pub server: ServerInfo,
    /// Settings of the run.
    pub settings: Settings,
    /// Whether every criterion that was measured is met.
    pub holds: bool,
    /// The criteria with their verdicts.
    pub criteria: Vec<Criterion>,
    /// Submissions.
    pub submissions: Figures,
    /// Status queries.
    pub status_queries: Figures,
    /// Counts of the acknowledged tasks.
    pub tasks: TaskCounts,
    /// Events.
    pub events: EventFigures,
    /// Provenance queries; `None` if there are no records.
    pub provenance: Option<ProvenanceFigures>,
    /// What stays on a server that was running before.
    pub left_behind: Option<String>,
}

/// The server that was measured.
#[derive(Debug, Serialize)]
pub struct ServerInfo {
    /// URL of the server.
    pub url: String,
    /// Whether the bench started it.
    pub is_private: bool,
    /// Version that the server reports.
    pub version: String,
}

/// Settings of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Settings {
    /// Length of the load, in seconds.
    pub seconds: u64,
    /// Most submissions under way at once, and as many status queries.
    pub connections: u32,
    /// Submissions a second, and as many status queries.
    pub rate_per_second: u32,
    /// Records that are imported and queried.
    pub records: u64,
}

/// A success criterion.
#[derive(Debug, Serialize)]
pub struct Criterion {
    /// Name of the criterion.
    pub name: &'static str,
    /// The limit in words.
    pub limit: &'static str,
    /// The measured value; `None` if it was not measured.
    pub measured: Option<String>,
    /// Whether the criterion is met.
    pub verdict: Verdict,
    /// Why nothing was measured, or details of the measurement.
    pub note: Option<String>,
}

/// Whether a criterion is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The criterion is met.
    Holds,
    /// The criterion is missed.
    #[serde(rename = "falls_short")]
    Missed,
    /// Nothing was measured.
    NotMeasured,
}

impl Verdict {
    const fn of(is_met: bool) -> Self {
        if is_met { Self::Holds } else { Self::Missed }
    }
}

/// Compares the measured values with the criteria. `provenance` holds the reason if the
/// queries were not measured.
pub(super) fn criteria(
    submissions: &Figures,
    status_queries: &Figures,
    tasks: &TaskCounts,
    events: &EventFigures,
    provenance: Result<&ProvenanceFigures, &str>,
) -> Vec<Criterion> {
    vec![
        p95_criterion("task submission, P95", "below 500 ms", SUBMISSION_MS, submissions),
        p95_criterion("status query, P95", "below 100 ms", STATUS_MS, status_queries),
        lost_tasks_criterion(tasks),
        provenance_criterion(provenance),
        events_criterion(events),
    ]
}

fn p95_criterion(name: &'static str, limit: &'static str, limit_ms: f64, figures: &Figures) -> Criterion {
    let verdict = Verdict::of(figures.p95_ms.is_some_and(|p95| p95 < limit_ms));
    Criterion { name, limit, measured: Some(p95_text(figures)), verdict, note: failures_note(figures) }
}

fn p95_text(figures: &Figures) -> String {
    figures.p95_ms.map_or_else(|| "more than 5 of 100 failed".to_owned(), format_ms)
}

fn failures_note(figures: &Figures) -> Option<String> {
    let reason = figures.first_error.as_deref()?;
    Some(format!("{} of {} failed, the first one: {reason}", figures.failed, figures.failed + figures.count))
}

fn lost_tasks_criterion(tasks: &TaskCounts) -> Criterion {
    let note = tasks.killed.as_ref().map(|killed| {
        let (before, ready) = (killed.acknowledged_before, format_ms(killed.started_again_in_ms));
        let under_way = killed.under_way;
        format!(
            "killed with `kill -9` after {before} acknowledgements without a pause, with {under_way} submissions under \
             way; ready again after {ready}"
        )
    });
    Criterion {
        name: "lost tasks",
        limit: "none",
        measured: Some(format!("{} of {}", tasks.lost, tasks.acknowledged)),
        verdict: Verdict::of(tasks.lost == 0),
        note,
    }
}

fn provenance_criterion(provenance: Result<&ProvenanceFigures, &str>) -> Criterion {
    let (name, limit) = ("provenance query, slowest P95", "below 1 s");
    let (measured, verdict, note) = match provenance {
        Ok(provenance) => {
            let slowest = provenance.slowest();
            let is_met = slowest.and_then(|slowest| slowest.figures.p95_ms).is_some_and(|p95| p95 < PROVENANCE_MS);
            let note = slowest.map(|slowest| {
                let failed = failures_note(&slowest.figures).map_or_else(String::new, |failed| format!("; {failed}"));
                format!("{} records; slowest: {}{failed}", provenance.records, slowest.name)
            });
            (slowest.map(|slowest| p95_text(&slowest.figures)), Verdict::of(is_met), note)
        }
        Err(reason) => (None, Verdict::NotMeasured, Some(reason.to_owned())),
    };
    Criterion { name, limit, measured, verdict, note }
}

fn events_criterion(events: &EventFigures) -> Criterion {
    let (name, limit) = ("event to visible effect, worst", "within 2 s");
    let Some(figures) = &events.figures else {
        let note = events.not_measured.clone();
        return Criterion { name, limit, measured: None, verdict: Verdict::NotMeasured, note };
    };
    let is_met = figures.failed == 0 && figures.worst_ms.is_some_and(|worst| worst <= EVENT_MS);
    let stopped = events.not_measured.as_ref().map(|reason| format!("ended early: {reason}"));
    let note = failures_note(figures).or(stopped);
    Criterion { name, limit, measured: figures.worst_ms.map(format_ms), verdict: Verdict::of(is_met), note }
}

/// Formats milliseconds for people.
#[must_use]
pub fn format_ms(milliseconds: f64) -> String {
    if milliseconds < 10.0 {
        format!("{milliseconds:.2} ms")
    } else if milliseconds < 10_000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workload::load::Latencies;

    fn figures(millis: u64, failed: u64) -> Figures {
        let mut latencies = Latencies::default();
        (0..100).for_each(|_| latencies.record(Duration::from_millis(millis)));
        (0..failed).for_each(|_| latencies.record_failure("no"));
        latencies.figures(Duration::from_secs(1))
    }

    fn verdicts(submission: &Figures, events: &EventFigures, lost: u64) -> Vec<Verdict> {
        let tasks = TaskCounts { lost, acknowledged: 100, ..TaskCounts::default() };
        let criteria = criteria(submission, &figures(99, 0), &tasks, events, Err("not requested"));
        criteria.iter().map(|each| each.verdict).collect()
    }

    #[test]
    fn limits_are_those_of_the_criteria() {
        use Verdict::{Holds, Missed, NotMeasured};
        let events = |millis, failed| EventFigures { figures: Some(figures(millis, failed)), not_measured: None };
        assert_eq!(verdicts(&figures(499, 0), &events(1990, 0), 0), [Holds, Holds, Holds, NotMeasured, Holds]);
        let missed = [Missed, Holds, Missed, NotMeasured, Missed];
        assert_eq!(verdicts(&figures(501, 0), &events(2010, 0), 1), missed);
        // One event without effect is too many; of requests, one of twenty may fail.
        assert_eq!(verdicts(&figures(499, 5), &events(10, 1), 0), [Holds, Holds, Holds, NotMeasured, Missed]);
        assert_eq!(verdicts(&figures(499, 6), &events(10, 0), 0), [Missed, Holds, Holds, NotMeasured, Holds]);
        let none = EventFigures { figures: None, not_measured: Some("leasing is not available".to_owned()) };
        assert_eq!(verdicts(&figures(1, 0), &none, 0)[4], NotMeasured);
    }
}
