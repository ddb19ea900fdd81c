//! What a bench says: each criterion with its limit and what was measured, and
//! the figures behind it.

use comfy_table::{Cell, Color};
use serde::Serialize;
use serde_json::json;

use super::events::Events;
use super::load::Kept;
use super::pace::Figures;
use super::provenance::Provenance;
use crate::cli::exit::Failure;
use crate::cli::output::{Format, Screen, line};

/// The P95 of a submission stays below.
const SUBMISSION_MS: f64 = 500.0;
/// The P95 of a status query stays below.
const STATUS_MS: f64 = 100.0;
/// The slowest P95 of the questions about provenance stays below.
const PROVENANCE_MS: f64 = 1000.0;
/// Every event has its effect within.
const EVENT_MS: f64 = 2000.0;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Of this program.
    pub(super) version: &'static str,
    /// A debug build is several times slower, and its figures say nothing.
    pub(super) build: &'static str,
    /// Of the machine that this ran on.
    pub(super) cores: usize,
    pub(super) server: Server,
    pub(super) settings: Settings,
    /// Whether everything that was measured holds.
    pub(super) holds: bool,
    pub(super) criteria: Vec<Criterion>,
    pub(super) submissions: Figures,
    pub(super) status_queries: Figures,
    pub(super) tasks: Kept,
    pub(super) events: Events,
    pub(super) provenance: Option<Provenance>,
    /// What stays on the server.
    pub(super) left_behind: Option<String>,
}

/// The server that was asked.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) url: String,
    /// Started for this and gone by now.
    pub(super) is_private: bool,
    pub(super) version: String,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Settings {
    pub(super) seconds: u64,
    pub(super) connections: u32,
    pub(super) rate_per_second: u32,
    pub(super) records: u64,
}

/// One of the success criteria.
#[derive(Debug, Serialize)]
pub(super) struct Criterion {
    pub(super) name: &'static str,
    pub(super) limit: &'static str,
    pub(super) measured: Option<String>,
    pub(super) verdict: Verdict,
    /// Why nothing was measured, or what was asked.
    pub(super) note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Holds,
    FallsShort,
    NotMeasured,
}

impl Verdict {
    const fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::FallsShort }
    }

    fn cell(self) -> Cell {
        match self {
            Self::Holds => Cell::new("holds").fg(Color::Green),
            Self::FallsShort => Cell::new("FALLS SHORT").fg(Color::Red),
            Self::NotMeasured => Cell::new("not measured").fg(Color::Yellow),
        }
    }
}

/// Holds what was measured against the criteria.
pub(super) fn criteria(
    submissions: &Figures,
    status_queries: &Figures,
    tasks: &Kept,
    events: &Events,
    provenance: Result<&Provenance, &str>,
) -> Vec<Criterion> {
    vec![
        by_p95("task submission, P95", "below 500 ms", SUBMISSION_MS, submissions),
        by_p95("status query, P95", "below 100 ms", STATUS_MS, status_queries),
        lost(tasks),
        asked(provenance),
        seen(events),
    ]
}

fn by_p95(name: &'static str, limit: &'static str, limit_ms: f64, figures: &Figures) -> Criterion {
    let verdict = Verdict::of(figures.p95_ms.is_some_and(|p95| p95 < limit_ms));
    Criterion { name, limit, measured: Some(p95(figures)), verdict, note: failures(figures) }
}

fn p95(figures: &Figures) -> String {
    figures.p95_ms.map_or_else(|| "more than 5 of 100 failed".to_owned(), shown)
}

fn failures(figures: &Figures) -> Option<String> {
    let reason = figures.first_error.as_deref()?;
    Some(format!("{} of {} failed, the first one: {reason}", figures.failed, figures.failed + figures.count))
}

