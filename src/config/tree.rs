//! Settings as a tree whose nodes know their origin.
//!
//! Each layer (defaults, file, environment, flags) is such a tree, and overrides the ones
//! below it. The defaults have every key, so they also define which keys the other layers
//! may use.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::Problem;
use super::origin::Origin;
use super::suggest;

/// Maps whose keys are data, not settings. A layer replaces them completely.
const OPEN_MAPS: [&str; 1] = ["task_management.escalate_to"];

/// A value with its origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value of YAML. Environment and flags give `Text` only, which the typed readers accept
/// for numbers and booleans too.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// An entry of a map. `origin` is the line of the key, which differs from that of a value
/// that starts below it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) node: Node,
}

impl Node {
    /// Parses YAML. `origin` returns the origin of a line.
    pub(super) fn parse(text: &str, origin: &dyn Fn(u64) -> Origin) -> Result<Self, serde_saphyr::Error> {
        let raw: Spanned<Raw> = serde_saphyr::from_str(text)?;
        Ok(with_origins(raw, origin))
    }

    pub(super) fn map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the node at a dotted path.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| {
            let entry = node.map()?.iter().find(|entry| entry.key == key)?;
            Some(&entry.node)
        })
    }

    /// Returns the dotted path and the node of every setting, in the order of the file.
    pub(super) fn leaves(&self) -> Vec<(String, &Self)> {
        let mut leaves = Vec::new();
        collect_leaves(self, String::new(), &mut leaves);
        leaves
    }

    /// Overrides this tree with `top`. A key of `top` that this tree does not have is a
    /// problem, because the defaults have every key.
    pub(super) fn overlay(&mut self, top: Self, problems: &mut Vec<Problem>) {
        let known: Vec<String> = self.leaves().into_iter().map(|(path, _)| path).collect();
        overlay(self, top, "", &known, problems);
    }
}

fn collect_leaves<'a>(node: &'a Node, path: String, leaves: &mut Vec<(String, &'a Node)>) {
    match node.map() {
        Some(entries) if !OPEN_MAPS.contains(&path.as_str()) => {
            for entry in entries {
                collect_leaves(&entry.node, join(&path, &entry.key), leaves);
            }
        }
        _ => leaves.push((path, node)),
    }
}

/// Appends a key to a dotted path.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn overlay(base: &mut Node, top: Node, path: &str, known: &[String], problems: &mut Vec<Problem>) {
    let is_section = base.map().is_some() && !OPEN_MAPS.contains(&path);
    let Value::Map(slots) = &mut base.value else {
        *base = top;
        return;
    };
    match top.value {
        _ if !is_section => *base = top,
        // A section whose keys are all commented out.
        Value::Null => {}
        Value::Map(entries) => {
            for entry in entries {
                let path = join(path, &entry.key);
                match slots.iter_mut().find(|slot| slot.key == entry.key) {
                    Some(slot) => overlay(&mut slot.node, entry.node, &path, known, problems),
                    None => problems.push(unknown_key(&entry, &path, known)),
                }
            }
        }
        _ => problems.push(Problem::at(
            &top.origin,
            path,
            format!("is a section, not a value: set its keys ({})", names(slots)),
        )),
    }
}

fn unknown_key(entry: &Entry, path: &str, known: &[String]) -> Problem {
    let hint = suggest::nearest_path(path, known).map(|near| format!(": did you mean {near}?")).unwrap_or_default();
    Problem::at(&entry.origin, path, format!("is not a setting{hint}"))
}

fn names(entries: &[Entry]) -> String {
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    keys.join(", ")
}

/// Parsed YAML, before the lines are converted to origins.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

fn with_origins(raw: Spanned<Raw>, origin: &dyn Fn(u64) -> Origin) -> Node {
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(|item| with_origins(item, origin)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| Entry {
                    origin: origin(key.referenced.line()),
                    key: key.value,
                    node: with_origins(node, origin),
                })
                .collect(),
        ),
    };
    Node { value, origin: origin(raw.referenced.line()) }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a setting")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Int(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Int(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
