//! Typed access to the members of an object. Null counts as missing; a member of the wrong type is
//! a fault that names it.

use serde_json::{Map, Value};

use super::invalid::{Fault, describe};
use super::time;
use crate::json;
use crate::task::{ArtifactId, Timestamp};

/// An optional member.
pub(super) type Found<T> = Result<Option<T>, Fault>;

/// The members of one object, with its place in the document.
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    pointer: String,
}

impl<'a> Fields<'a> {
    /// Creates the accessor of a top-level object.
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object: Some(object), pointer: String::new() }
    }

    /// Returns the JSON pointer of a member.
    pub(super) fn pointer(&self, key: &str) -> String {
        json::child(&self.pointer, key)
    }

    /// Returns a member of any type; `None` for null.
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

    /// Creates a fault that names a member, the allowed values and the value found.
    pub(super) fn fault(&self, key: &str, allowed: &str) -> Fault {
        let was = self.any(key).map_or_else(|| "null".to_owned(), describe);
        Fault::value(self.pointer(key), format!("{allowed}, was {was}"))
    }

    /// Returns a text, which may be empty.
    pub(super) fn raw_text(&self, key: &str) -> Found<&'a str> {
        self.typed(key, "must be a string", Value::as_str)
    }

    /// Returns a text; `None` if it is empty.
    pub(super) fn text(&self, key: &str) -> Found<&'a str> {
        Ok(self.raw_text(key)?.filter(|text| !text.is_empty()))
    }

    /// Returns an id of another service; `None` if it is empty.
    pub(super) fn id(&self, key: &str) -> Found<ArtifactId> {
        self.text(key)?.map(|text| id(text, &self.pointer(key))).transpose()
    }

    /// Returns a time; `None` for an empty text.
    pub(super) fn time(&self, key: &str) -> Found<Timestamp> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        time::read(text).map(Some).ok_or_else(|| self.fault(key, time::ALLOWED))
    }

    /// Returns a non-negative integer.
    pub(super) fn count(&self, key: &str) -> Found<u64> {
        self.typed(key, "must be a whole number from 0", Value::as_u64)
    }

    /// Returns a number.
    pub(super) fn number(&self, key: &str) -> Found<f64> {
        self.typed(key, "must be a number", Value::as_f64)
    }

    /// Returns a boolean.
    pub(super) fn flag(&self, key: &str) -> Found<bool> {
        self.typed(key, "must be true or false", Value::as_bool)
    }

    /// Returns the members of a nested object; empty if it is missing.
    pub(super) fn inside(&self, key: &str) -> Result<Self, Fault> {
        let object = self.typed(key, "must be an object", Value::as_object)?;
        Ok(Self { object, pointer: self.pointer(key) })
    }

    /// Returns the objects of a list; empty if it is missing.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Self>, Fault> {
        let place = |index: usize| format!("{}/{index}", self.pointer(key));
        let read = |(index, item): (usize, &'a Value)| match item.as_object() {
            Some(object) => Ok(Self { object: Some(object), pointer: place(index) }),
            None => Err(Fault::value(place(index), format!("must be an object, was {}", describe(item)))),
        };
        self.list(key)?.iter().enumerate().map(read).collect()
    }

    /// Returns the ids of a list without empty ones.
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
