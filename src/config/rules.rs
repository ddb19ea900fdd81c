//! The built-in router's rule table.

use super::reader::{Reader, as_whole};
use super::tree::{Node, Value};

/// Where the rules stand in the settings.
const PATH: &str = "routing.rules";

/// Keys a rule may have.
const KEYS: [&str; 5] = ["keywords", "min_length", "max_length", "domain", "tier"];

/// One line of the rule table: a condition, and what it decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    keywords: Vec<String>,
    min_length: usize,
    max_length: Option<usize>,
    domain: Option<String>,
    tier: Option<String>,
}

impl Rule {
    /// The domain this rule gives, if it says anything about domains.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The tier this rule gives, if it says anything about tiers.
    #[must_use]
    pub fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }

    /// Whether the rule holds for a description, given in lower case with its
    /// length in characters.
    fn matches(&self, lower: &str, length: usize) -> bool {
        length >= self.min_length
            && self.max_length.is_none_or(|max| length <= max)
            && (self.keywords.is_empty()
                || self.keywords.iter().any(|keyword| has_word(lower, keyword)))
    }
}

/// The domain and tier of a description: each from the first rule that
/// matches and names one.
pub(super) fn route<'a>(
    rules: &'a [Rule],
    description: &str,
) -> (Option<&'a str>, Option<&'a str>) {
    let lower = description.to_lowercase();
    let length = description.chars().count();
    let mut route = (None, None);
    for rule in rules.iter().filter(|rule| rule.matches(&lower, length)) {
        route.0 = route.0.or(rule.domain());
        route.1 = route.1.or(rule.tier());
    }
    route
}

/// Whether `word` occurs in `text` with no letter or digit beside it.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, found)| {
        let before = text[..start].chars().next_back();
        let after = text[start + found.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// Reads the table; each tier must be one of `tiers`.
pub(super) fn read(reader: &mut Reader<'_>, tiers: &[String]) -> Vec<Rule> {
    let node = reader.node(PATH);
    let Value::List(items) = &node.value else {
        reader.refuse(PATH, node, "a list of rules");
        return Vec::new();
    };
    items
        .iter()
        .map(|item| read_rule(reader, item, tiers))
        .collect()
}

fn read_rule(reader: &mut Reader<'_>, node: &Node, tiers: &[String]) -> Rule {
    let mut rule = Rule::default();
    let Some(entries) = node.map() else {
        reader.refuse(
            PATH,
            node,
            &format!("a map with the keys {}", KEYS.join(", ")),
        );
        return rule;
    };
    for entry in entries {
        let value = &entry.node;
        let path = format!("{PATH}.{}", entry.key);
        match entry.key.as_str() {
            "keywords" => rule.keywords = keywords(reader, &path, value),
            "min_length" => rule.min_length = length(reader, &path, value).unwrap_or(0),
            "max_length" => rule.max_length = length(reader, &path, value),
            "domain" => rule.domain = text(reader, &path, value, "the name of a domain", |_| true),
            "tier" => {
                let allowed = format!("one of routing.tiers ({})", tiers.join(", "));
                rule.tier = text(reader, &path, value, &allowed, |tier| {
                    tiers.iter().any(|known| known == tier)
                });
            }
            _ => reader.refuse(&path, value, &format!("only the keys {}", KEYS.join(", "))),
        }
    }
    let has_key = |keys: &[&str]| {
        entries
            .iter()
            .any(|entry| keys.contains(&entry.key.as_str()))
    };
    if !has_key(&KEYS[..3]) || !has_key(&KEYS[3..]) {
        let allowed = "a condition (keywords, min_length, max_length) and a domain or tier";
        reader.refuse(PATH, node, allowed);
    }
    if rule.max_length.is_some_and(|max| max < rule.min_length) {
        reader.refuse(PATH, node, "max_length no less than min_length");
    }
    rule
}

fn keywords(reader: &mut Reader<'_>, path: &str, node: &Node) -> Vec<String> {
    let allowed = "a list of words";
    let Value::List(items) = &node.value else {
        reader.refuse(path, node, allowed);
        return Vec::new();
    };
    if items.is_empty() {
        reader.refuse(
            path,
            node,
            "at least one word; leave the key out to match any text",
        );
    }
    let words = items
        .iter()
        .filter_map(|item| text(reader, path, item, allowed, |_| true));
    words.map(|word| word.to_lowercase()).collect()
}

fn length(reader: &mut Reader<'_>, path: &str, node: &Node) -> Option<usize> {
    let length = as_whole(node).and_then(|length| usize::try_from(length).ok());
    if length.is_none() {
        reader.refuse(path, node, "a number of characters");
    }
    length
}

fn text(
    reader: &mut Reader<'_>,
    path: &str,
    node: &Node,
    allowed: &str,
    check: impl Fn(&str) -> bool,
) -> Option<String> {
    match &node.value {
        Value::Text(text) if !text.trim().is_empty() && check(text) => Some(text.clone()),
        _ => {
            reader.refuse(path, node, allowed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn routed(description: &str) -> (String, String) {
        let config = Config::builtin();
        let (domain, tier) = config.routing.route(description);
        (domain.to_owned(), tier.to_owned())
    }

    fn pair(domain: &str, tier: &str) -> (String, String) {
        (domain.to_owned(), tier.to_owned())
    }

    #[test]
    fn default_table_sorts_common_requests() {
        for (description, domain, tier) in [
            (
                "Create a Python function for fibonacci",
                "code-general",
                "small",
            ),
            (
                "Write ESP32 firmware that blinks a LED",
                "code-embedded",
                "coding",
            ),
            (
                "Add a login screen to the Flutter client",
                "code-mobile",
                "coding",
            ),
            ("Detect cats with OpenCV", "code-vision", "coding"),
            ("Write the README", "documentation", "small"),
            (
                "Draw a wireframe of the settings page",
                "ui-design",
                "small",
            ),
            (
                "Propose an architecture for billing",
                "architecture",
                "large",
            ),
            ("Compare the two vendors", "analysis", "large"),
            ("Fix a typo in main.py", "code-general", "tiny"),
            ("Refactor the parser", "code-general", "coding"),
        ] {
            assert_eq!(routed(description), pair(domain, tier), "{description}");
        }
    }

    #[test]
    fn long_descriptions_get_a_larger_tier() {
        assert_eq!(routed(&"word ".repeat(900)), pair("code-general", "large"));
    }

    #[test]
    fn keywords_are_whole_words() {
        assert!(has_word("fix the bug.", "bug"));
        assert!(!has_word("debugging", "bug"));
        assert!(!has_word("curious", "ios"));
        assert!(has_word("a react native app", "react native"));
    }
}
