//! The settings in force, for people and programs, without the secrets.

use std::fmt::{self, Write as _};

use serde_json::Value as Json;

use super::reader::{SECRETS, json};
use super::secret::REDACTED;
use super::tree::{Node, Origin, Value, join};
use super::{Error, Sources, merge};

/// The merged settings as YAML; what is not a default names its source in a
/// comment.
///
/// # Errors
/// The settings that have no place.
pub fn show_yaml(sources: &Sources) -> Result<String, Error> {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write_section(&mut text, &merged(sources)?, "", 0);
    Ok(text)
}

/// The merged settings as one JSON object.
///
/// # Errors
/// The settings that have no place.
pub fn show_json(sources: &Sources) -> Result<Json, Error> {
    Ok(to_json(&merged(sources)?, ""))
}

fn merged(sources: &Sources) -> Result<Node, Error> {
    let (tree, problems) = merge(sources, &mut Vec::new());
    if problems.is_empty() { Ok(tree) } else { Err(Error::new(problems)) }
}

fn to_json(node: &Node, path: &str) -> Json {
    match node.map() {
        Some(entries) => {
            let fields = entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.node, &join(path, &entry.key))));
            Json::Object(fields.collect())
        }
        None => redacted(node, path),
    }
}

fn redacted(node: &Node, path: &str) -> Json {
    if SECRETS.contains(&path) && node.value != Value::Null {
        return Json::from(REDACTED);
    }
    json(node)
}

fn write_section(text: &mut String, node: &Node, path: &str, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for entry in node.map().unwrap_or_default() {
        let (key, path) = (&entry.key, join(path, &entry.key));
        if depth == 0 && !text.is_empty() {
            writeln!(text)?;
        }
        let comment = comment(&entry.node.origin);
        match &entry.node.value {
            Value::Map(_) => {
                writeln!(text, "{indent}{key}:")?;
                write_section(text, &entry.node, &path, depth + 1)?;
            }
            Value::List(items) if items.iter().any(|item| item.map().is_some()) => {
                writeln!(text, "{indent}{key}:{comment}")?;
                items.iter().try_for_each(|item| writeln!(text, "{indent}  - {}", json(item)))?;
            }
            _ => writeln!(text, "{indent}{key}: {}{comment}", redacted(&entry.node, &path))?,
        }
    }
    Ok(())
}

fn comment(origin: &Origin) -> String {
    match origin {
        Origin::Default => String::new(),
        other => format!("  # {other}"),
    }
}
