//! Identifiers. Each is a type of its own and validated when it is created, so that a task id
//! cannot be passed where a lease id is expected.
//!
//! Ids made by this service are UUIDs of version 7, which sort by creation time and so keep rows of
//! one period together on disk. Ids from outside are text of 1 to 255 bytes without control
//! characters. Imported tasks and records have ids from outside: a text that is no UUID stands for
//! a UUID derived from it.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Longest id from outside, in bytes.
pub const MAX_ID_BYTES: usize = 255;

/// Why a text is no valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`]; holds its length in bytes.
    #[error("must be at most {MAX_ID_BYTES} bytes, was {0}")]
    TooLong(usize),
    /// The text has a control character.
    #[error("must not contain control characters")]
    Control,
    /// The text is not a UUID, and the id is of a kind that this service makes.
    #[error("must be a UUID")]
    NotUuid,
    /// The text has a character that this kind of name does not allow.
    #[error("must have only lowercase letters, digits, `-`, `_`, starting with a letter")]
    NotAName,
}

fn check_text(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(InvalidId::TooLong(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidId::Control);
    }
    Ok(())
}

fn check_name(text: &str) -> Result<(), InvalidId> {
    check_text(text)?;
    let mut bytes = text.bytes();
    let first_is_letter = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let rest_fits = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if first_is_letter && rest_fits { Ok(()) } else { Err(InvalidId::NotAName) }
}

/// Deserializes an id from a borrowed text, without a copy of the text.
struct OfText<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> Visitor<'_> for OfText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `text` and makes an id of it.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(OfText(PhantomData))
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID made for this purpose.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The 16 bytes, which sort like the ids.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// Writes the id as text into `buffer`.
            #[must_use]
            pub fn to_text(self, buffer: &mut [u8; 36]) -> &str {
                self.0.hyphenated().encode_lower(buffer)
            }

            /// Reverses [`Self::to_bytes`].
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::NotUuid)
            }
        }
    };
}

uuid_id! {
    /// A task, always made by this service.
    TaskId
}
uuid_id! {
    /// One lease of a task by a worker (embedded bus).
    LeaseId
}
uuid_id! {
    /// A provenance record: one for each attempt that produced something.
    RecordId
}
/// Namespace of derived ids.
const NAMED: Uuid = uuid::uuid!("6f4b5a1e-8f57-4b0c-9d0a-2b6c1c7f3e11");

/// The UUID that a text stands for: the text itself if it is a UUID, else a UUID derived from it,
/// always the same.
fn of_text(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| Uuid::new_v5(&NAMED, text.as_bytes()))
}

impl TaskId {
    /// The id of a task that is known outside by this text.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self(of_text(text))
    }
}

impl RecordId {
    /// The id of a record that is known outside by this text.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self(of_text(text))
    }
}

text_id! {
    /// A project: the unit of limits, fairness and counting.
    ProjectId, check_text
}
text_id! {
    /// An artifact, named by the worker that produced it.
    ArtifactId, check_text
}
text_id! {
    /// A checkpoint of a project: a UUID where it was made here, any text
    /// where it was imported.
    CheckpointId, check_text
}

text_id! {
    /// A worker, as it names itself.
    WorkerId, check_text
}
text_id! {
    /// A review by a person, named by the QA service.
    ReviewId, check_text
}
text_id! {
    /// A class of models. A validated name with a configured list, not a
    /// closed set: new tiers may come.
    Tier, check_name
}
text_id! {
    /// The kind of work, such as `code-general`.
    Domain, check_name
}
text_id! {
    /// How an output is validated, such as `consensus`, or `none`.
    QaProfile, check_name
}
text_id! {
    /// What kind of request a task is, such as `new_project` or `fix_bug`.
    Mode, check_name
}

impl QaProfile {
    /// Whether outputs complete their task without validation.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.as_str() == "none"
    }
}

/// Hash over the source and the id of an event, by which repeated deliveries are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventHash(pub [u8; 16]);

/// Bits of a position within its epoch: more positions than a store will ever use.
const EPOCH_BITS: u32 = 32;

/// Position of a change in the log: a sequence without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The next position, saturating: clients may name the largest number, after which nothing
    /// follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The first position of the next epoch. A store created from another one starts there, so that
    /// none of its positions was ever used by the other store, which may have continued.
    #[must_use]
    pub const fn next_epoch(self) -> Self {
        Self(((self.0 >> EPOCH_BITS) + 1) << EPOCH_BITS)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ids_hold_their_limits() {
        assert_eq!(ProjectId::new(""), Err(InvalidId::Empty));
        assert_eq!(ProjectId::new("a\u{0}b"), Err(InvalidId::Control));
        assert_eq!(ProjectId::new(&"x".repeat(256)), Err(InvalidId::TooLong(256)));
        assert_eq!(ProjectId::new(&"x".repeat(255)).unwrap().as_str().len(), 255);
        assert_eq!(ProjectId::new("péché/ 1").unwrap().to_string(), "péché/ 1");
    }

    #[test]
    fn names_allow_few_characters() {
        assert!(Tier::new("small").is_ok());
        assert_eq!(Tier::new("Small"), Err(InvalidId::NotAName));
        assert_eq!(Tier::new("1st"), Err(InvalidId::NotAName));
        assert!(Domain::new("code-general").is_ok());
    }

    #[test]
    fn uuid_ids_round_trip() {
        let id: TaskId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(TaskId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
        assert_eq!("task-456".parse::<TaskId>(), Err(InvalidId::NotUuid));
    }

    #[test]
    fn epochs_follow_each_other() {
        assert_eq!(Seq(5).next_epoch(), Seq(1 << 32));
        assert_eq!(Seq((1 << 32) + 7).next_epoch(), Seq(2 << 32));
    }
}