fn lost(tasks: &Kept) -> Criterion {
    let note = tasks.killed.as_ref().map(|killed| {
        let (before, again) = (killed.acknowledged_before, shown(killed.started_again_in_ms));
        let under_way = killed.under_way;
        format!(
            "killed by `kill -9` after {before} acknowledgements without a pause, with {under_way} submissions under \
             way; ready again in {again}"
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

fn asked(provenance: Result<&Provenance, &str>) -> Criterion {
    let (name, limit) = ("provenance query, slowest P95", "below 1 s");
    let (measured, verdict, note) = match provenance {
        Ok(provenance) => {
            let slowest = provenance.slowest();
            let holds = slowest.and_then(|slowest| slowest.figures.p95_ms).is_some_and(|p95| p95 < PROVENANCE_MS);
            let note = slowest.map(|slowest| {
                let failed = failures(&slowest.figures).map_or_else(String::new, |failed| format!("; {failed}"));
                format!("{} records; slowest: {}{failed}", provenance.records, slowest.name)
            });
            (slowest.map(|slowest| p95(&slowest.figures)), Verdict::of(holds), note)
        }
        Err(reason) => (None, Verdict::NotMeasured, Some(reason.to_owned())),
    };
    Criterion { name, limit, measured, verdict, note }
}

fn seen(events: &Events) -> Criterion {
    let (name, limit) = ("event to visible effect, worst", "within 2 s");
    let Some(figures) = &events.figures else {
        let note = events.not_measured.clone();
        return Criterion { name, limit, measured: None, verdict: Verdict::NotMeasured, note };
    };
    let holds = figures.failed == 0 && figures.worst_ms.is_some_and(|worst| worst <= EVENT_MS);
    let stopped = events.not_measured.as_ref().map(|reason| format!("ended early: {reason}"));
    let note = failures(figures).or(stopped);
    Criterion { name, limit, measured: figures.worst_ms.map(shown), verdict: Verdict::of(holds), note }
}

/// Milliseconds for people.
fn shown(milliseconds: f64) -> String {
    if milliseconds < 10.0 {
        format!("{milliseconds:.2} ms")
    } else if milliseconds < 10_000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1000.0)
    }
}

impl Report {
    /// Prints it; a failure when something falls short.
    pub(super) fn conclude(&self, screen: &Screen) -> Result<(), Failure> {
        match screen.format {
            Format::Json => line(&json!(self).to_string())?,
            Format::Table => line(&self.text(screen))?,
        }
        let short = self.criteria.iter().filter(|each| each.verdict == Verdict::FallsShort).count();
        if short == 0 {
            return Ok(());
        }
        Err(Failure::Failed(format!("{short} of {} criteria not met", self.criteria.len())))
    }

    fn text(&self, screen: &Screen) -> String {
        let rows = self.criteria.iter().map(|each| {
            let measured = each.measured.as_deref().unwrap_or("-");
            vec![Cell::new(each.name), Cell::new(each.limit), Cell::new(measured), each.verdict.cell()]
        });
        let criteria = screen.table(&["CRITERION", "LIMIT", "MEASURED", "VERDICT"], rows.collect(), &[]);
        let headers = ["WHAT", "ANSWERS", "FAILED", "PER SECOND", "P50", "P95", "P99", "WORST"];
        let figures = screen.table(&headers, self.rows(), &["PER SECOND", "P99"]);
        let mut notes: Vec<String> = Vec::new();
        for each in &self.criteria {
            notes.extend(each.note.as_ref().map(|note| format!("{}: {note}", each.name)));
        }
        notes.push(self.circumstances());
        notes.extend(self.left_behind.clone());
        format!("{criteria}\n\n{figures}\n\n{}", notes.join("\n"))
    }

    fn rows(&self) -> Vec<Vec<Cell>> {
        let mut all = vec![("submissions", &self.submissions), ("status queries", &self.status_queries)];
        all.extend(self.events.figures.as_ref().map(|figures| ("events", figures)));
        let questions = self.provenance.iter().flat_map(|provenance| &provenance.questions);
        all.extend(questions.map(|question| (question.name, &question.figures)));
        let row = |(name, figures): (&str, &Figures)| {
            let time = |value: Option<f64>| Cell::new(value.map_or_else(|| "-".to_owned(), shown));
            vec![
                Cell::new(name),
                Cell::new(figures.count),
                Cell::new(figures.failed),
                Cell::new(figures.per_second),
                time(figures.p50_ms),
                time(figures.p95_ms),
                time(figures.p99_ms),
                time(figures.worst_ms),
            ]
        };
        all.into_iter().map(row).collect()
    }

    /// What figures are worth nothing without.
    fn circumstances(&self) -> String {
        let Settings { seconds, connections, rate_per_second, .. } = self.settings;
        let server = if self.server.is_private { "a server of its own" } else { &self.server.url };
        format!(
            "dats {} ({} build) against {server} on {} cores: {rate_per_second} submissions and as many status \
             queries a second for {seconds} s, {connections} connections each",
            self.version, self.build, self.cores
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::pace::Latencies;
    use super::*;

    fn figures(millis: u64, failed: u64) -> Figures {
        let mut latencies = Latencies::new().unwrap();
        (0..100).for_each(|_| latencies.add(Duration::from_millis(millis)));
        (0..failed).for_each(|_| latencies.add_failure("no"));
        latencies.figures(Duration::from_secs(1))
    }

    fn verdicts(submission: &Figures, events: &Events, lost: u64) -> Vec<Verdict> {
        let tasks = Kept { lost, acknowledged: 100, ..Kept::default() };
        let criteria = criteria(submission, &figures(99, 0), &tasks, events, Err("not asked for"));
        criteria.iter().map(|each| each.verdict).collect()
    }

    #[test]
    fn limits_are_those_of_the_criteria() {
        use Verdict::{FallsShort, Holds, NotMeasured};
        let events = |millis, failed| Events { figures: Some(figures(millis, failed)), not_measured: None };
        assert_eq!(verdicts(&figures(499, 0), &events(1990, 0), 0), [Holds, Holds, Holds, NotMeasured, Holds]);
        let short = [FallsShort, Holds, FallsShort, NotMeasured, FallsShort];
        assert_eq!(verdicts(&figures(501, 0), &events(2010, 0), 1), short);
        // One event without effect is too many; of requests, one of twenty may fail.
        assert_eq!(verdicts(&figures(499, 5), &events(10, 1), 0), [Holds, Holds, Holds, NotMeasured, FallsShort]);
        assert_eq!(verdicts(&figures(499, 6), &events(10, 0), 0), [FallsShort, Holds, Holds, NotMeasured, Holds]);
        let none = Events { figures: None, not_measured: Some("leasing is not available".to_owned()) };
        assert_eq!(verdicts(&figures(1, 0), &none, 0)[4], NotMeasured);
    }
}
