//! Reads the rules of the built-in router.

use crate::task::{Domain, Keyword, Rule, Tier};

use super::origin::Origin;
use super::reader::{NAME, Reader, as_whole};
use super::tree::{Node, Value};

/// Path of the rules in the settings.
const PATH: &str = "routing.rules";

/// Allowed keys of a rule.
const KEYS: [&str; 5] = ["keywords", "min_length", "max_length", "domain", "tier"];

/// Reads the rules. Each tier must be one of `tiers`.
pub(super) fn read(reader: &mut Reader<'_>, tiers: &[Tier]) -> Vec<Rule> {
    let node = reader.node(PATH);
    let Value::List(items) = &node.value else {
        reader.refuse(PATH, node, "a list of rules");
        return Vec::new();
    };
    items.iter().map(|item| read_rule(reader, item, tiers)).collect()
}

fn read_rule(reader: &mut Reader<'_>, node: &Node, tiers: &[Tier]) -> Rule {
    let mut rule = Rule { keywords: Vec::new(), min_length: None, max_length: None, domain: None, tier: None };
    let Some(entries) = node.map() else {
        reader.refuse(PATH, node, &format!("a map with the keys {}", KEYS.join(", ")));
        return rule;
    };
    for entry in entries {
        let value = &entry.node;
        let path = format!("{PATH}.{}", entry.key);
        match entry.key.as_str() {
            "keywords" => rule.keywords = keywords(reader, &path, value),
            "min_length" => rule.min_length = length(reader, &path, value),
            "max_length" => rule.max_length = length(reader, &path, value),
            "domain" => rule.domain = parsed(reader, &path, value, NAME, |name| Domain::new(name).ok()),
            // A default that names a tier which is not configured is dropped.
            "tier" if value.origin == Origin::Default => {
                rule.tier = value.text().and_then(|name| find(tiers, name));
            }
            "tier" => {
                rule.tier = parsed(reader, &path, value, &one_of(tiers), |name| find(tiers, name));
            }
            _ => reader.refuse(&path, value, &format!("only the keys {}", KEYS.join(", "))),
        }
    }
    let has_key = |keys: &[&str]| entries.iter().any(|entry| keys.contains(&entry.key.as_str()));
    if !has_key(&KEYS[..3]) || !has_key(&KEYS[3..]) {
        let allowed = "a condition (keywords, min_length, max_length) and a domain or tier";
        reader.refuse(PATH, node, allowed);
    }
    if rule.max_length.zip(rule.min_length).is_some_and(|(max, min)| max < min) {
        reader.refuse(PATH, node, "max_length no less than min_length");
    }
    rule
}

fn keywords(reader: &mut Reader<'_>, path: &str, node: &Node) -> Vec<Keyword> {
    let allowed = "a list of words";
    let Value::List(items) = &node.value else {
        reader.refuse(path, node, allowed);
        return Vec::new();
    };
    if items.is_empty() {
        reader.refuse(path, node, "at least one word; leave the key out to match any text");
    }
    items.iter().filter_map(|item| parsed(reader, path, item, allowed, Keyword::new)).collect()
}

fn length(reader: &mut Reader<'_>, path: &str, node: &Node) -> Option<usize> {
    let length = as_whole(node).and_then(|length| usize::try_from(length).ok());
    if length.is_none() {
        reader.refuse(path, node, "a number of characters");
    }
    length
}

fn parsed<T>(
    reader: &mut Reader<'_>,
    path: &str,
    node: &Node,
    allowed: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let value = node.text().and_then(parse);
    if value.is_none() {
        reader.refuse(path, node, allowed);
    }
    value
}

/// Describes the allowed names of a tier.
pub(super) fn one_of(tiers: &[Tier]) -> String {
    let names: Vec<&str> = tiers.iter().map(Tier::as_str).collect();
    format!("one of routing.tiers ({})", names.join(", "))
}

/// Finds the tier with a name.
pub(super) fn find(tiers: &[Tier], name: &str) -> Option<Tier> {
    tiers.iter().find(|tier| tier.as_str() == name).cloned()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn routed(description: &str) -> (String, String) {
        let config = Config::builtin();
        let (domain, tier) = config.routing.router.route(description);
        (domain.to_string(), tier.to_string())
    }

    fn pair(domain: &str, tier: &str) -> (String, String) {
        (domain.to_owned(), tier.to_owned())
    }

    #[test]
    fn default_rules_route_common_requests() {
        for (description, domain, tier) in [
            ("Create a Python function for fibonacci", "code-general", "small"),
            ("Write ESP32 firmware that blinks a LED", "code-embedded", "coding"),
            ("Add a login screen to the Flutter client", "code-mobile", "coding"),
            ("Detect cats with OpenCV", "code-vision", "coding"),
            ("Write the README", "documentation", "small"),
            ("Draw a wireframe of the settings page", "ui-design", "small"),
            ("Propose an architecture for billing", "architecture", "large"),
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
}
