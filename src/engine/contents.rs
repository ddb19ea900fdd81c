//! Large contents of outputs: written to files on the caller's side, so that
//! the writer never waits for one.

use std::sync::Arc;

use super::api::Error;
use super::handle::Engine;
use super::incoming::{Incoming, Message};
use super::read::ReadSide;
use super::room::content_bytes;
use crate::store::{self, ContentFile, KeptContent, MAX_ROW_BYTES};
use crate::task::{Content, Report};

/// An event, and the files that hold its large contents in place of their texts.
/// They stay as long as it, or a commit, holds them.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) event: Incoming,
    pub(super) files: Vec<Arc<ContentFile>>,
}

fn is_large(content: &Content) -> bool {
    content.text().is_some_and(|text| text.len() > MAX_ROW_BYTES)
}

fn has_large(event: &Incoming) -> bool {
    match &event.message {
        Message::Report { report: Report::Output(output), .. } => output.contents.values().any(is_large),
        Message::Report { .. } | Message::Cascade { .. } | Message::Rollback(_) => false,
    }
}

impl Prepared {
    /// The event; its large contents are in files.
    #[must_use]
    pub const fn event(&self) -> &Incoming {
        &self.event
    }

    fn new(side: &ReadSide, mut event: Incoming) -> Result<Self, store::Error> {
        let mut files = Vec::new();
        if let Message::Report { report: Report::Output(output), .. } = &mut event.message {
            for content in output.contents.values_mut().filter(|content| is_large(content)) {
                let Some(text) = content.text() else { continue };
                // A store without a directory keeps everything in rows.
                let Some(file) = side.store.keep_content(content.sha256(), text.as_bytes())? else { continue };
                content.leave();
                files.push(Arc::new(file));
            }
        }
        Ok(Self { event, files })
    }
}

impl Engine {
    /// Brings the large contents of events to disk, once, however often the
    /// writer is asked to take them then.
    pub async fn prepare(&self, events: Vec<Incoming>) -> Result<Vec<Prepared>, Error> {
        if !events.iter().any(has_large) {
            return Ok(events.into_iter().map(|event| Prepared { event, files: Vec::new() }).collect());
        }
        let bytes = events.iter().fold(0_u64, |sum, event| sum.saturating_add(content_bytes(&event.message)));
        let _room = self.admit_contents(bytes)?;
        self.read(move |side| events.into_iter().map(|event| Prepared::new(side, event)).collect()).await
    }

    /// A content, held against its SHA-256; `None`: none is kept under it.
    pub async fn content(&self, sha256: [u8; 32]) -> Result<Option<KeptContent>, Error> {
        self.read(move |side| side.store.view()?.open_content(sha256)).await
    }

    /// The length of a content.
    pub async fn content_length(&self, sha256: [u8; 32]) -> Result<Option<u64>, Error> {
        self.read(move |side| side.store.view()?.content_length(sha256)).await
    }
}
