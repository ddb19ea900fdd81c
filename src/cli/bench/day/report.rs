//! What a day says at its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::Cell;
use serde::Serialize;
use serde_json::json;

use super::findings::{Asked, Finding};
use super::resources::Resources;
use crate::cli::exit::Failure;
use crate::cli::output::{Format, Screen, line};

/// The verdict of a day, and what it rests on.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) server_version: String,
    pub(super) seed: u64,
    pub(super) minutes: u64,
    /// Whether nothing was found.
    pub(super) holds: bool,
    /// Tasks whose submission was acknowledged.
    pub(super) tasks: u64,
    /// Outputs that were acknowledged as applied.
    pub(super) outputs: u64,
    /// Times that the server was killed.
    pub(super) kills: u64,
    /// Seconds from the end of the work until everything had ended.
    pub(super) drained_in_seconds: u64,
    pub(super) requests: BTreeMap<&'static str, Asked>,
    /// After an idle start, after the work, and a little later; none of a running server.
    pub(super) resources: Vec<Resources>,
    /// Findings by kind.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// A few of each kind.
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// Prints it; a failure when something was found.
    pub(super) fn conclude(&self, screen: &Screen) -> Result<(), Failure> {
        match screen.format {
            Format::Json => line(&json!(self).to_string())?,
            Format::Table => line(&self.text(screen))?,
        }
        if self.holds {
            return Ok(());
        }
        let all: u64 = self.counts.values().sum();
        Err(Failure::Failed(format!("the day of seed {} has {all} findings", self.seed)))
    }

    fn text(&self, screen: &Screen) -> String {
        let rows = self.requests.iter().map(|(kind, asked)| {
            let worst = Duration::from_millis(asked.worst_ms);
            let numbers = [asked.answered, asked.refused, asked.lost].map(Cell::new);
            [Cell::new(kind)].into_iter().chain(numbers).chain([Cell::new(format!("{worst:.1?}"))]).collect()
        });
        let requests = screen.table(&["REQUEST", "ANSWERED", "429 OR 503", "LOST", "WORST"], rows.collect(), &[]);
        let mut text = format!(
            "{requests}\n\nseed {}, {} minutes: {} tasks, {} outputs, {} kills; everything had ended {} s after the work\n",
            self.seed, self.minutes, self.tasks, self.outputs, self.kills, self.drained_in_seconds
        );
        for (name, each) in ["idle", "after the work", "later"].iter().zip(&self.resources) {
            let Resources { memory_kib, descriptors, files, bytes } = each;
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "{name}: {} MiB of memory, {descriptors} descriptors, {files} files, {} MiB on disk",
                memory_kib >> 10,
                bytes >> 20
            );
        }
        for finding in &self.findings {
            let Finding { kind, what, at_seconds, request, answer } = finding;
            let _ = writeln!(text, "\n{kind} at {at_seconds} s: {what}\n  {request}\n  {answer}");
        }
        let verdict = if self.holds { "holds: nothing was found" } else { "FINDINGS" };
        let counts: Vec<String> = self.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{text}\n{verdict} {}", counts.join(", "))
    }
}
