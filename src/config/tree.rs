//! Settings as a tree whose every node knows where it came from.
//!
//! The layers (defaults, file, environment, flags) are such trees, laid one
//! over the other. The defaults name every key there is, so they also decide
//! which keys the other layers may use.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::Problem;
use super::suggest;

/// Maps whose keys are data, not settings: a layer replaces them whole.
const OPEN_MAPS: [&str; 1] = ["task_management.escalate_to"];

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The compiled-in default file.
    Default,
    /// A line of the file given with `--config`.
    File { path: Arc<str>, line: u64 },
    /// A variable of the environment.
    Environment(Arc<str>),
    /// A command line flag.
    Flag(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One value with its origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What YAML can hold. Environment and flags give `Text` only, which the
/// typed readers take for numbers too.
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

/// A key of a map. `origin` is the key's own line, which differs from the
/// value's where the value starts below.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) node: Node,
}

impl Node {
    /// Parses YAML; `origin` gives the place of a line.
    pub(super) fn parse(text: &str, origin: &dyn Fn(u64) -> Origin) -> Result<Self, serde_saphyr::Error> {
        let raw: Spanned<Raw> = serde_saphyr::from_str(text)?;
        Ok(place(raw, origin))
    }

    pub(super) fn map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The node at a dotted path.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| {
            let entry = node.map()?.iter().find(|entry| entry.key == key)?;
            Some(&entry.node)
        })
    }

    /// Every setting as (dotted path, node), in the order of the file.
    pub(super) fn leaves(&self) -> Vec<(String, &Self)> {
        let mut leaves = Vec::new();
        collect_leaves(self, String::new(), &mut leaves);
        leaves
    }

    /// Lays `top` over this tree. What `top` names and this tree does not is a
    /// problem: the defaults hold every key.
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

/// A dotted path one key longer.
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
            format!("is a section, not a value: give its keys below it ({})", names(slots)),
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

/// YAML as it is read, before the lines become origins.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

fn place(raw: Spanned<Raw>, origin: &dyn Fn(u64) -> Origin) -> Node {
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(|item| place(item, origin)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| Entry {
                    origin: origin(key.referenced.line()),
                    key: key.value,
                    node: place(node, origin),
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
