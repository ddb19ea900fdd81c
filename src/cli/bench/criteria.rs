//! Output of the success criteria.

use comfy_table::{Cell, Color};
use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::output::{Format, Screen, line};
use crate::workload::criteria::{Report, Settings, Verdict, format_ms};
use crate::workload::load::Figures;

/// Prints a report. Fails if a criterion is missed.
pub(super) fn conclude(report: &Report, screen: &Screen) -> Result<(), Failure> {
    match screen.format {
        Format::Json => line(&json!(report).to_string())?,
        Format::Table => line(&text(report, screen))?,
    }
    match report.criteria.iter().filter(|each| each.verdict == Verdict::Missed).count() {
        0 => Ok(()),
        missed => Err(Failure::Failed(format!("{missed} of {} criteria missed", report.criteria.len()))),
    }
}

fn text(report: &Report, screen: &Screen) -> String {
    let rows = report.criteria.iter().map(|each| {
        let measured = each.measured.as_deref().unwrap_or("-");
        vec![Cell::new(each.name), Cell::new(each.limit), Cell::new(measured), verdict_cell(each.verdict)]
    });
    let criteria = screen.table(&["CRITERION", "LIMIT", "MEASURED", "VERDICT"], rows.collect(), &[]);
    let headers = ["REQUEST", "ANSWERS", "FAILED", "PER SECOND", "P50", "P95", "P99", "WORST"];
    let figures = screen.table(&headers, figure_rows(report), &["PER SECOND", "P99"]);
    let mut notes: Vec<String> = Vec::new();
    for each in &report.criteria {
        notes.extend(each.note.as_ref().map(|note| format!("{}: {note}", each.name)));
    }
    notes.push(circumstances(report));
    notes.extend(report.left_behind.clone());
    format!("{criteria}\n\n{figures}\n\n{}", notes.join("\n"))
}

fn verdict_cell(verdict: Verdict) -> Cell {
    match verdict {
        Verdict::Holds => Cell::new("holds").fg(Color::Green),
        Verdict::Missed => Cell::new("MISSED").fg(Color::Red),
        Verdict::NotMeasured => Cell::new("not measured").fg(Color::Yellow),
    }
}

fn figure_rows(report: &Report) -> Vec<Vec<Cell>> {
    let mut all = vec![("submissions", &report.submissions), ("status queries", &report.status_queries)];
    all.extend(report.events.figures.as_ref().map(|figures| ("events", figures)));
    let queries = report.provenance.iter().flat_map(|provenance| &provenance.queries);
    all.extend(queries.map(|query| (query.name, &query.figures)));
    let row = |(name, figures): (&str, &Figures)| {
        let time = |value: Option<f64>| Cell::new(value.map_or_else(|| "-".to_owned(), format_ms));
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

/// Describes program, machine and load, without which the figures can't be compared.
fn circumstances(report: &Report) -> String {
    let Settings { seconds, connections, rate_per_second, .. } = report.settings;
    let server = if report.server.is_private { "a private server" } else { &report.server.url };
    format!(
        "dats {} ({} build) against {server} on {} cores: {rate_per_second} submissions and as many status queries a \
         second for {seconds} s, {connections} connections each",
        report.version, report.build, report.cores
    )
}
