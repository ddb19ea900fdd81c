//! What can go wrong with an answer over HTTP, made to order.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::ValueEnum;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{Map, Value, json};

/// How an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Fault {
    /// Not at all.
    None,
    /// The answer never comes.
    Hang,
    /// The answer comes late.
    Late,
    /// An error status instead of an answer.
    Error,
    /// The connection breaks in the middle of the answer.
    Cut,
    /// The answer is not JSON.
    Garbage,
    /// The answer does not end.
    Endless,
    /// Each field has a value of another type.
    WrongTypes,
    /// Subtasks depend on one another in a circle.
    Cycle,
    /// A subtask depends on one that does not exist.
    UnknownSibling,
    /// Two subtasks have the same id.
    Duplicate,
    /// More subtasks than allowed.
    TooMany,
}

impl Fault {
    /// Whether only the answer of a decomposition can have it.
    pub(super) const fn is_of_decomposition(self) -> bool {
        matches!(self, Self::Cycle | Self::UnknownSibling | Self::Duplicate | Self::TooMany)
    }
}

/// The same answer with a value of another type in each field.
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

/// The body of an answer, sound or not.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// This much, then the connection breaks.
    Cut(Bytes),
    /// A beginning, then the same again and again.
    Endless { beginning: Bytes, again: Bytes },
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Cut(bytes) if bytes.is_empty() => {
                return Poll::Ready(Some(Err(io::Error::other("the answer is cut here"))));
            }
            Self::Whole(bytes) | Self::Cut(bytes) => std::mem::take(bytes),
            Self::Endless { beginning, again } if beginning.is_empty() => again.clone(),
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
