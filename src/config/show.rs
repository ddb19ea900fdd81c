//! The merged settings as text, without the secrets.

use std::fmt::{self, Write as _};

use serde_json::Value as Json;

use super::error::Error;
use super::load::{Merged, merge};
use super::origin::Origin;
use super::reader::{SECRETS, json};
use super::secret::REDACTED;
use super::sources::Sources;
use super::tree::{Node, Value, join};

/// Returns the merged settings as YAML. A comment names the source of each value that is not
/// a default. Fails if a source has a key that does not exist.
pub fn show_yaml(sources: &Sources) -> Result<String, Error> {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write_section(&mut text, &merged(sources)?, "", 0);
    Ok(text)
}

/// Returns the merged settings as one JSON object. Fails if a source has a key that does not
/// exist.
pub fn show_json(sources: &Sources) -> Result<Json, Error> {
    Ok(to_json(&merged(sources)?, ""))
}

fn merged(sources: &Sources) -> Result<Node, Error> {
    let Merged { tree, problems, .. } = merge(sources);
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
