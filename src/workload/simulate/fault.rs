//! Faults of an answer over HTTP, produced on request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::ValueEnum;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{Map, Value, json};

/// A fault of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// No fault.
    None,
    /// The answer never arrives.
    Hang,
    /// The answer arrives late.
    Late,
    /// The answer is an error status.
    Error,
    /// The connection closes in the middle of the answer.
    Cut,
    /// The answer is not JSON.
    Garbage,
    /// The answer has no end.
    Endless,
    /// Each field has a value of the wrong type.
    WrongTypes,
    /// Subtasks depend on one another in a cycle.
    Cycle,
    /// A subtask depends on one that does not exist.
    UnknownSibling,
    /// Two subtasks have the same id.
    Duplicate,
    /// There are more subtasks than allowed.
    TooMany,
}

impl Fault {
    /// Returns whether only the answer to a decomposition can have this fault.
    pub(super) const fn concerns_decomposition(self) -> bool {
        matches!(self, Self::Cycle | Self::UnknownSibling | Self::Duplicate | Self::TooMany)
    }
}

/// Returns the answer with a value of the wrong type in each field.
pub(super) fn with_wrong_types(answer: &Value) -> Value {
    let wrong = |value: &Value| match value {
        Value::String(_) | Value::Null => json!(7),
        Value::Number(_) => json!("seven"),
        Value::Bool(_) => json!("yes"),
        Value::Array(_) => json!({"0": "not a list"}),
        Value::Object(_) => json!([]),
    };
    let fields = answer.as_object().into_iter().flatten();
    Value::Object(fields.map(|(key, value)| (key.clone(), wrong(value))).collect::<Map<_, _>>())
}

/// The body of an answer, complete or faulty.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// The complete answer.
    Whole(Bytes),
    /// A part of the answer, after which the connection closes.
    Cut(Bytes),
    /// A beginning, followed by endless repetitions.
    Endless { beginning: Bytes, repeated: Bytes },
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Cut(bytes) if bytes.is_empty() => {
                return Poll::Ready(Some(Err(io::Error::other("the answer ends here on request"))));
            }
            Self::Whole(bytes) | Self::Cut(bytes) => std::mem::take(bytes),
            Self::Endless { beginning, repeated } if beginning.is_empty() => repeated.clone(),
            Self::Endless { beginning, .. } => std::mem::take(beginning),
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Cut(_) | Self::Endless { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_types_are_wrong_in_every_field() {
        let answer = json!({"a": "x", "b": 1, "c": true, "d": [1], "e": {}, "f": null});
        let wrong = with_wrong_types(&answer);
        assert_eq!(wrong, json!({"a": 7, "b": "seven", "c": "yes", "d": {"0": "not a list"}, "e": [], "f": 7}));
    }
}
