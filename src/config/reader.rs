//! Typed reads from the merged tree. Each refusal is noted and a harmless
//! value stands in, so that one run reports every bad setting.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::secret::{REDACTED, Secret, without_credentials};
use super::tree::{Node, Origin, Value};

/// Settings whose value is never shown.
pub(super) const SECRETS: [&str; 2] = ["security.api_key", "events.rabbitmq.password"];

/// What a tier, domain or profile may be called.
pub(super) const NAME: &str = "a name of lowercase letters, digits, - and _, beginning with a letter";

/// Reads settings by path and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    tree: &'a Node,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tree: &'a Node) -> Self {
        Self { tree, problems: Vec::new() }
    }

    /// The setting at `path`, which the default file has.
    pub(super) fn node(&self, path: &str) -> &'a Node {
        match self.tree.at(path) {
            Some(node) => node,
            None => unreachable!("default.yaml lacks {path}"),
        }
    }

    /// Notes that `node` can't be used and what could.
    pub(super) fn refuse(&mut self, path: &str, node: &Node, allowed: &str) {
        let message = format!("can't be {}: expected {allowed}", shown(path, node));
        self.problems.push(Problem::at(&node.origin, path, message));
    }

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

    /// A number of things that are counted in memory.
    pub(super) fn count(&mut self, path: &str, range: RangeInclusive<u64>) -> usize {
        // Saturates on machines whose memory is smaller than the number.
        usize::try_from(self.whole(path, range)).unwrap_or(usize::MAX)
    }

    /// A number that fits the type; `range` must.
    pub(super) fn narrow<T: TryFrom<u64> + Default>(&mut self, path: &str, range: RangeInclusive<u64>) -> T {
        T::try_from(self.whole(path, range)).unwrap_or_default()
    }

    pub(super) fn seconds(&mut self, path: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.whole(path, range))
    }

    pub(super) fn optional_seconds(&mut self, path: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.optional_whole(path, range).map(Duration::from_secs)
    }

    pub(super) fn mebibytes(&mut self, path: &str, range: RangeInclusive<u64>) -> u64 {
        self.whole(path, range).saturating_mul(1 << 20)
    }

    pub(super) fn flag(&mut self, path: &str) -> bool {
        let node = self.node(path);
        match &node.value {
            Value::Bool(value) => *value,
            Value::Text(text) if is_typed(node) && text == "true" => true,
            Value::Text(text) if is_typed(node) && text == "false" => false,
            _ => {
                self.refuse(path, node, "true or false");
                false
            }
        }
    }

    /// One of a few words, in any case.
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

    /// Text that `parse` takes; `allowed` says which.
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

    /// A file of certificates of authorities. It would be no good without
    /// encryption; `otherwise` says why there is none.
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

    /// A list of texts that `parse` takes, at least one and none of them twice.
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

    /// A list of texts that `parse` takes, none of them twice; it may be empty.
    pub(super) fn any_list<T: PartialEq>(
        &mut self,
        path: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let node = self.node(path);
        let Value::List(items) = &node.value else {
            self.refuse(path, node, &format!("a list, each of it {allowed}"));
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

/// Whether the value was typed as mere text (environment, flag), which stands
/// for numbers and booleans too.
fn is_typed(node: &Node) -> bool {
    matches!(node.origin, Origin::Environment(_) | Origin::Flag(_))
}

fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)
}

/// A node as a whole number.
pub(super) fn as_whole(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Text(text) if is_typed(node) => text.trim().parse().ok(),
        _ => None,
    }
}

fn whole_number(range: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// A value as it may be shown in a message.
pub(super) fn shown(path: &str, node: &Node) -> String {
    if SECRETS.contains(&path) {
        return REDACTED.to_owned();
    }
    json(node).to_string()
}

/// A value without the secrets that URLs may hold.
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
        Value::Text(text) if is_typed(node) => match text.parse::<serde_json::Number>() {
            Ok(number) => Json::Number(number),
            Err(_) => Json::from(without_credentials(text)),
        },
        Value::Text(text) => Json::from(without_credentials(text)),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => Json::Object(entries.iter().map(|e| (e.key.clone(), json(&e.node))).collect()),
    }
}
