//! Large contents of outputs, written to files before the writer gets the event.

use std::sync::Arc;

use crate::engine::api::{EventContent, IncomingEvent, PreparedEvent};
use crate::engine::read::ReadSide;
use crate::store::{self, MAX_ROW_BYTES};
use crate::task::{Content, Output, Report};

fn output_of(event: &IncomingEvent) -> Option<&Output> {
    match &event.message {
        EventContent::Report { report: Report::Output(output), .. } => Some(output),
        EventContent::Report { .. } | EventContent::Cascade { .. } | EventContent::Rollback(_) => None,
    }
}

fn is_large(content: &Content) -> bool {
    content.text().is_some_and(|text| text.len() > MAX_ROW_BYTES)
}

/// Returns whether an event has contents that are too large for a row.
pub(super) fn has_large(event: &IncomingEvent) -> bool {
    output_of(event).is_some_and(|output| output.contents.values().any(is_large))
}

/// Returns the bytes of all contents of events, whether or not they go into files.
pub(super) fn total_bytes(events: &[IncomingEvent]) -> u64 {
    let contents = events.iter().filter_map(output_of).flat_map(|output| output.contents.values());
    let lengths = contents.filter_map(Content::text).map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX));
    lengths.fold(0, u64::saturating_add)
}

/// Writes the large contents of an event to files and removes them from the event.
pub(super) fn prepare(side: &ReadSide, mut event: IncomingEvent) -> Result<PreparedEvent, store::Error> {
    let mut files = Vec::new();
    if let EventContent::Report { report: Report::Output(output), .. } = &mut event.message {
        for content in output.contents.values_mut().filter(|content| is_large(content)) {
            let Some(text) = content.text() else { continue };
            // A store without a directory keeps all contents in rows.
            let Some(file) = side.store.keep_content(content.sha256(), text.as_bytes())? else { continue };
            content.drop_text();
            files.push(Arc::new(file));
        }
    }
    Ok(PreparedEvent { event, files })
}
