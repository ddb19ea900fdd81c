//! Typed access to the members of an object. A member that is missing or
//! null is not there; one of the wrong type is a fault that names it.

use serde_json::{Map, Value};

use super::invalid::{Fault, describe};
use super::time;
use crate::json;
use crate::task::{ArtifactId, Timestamp};

/// A member, if it is there.
pub(super) type Found<T> = Result<Option<T>, Fault>;

/// The members of one object.
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    pointer: String,
}

impl<'a> Fields<'a> {
    /// The outermost object.
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object: Some(object), pointer: String::new() }
    }

    /// The place of a member.
    pub(super) fn pointer(&self, key: &str) -> String {
        json::child(&self.pointer, key)
    }

    /// The member as it is; null is none.
    pub(super) fn any(&self, key: &str) -> Option<&'a Value> {
        self.object?.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(&self, key: &str, allowed: &str, read: impl Fn(&'a Value) -> Option<T>) -> Found<T> {
        let Some(value) = self.any(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.fault(key, allowed)),
        }
    }

    /// A fault of a member: what it must be and what it was.
    pub(super) fn fault(&self, key: &str, allowed: &str) -> Fault {
        let was = self.any(key).map_or_else(|| "null".to_owned(), describe);
        Fault::value(self.pointer(key), format!("{allowed}, was {was}"))
    }

    /// A text, as it stands.
    pub(super) fn raw_text(&self, key: &str) -> Found<&'a str> {
        self.typed(key, "must be a string", Value::as_str)
    }

    /// A text; an empty one is none.
    pub(super) fn text(&self, key: &str) -> Found<&'a str> {
        Ok(self.raw_text(key)?.filter(|text| !text.is_empty()))
    }

    /// A text of the form that ids of others have; an empty one is none.
    pub(super) fn id(&self, key: &str) -> Found<ArtifactId> {
        self.text(key)?.map(|text| id(text, &self.pointer(key))).transpose()
    }

    /// A time; an empty text is none.
    pub(super) fn time(&self, key: &str) -> Found<Timestamp> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        time::read(text).map(Some).ok_or_else(|| self.fault(key, time::ALLOWED))
    }

    /// A whole number.
    pub(super) fn count(&self, key: &str) -> Found<u64> {
        self.typed(key, "must be a whole number from 0", Value::as_u64)
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Found<f64> {
        self.typed(key, "must be a number", Value::as_f64)
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &str) -> Found<bool> {
        self.typed(key, "must be true or false", Value::as_bool)
    }

    /// The members of an object inside; of none, where it is missing.
    pub(super) fn inside(&self, key: &str) -> Result<Self, Fault> {
        let object = self.typed(key, "must be an object", Value::as_object)?;
        Ok(Self { object, pointer: self.pointer(key) })
    }

    /// The objects of a list, each with its members.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Self>, Fault> {
        let place = |index: usize| format!("{}/{index}", self.pointer(key));
        let read = |(index, item): (usize, &'a Value)| match item.as_object() {
            Some(object) => Ok(Self { object: Some(object), pointer: place(index) }),
            None => Err(Fault::value(place(index), format!("must be an object, was {}", describe(item)))),
        };
        self.list(key)?.iter().enumerate().map(read).collect()
    }

    /// The ids of a list; empty ones are none.
    pub(super) fn ids(&self, key: &str) -> Result<Vec<ArtifactId>, Fault> {
        let mut ids = Vec::new();
        for (index, item) in self.list(key)?.iter().enumerate() {
            let place = format!("{}/{index}", self.pointer(key));
            match item.as_str() {
                Some("") => {}
                Some(text) => ids.push(id(text, &place)?),
                None => return Err(Fault::value(place, format!("must be a string, was {}", describe(item)))),
            }
        }
        Ok(ids)
    }

    fn list(&self, key: &str) -> Result<&'a [Value], Fault> {
        Ok(self.typed(key, "must be an array", Value::as_array)?.map_or(&[], Vec::as_slice))
    }
}

fn id(text: &str, pointer: &str) -> Result<ArtifactId, Fault> {
    ArtifactId::new(text)
        .map_err(|error| Fault::value(pointer.to_owned(), format!("{error}, was {}", json::quoted(text))))
}
