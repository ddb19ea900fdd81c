//! Typed reads from the merged tree. A refused value is recorded as a problem and replaced
//! by a harmless one, so that one run reports every invalid setting.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::origin::Origin;
use super::secret::{REDACTED, Secret, without_credentials};
use super::tree::{Node, Value};

/// Settings whose values are never shown.
pub(super) const SECRETS: [&str; 2] = ["security.api_key", "events.rabbitmq.password"];

/// Description of the names of tiers, domains and profiles.
pub(super) const NAME: &str = "a name of lowercase letters, digits, - and _, beginning with a letter";

/// Reads settings by path and collects the problems.
pub(super) struct Reader<'a> {
    tree: &'a Node,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tree: &'a Node) -> Self {
        Self { tree, problems: Vec::new() }
    }

    /// Returns the setting at `path`, which the default file must have.
    pub(super) fn node(&self, path: &str) -> &'a Node {
        match self.tree.at(path) {
            Some(node) => node,
            None => unreachable!("default.yaml lacks {path}"),
        }
    }

    /// Records that the value of `node` can't be used, and which values are allowed.
    pub(super) fn refuse(&mut self, path: &str, node: &Node, allowed: &str) {
        let message = format!("can't be {}: expected {allowed}", shown(path, node));
        self.problems.push(Problem::at(&node.origin, path, message));
    }

    /// Reads a whole number within a range.
    pub(super) fn whole(&mut self, path: &str, range: RangeInclusive<u64>) -> u64 {
        let node = self.node(path);
        let value = as_whole(node).filter(|value| range.contains(value));
        value.unwrap_or_else(|| {
            self.refuse(path, node, &whole_number(&range));
            *range.start()
        })
    }

    pub(super) fn optional_whole(&mut self, path: &str, range: RangeInclusive<u64>) -> Option<u64> {
        match self.node(path).value {
            Value::Null => None,
            _ => Some(self.whole(path, range)),
        }
    }

    /// Reads a number of items in memory.
    pub(super) fn count(&mut self, path: &str, range: RangeInclusive<u64>) -> usize {
        // Saturates on machines with a smaller address space.
        usize::try_from(self.whole(path, range)).unwrap_or(usize::MAX)
    }

    /// Reads a number of a smaller type, whose values `range` must not exceed.
    pub(super) fn narrow<T: TryFrom<u64> + Default>(&mut self, path: &str, range: RangeInclusive<u64>) -> T {
        T::try_from(self.whole(path, range)).unwrap_or_default()
    }

    pub(super) fn seconds(&mut self, path: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.whole(path, range))
    }

    pub(super) fn optional_seconds(&mut self, path: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.optional_whole(path, range).map(Duration::from_secs)
    }

    /// Reads a number of MiB and returns bytes.
    pub(super) fn mebibytes(&mut self, path: &str, range: RangeInclusive<u64>) -> u64 {
        self.whole(path, range).saturating_mul(1 << 20)
    }

    pub(super) fn flag(&mut self, path: &str) -> bool {
        let node = self.node(path);
        match &node.value {
            Value::Bool(value) => *value,
            Value::Text(text) if is_untyped(node) && text == "true" => true,
            Value::Text(text) if is_untyped(node) && text == "false" => false,
            _ => {
                self.refuse(path, node, "true or false");
                false
            }
        }
    }

    /// Reads one of several words, in upper or lower case.
    pub(super) fn word<T: Copy>(&mut self, path: &str, words: &[(&str, T)]) -> Option<T> {
        let node = self.node(path);
        let found = match &node.value {
            Value::Text(text) => words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())),
            _ => None,
        };
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(path, node, &format!("one of {}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// Reads text and parses it. `allowed` describes the accepted text.
    pub(super) fn parsed<T>(&mut self, path: &str, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let node = self.node(path);
        let value = node.text().and_then(parse);
        if value.is_none() {
            self.refuse(path, node, allowed);
        }
        value
    }

    pub(super) fn text(&mut self, path: &str) -> String {
        self.parsed(path, "text (in quotes if it looks like a number)", |text| is_plain(text).then(|| text.to_owned()))
            .unwrap_or_default()
    }

    pub(super) fn secret(&mut self, path: &str) -> Option<Secret> {
        match self.node(path).value {
            Value::Null => None,
            _ => self.parsed(path, "printable ASCII text in quotes", |text| {
                let printable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                printable.then(|| Secret::new(text))
            }),
        }
    }

    /// Reads the path of a file of CA certificates, which is refused without encryption.
    /// `otherwise` describes why there is no encryption.
    pub(super) fn ca_file(&mut self, path: &str, is_encrypted: bool, otherwise: &str) -> Option<PathBuf> {
        let node = self.node(path);
        if node.value == Value::Null {
            return None;
        }
        if !is_encrypted {
            self.refuse(path, node, &format!("null as long as {otherwise}"));
            return None;
        }
        self.parsed(path, "the path of a file", |text| (!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// Reads a list of texts and parses each. It must have at least one entry and no
    /// duplicates.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        path: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let node = self.node(path);
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            self.refuse(path, node, "at least one entry");
        }
        self.any_list(path, allowed, parse)
    }

    /// As [`Self::list`], but the list may be empty.
    pub(super) fn any_list<T: PartialEq>(
        &mut self,
        path: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let node = self.node(path);
        let Value::List(items) = &node.value else {
            self.refuse(path, node, &format!("a list, each entry {allowed}"));
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items {
            let parsed = item.text().and_then(&parse);
            match parsed {
                Some(value) if list.contains(&value) => self.refuse(path, item, "each name once"),
                Some(value) => list.push(value),
                None => self.refuse(path, item, allowed),
            }
        }
        list
    }
}

/// Returns whether the value was given as untyped text (environment, flag), which may stand
/// for a number or a boolean.
fn is_untyped(node: &Node) -> bool {
    matches!(node.origin, Origin::Environment(_) | Origin::Flag(_))
}

fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)
}

/// Returns the value of a node as a whole number.
pub(super) fn as_whole(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Text(text) if is_untyped(node) => text.trim().parse().ok(),
        _ => None,
    }
}

fn whole_number(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// Returns a value for a message; secrets are redacted.
pub(super) fn shown(path: &str, node: &Node) -> String {
    if SECRETS.contains(&path) {
        return REDACTED.to_owned();
    }
    json(node).to_string()
}

/// Returns a value as JSON, without the passwords that URLs may contain.
pub(super) fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::Int(value) => match i64::try_from(*value) {
            Ok(value) => Json::from(value),
            Err(_) => Json::from(value.to_string()),
        },
        Value::Float(value) => Json::from(*value),
        Value::Text(text) if is_untyped(node) => match text.parse::<serde_json::Number>() {
            Ok(number) => Json::Number(number),
            Err(_) => Json::from(without_credentials(text)),
        },
        Value::Text(text) => Json::from(without_credentials(text)),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => Json::Object(entries.iter().map(|e| (e.key.clone(), json(&e.node))).collect()),
    }
}
