//! The bodies of answers: bytes that are there, or a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::transfer::ExportFailed;

/// The body of an answer.
#[derive(Debug)]
pub(in crate::http) enum Body {
    /// All of it at once.
    Full(Bytes),
    /// As it comes, from the task that makes it; it is dropped together with
    /// the connection.
    Stream(mpsc::Receiver<Bytes>),
    /// The same, where an end before the end must not pass for one: the
    /// connection is cut then.
    Breakable(mpsc::Receiver<Result<Bytes, ExportFailed>>),
    /// The same, and how many bytes are still to come: when they do not, the
    /// answer is broken off and can't be taken for whole.
    Measured(mpsc::Receiver<Bytes>, u64),
}

impl Body {
    /// All of it at once.
    pub(in crate::http) const fn full(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }

    /// Nothing.
    pub(in crate::http) const fn empty() -> Self {
        Self::Full(Bytes::new())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = ExportFailed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ExportFailed>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Measured(chunks, left) => chunks.poll_recv(cx).map(|chunk| {
                let chunk = chunk?;
                *left = left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
                Some(Ok(Frame::data(chunk)))
            }),
            Self::Stream(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
            Self::Breakable(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(_) | Self::Breakable(_) => false,
            Self::Measured(_, left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Stream(_) | Self::Breakable(_) => SizeHint::default(),
            Self::Measured(_, left) => SizeHint::with_exact(*left),
        }
    }
}
