//! Output of the report of a day.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::Cell;
use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::output::{Format, Screen, line};
use crate::workload::day::{Finding, Report, Resources};

/// Prints a report. Fails if there are findings.
pub(super) fn conclude(report: &Report, screen: &Screen) -> Result<(), Failure> {
    match screen.format {
        Format::Json => line(&json!(report).to_string())?,
        Format::Table => line(&text(report, screen))?,
    }
    if report.holds {
        return Ok(());
    }
    let all: u64 = report.counts.values().sum();
    Err(Failure::Failed(format!("the day of seed {} has {all} findings", report.seed)))
}

fn text(report: &Report, screen: &Screen) -> String {
    let rows = report.requests.iter().map(|(kind, counts)| {
        let worst = Duration::from_millis(counts.worst_ms);
        let numbers = [counts.answered, counts.refused, counts.lost].map(Cell::new);
        [Cell::new(kind)].into_iter().chain(numbers).chain([Cell::new(format!("{worst:.1?}"))]).collect()
    });
    let requests = screen.table(&["REQUEST", "ANSWERED", "429 OR 503", "LOST", "WORST"], rows.collect(), &[]);
    let mut text = format!(
        "{requests}\n\nseed {}, {} minutes: {} tasks, {} outputs, {} kills; all tasks had ended {} s after the work\n",
        report.seed, report.minutes, report.tasks, report.outputs, report.kills, report.drained_in_seconds
    );
    for (name, each) in ["idle", "after the work", "later"].iter().zip(&report.resources) {
        let Resources { memory_kib, descriptors, files, bytes } = each;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{name}: {} MiB of memory, {descriptors} descriptors, {files} files, {} MiB on disk",
            memory_kib >> 10,
            bytes >> 20
        );
    }
    for finding in &report.findings {
        let Finding { kind, what, at_seconds, request, answer } = finding;
        let _ = writeln!(text, "\n{kind} at {at_seconds} s: {what}\n  {request}\n  {answer}");
    }
    let verdict = if report.holds { "holds: no findings" } else { "FINDINGS" };
    let counts: Vec<String> = report.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!("{text}\n{verdict} {}", counts.join(", "))
}
