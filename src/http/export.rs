//! `GET /provenance/{id}/export`: a record with what is around it, as a
//! picture (Graphviz) or as a W3C PROV-JSON document; or the record alone, as
//! the old program keeps it in a file.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::lineage::{artifacts, known};
use super::problem::Problem;
use super::provenance::task_id;
use super::query::Query;
use super::reply::{self, Reply};
use super::request::Call;
use super::walks::Stop;
use crate::json;
use crate::lineage::{Flag, Graph, Known, Link, Node, Relationship, Stopped};
use crate::store::Record;
use crate::task::{ArtifactId, RecordId, Timestamp};
use crate::transfer;

/// How far it goes in both directions when the client does not say.
pub(super) const DEFAULT_DEPTH: u64 = 3;
/// Most records of one document.
const MOST: usize = 1000;
/// Most statements of one document.
const MOST_STATEMENTS: usize = 100_000;
/// What an id keeps in a qualified name.
const LOCAL_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The record in the form of the old program's files.
async fn file(call: &Call, id: RecordId) -> Reply {
    let engine = &call.app.engine;
    let record = engine.record(id).await?.ok_or_else(|| Problem::provenance_not_found(&call.id()))?;
    Ok(reply::json(StatusCode::OK, &transfer::record_json(engine, &record).await?))
}

/// `GET /provenance/{id}/export`
pub(super) async fn export(call: Call) -> Reply {
    let mut query = call.query(&["format", "depth", "direction"]);
    let sides = sides(&mut query);
    let depth = query.number("depth", 0..=u64::from(u32::MAX)).unwrap_or(DEFAULT_DEPTH);
    let format = query.one("format");
    if !matches!(format.as_deref(), Some("dot" | "prov" | "json")) {
        let was = format.as_deref().map(|word| format!(", was {}", json::quoted(word))).unwrap_or_default();
        query.wrong("format", format!("must be json, dot or prov{was}"));
    }
    query.finish()?;
    let depth = u32::try_from(depth).unwrap_or(u32::MAX);
    let graph = call.app.engine.graph();
    let (of, about) = known(&graph, &call.id())?;
    if format.as_deref() == Some("json") {
        return file(&call, about.id).await;
    }
    let walked = graph.clone();
    let nodes = call.app.walks.run(move |stop| around(&walked, of, depth, sides, stop)).await??;
    let nodes = nodes.map_err(|count| {
        Problem::invalid_field("depth", format!("reaches {count} records, one document has at most {MOST}"))
    })?;
    if format.as_deref() == Some("dot") {
        let response = reply::rendered(StatusCode::OK, dot(&graph, of, &nodes));
        return Ok(reply::with(response, CONTENT_TYPE, HeaderValue::from_static("text/vnd.graphviz")));
    }
    let mut records = Vec::with_capacity(nodes.len());
    for (node, known) in nodes.iter().filter_map(|node| Some((*node, graph.record(*node)?))) {
        if let Some(record) = call.app.engine.record(known.id).await? {
            records.push((record, node, known.flag));
        }
    }
    let document = prov(&graph, &records).ok_or_else(|| {
        Problem::invalid_field("depth", format!("reaches more than the {MOST_STATEMENTS} statements of one document"))
    })?;
    Ok(reply::json(StatusCode::OK, &document))
}

/// Which sides of the record are shown: above, what it depends on, and below,
/// what depends on it.
fn sides(query: &mut Query) -> [bool; 2] {
    match query.one("direction").as_deref() {
        None | Some("both") => [true, true],
        Some("dependencies") => [true, false],
        Some("dependents") => [false, true],
        Some(word) => {
            let message = format!("must be dependents, dependencies or both, was {}", json::quoted(word));
            query.wrong("direction", message);
            [true, true]
        }
    }
}

/// The record, what it depends on and what depends on it; too many are an
/// error that tells how many.
fn around(
    graph: &Graph,
    of: Node,
    depth: u32,
    sides: [bool; 2],
    stop: &Stop,
) -> Result<Result<Vec<Node>, usize>, Stopped> {
    let questions = graph.until(|| stop.is_set());
    let [above, below] = sides.map(|is_shown| Some(if is_shown { depth } else { 0 }));
    let above = questions.dependencies(&[of], above)?;
    let below = questions.dependents(&[of], below)?;
    let count = above.len() + below.len() + 1;
    if count > MOST {
        return Ok(Err(count));
    }
    let found = above.iter().chain(below.iter()).map(|found| found.record);
    Ok(Ok(std::iter::once(of).chain(found).collect()))
}

/// Graphviz: an arrow leads from what was used to what was made of it.
fn dot(graph: &Graph, of: Node, nodes: &[Node]) -> String {
    let shown: HashSet<Node> = nodes.iter().copied().collect();
    let mut out =
        "digraph provenance {\n  rankdir=LR;\n  node [shape=box, style=filled, fillcolor=white];\n".to_owned();
    for node in nodes {
        let Some(known) = graph.record(*node) else { continue };
        let colour = match known.flag {
            Flag::Clean => "white",
            Flag::Suspect => "orange",
            Flag::Tainted => "red",
        };
        let label = quoted(&label(graph, *node, &known));
        let pen = if *node == of { ", penwidth=3" } else { "" };
        // Writing to memory does not fail.
        let _ = writeln!(out, "  \"{}\" [label={label}, fillcolor={colour}{pen}];", known.id);
        for (artifact, relationship, link) in graph.inputs(*node) {
            let Link::Bound(dependency) = link else { continue };
            let Some(above) = graph.record(dependency).filter(|_| shown.contains(&dependency)) else { continue };
            let name = quoted(graph.artifact_id(artifact).unwrap_or_default());
            let style = if relationship == Relationship::Referenced { ", style=dashed" } else { "" };
            let _ = writeln!(out, "  \"{}\" -> \"{}\" [label={name}{style}];", above.id, known.id);
        }
    }
    out.push_str("}\n");
    out
}

fn label(graph: &Graph, node: Node, known: &Known) -> String {
    match artifacts(graph, node).as_slice() {
        [] => known.id.to_string(),
        [only] => (*only).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn quoted(text: &str) -> String {
    // Labels also know the entities of HTML.
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;");
    format!("\"{escaped}\"")
}

fn name(kind: &str, id: &str) -> String {
    format!("dats:{kind}.{}", utf8_percent_encode(id, LOCAL_NAME))
}

/// Relations without names of their own.
#[derive(Default)]
struct Relations(BTreeMap<&'static str, Map<String, Value>>);

impl Relations {
    fn add(&mut self, kind: &'static str, relation: Value) {
        let relations = self.0.entry(kind).or_default();
        relations.insert(format!("_:{kind}{}", relations.len() + 1), relation);
    }

    fn len(&self) -> usize {
        self.0.values().map(Map::len).sum()
    }
}

/// Artifacts are entities, records activities, workers agents; `None`: there
/// is too much to say.
fn prov(graph: &Graph, records: &[(Record, Node, Flag)]) -> Option<Value> {
    let (mut activities, mut agents) = (Map::new(), Map::new());
    let (mut entities, mut relations) = (Entities { graph, all: Map::new() }, Relations::default());
    for (record, node, flag) in records {
        let activity = name("record", &record.id.to_string());
        activities.insert(activity.clone(), activity_of(record, *flag));
        if let Some(worker) = &record.worker {
            let agent = name("worker", worker.as_str());
            agents.insert(
                agent.clone(),
                json!({"prov:label": worker, "prov:type": {"$": "prov:SoftwareAgent", "type": "xsd:QName"}}),
            );
            relations.add("wasAssociatedWith", json!({"prov:activity": activity, "prov:agent": agent}));
        }
        let bound = bound(graph, *node);
        let used = record.inputs.iter().map(|input| {
            let id = input.artifact.as_str();
            entities.entity(&input.artifact, bound.get(id).copied(), None, &mut relations)
        });
        let used: Vec<String> = used.collect();
        if relations.len() + used.len().saturating_mul(record.outputs.len() + 1) > MOST_STATEMENTS {
            return None;
        }
        for (used, input) in used.iter().zip(&record.inputs) {
            let role = json!(input.relationship);
            relations.add("used", json!({"prov:activity": activity, "prov:entity": used, "prov:role": role}));
        }
        for output in &record.outputs {
            let kind = output.artifact.kind.as_deref();
            let made = entities.entity(&output.artifact.id, Some(record.id), kind, &mut relations);
            relations.add("wasGeneratedBy", json!({"prov:entity": made, "prov:activity": activity}));
            for used in &used {
                let derived = json!({"prov:generatedEntity": made, "prov:usedEntity": used, "prov:activity": activity});
                relations.add("wasDerivedFrom", derived);
            }
        }
    }
    let mut document = json!({
        "prefix": {"dats": "urn:dats:"}, "entity": entities.all, "activity": activities, "agent": agents,
    });
    for (kind, relations) in relations.0 {
        document[kind] = Value::Object(relations);
    }
    Some(document)
}

/// The records that the inputs of a record are bound to, by artifact.
fn bound(graph: &Graph, node: Node) -> HashMap<&str, RecordId> {
    let inputs = graph.inputs(node).filter_map(|(artifact, _, link)| {
        let Link::Bound(maker) = link else { return None };
        Some((graph.artifact_id(artifact)?, graph.record(maker)?.id))
    });
    inputs.collect()
}

/// The artifacts of a document. PROV has an entity come into being once: what
/// several records made is a version for each of them.
struct Entities<'a> {
    graph: &'a Graph,
    all: Map<String, Value>,
}

impl Entities<'_> {
    /// The entity of an artifact, as `maker` made it.
    fn entity(
        &mut self,
        id: &ArtifactId,
        maker: Option<RecordId>,
        kind: Option<&str>,
        relations: &mut Relations,
    ) -> String {
        let whole = name("artifact", id.as_str());
        let makers = self.graph.find_artifact(id).map_or(0, |artifact| self.graph.producers(artifact).take(2).count());
        let known = self.all.entry(whole.clone()).or_insert_with(|| json!({"prov:label": id}));
        if let (Some(kind), Value::Object(known)) = (kind, known) {
            known.insert("dats:type".to_owned(), kind.into());
        }
        let Some(maker) = maker.filter(|_| makers > 1) else { return whole };
        let version = name(&format!("version.{maker}"), id.as_str());
        if !self.all.contains_key(&version) {
            self.all.insert(version.clone(), json!({"prov:label": id}));
            let of = json!({"prov:specificEntity": version, "prov:generalEntity": whole});
            relations.add("specializationOf", of);
        }
        version
    }
}

fn activity_of(record: &Record, flag: Flag) -> Value {
    let mut activity = json!({
        "dats:project_id": record.project, "dats:status": record.status.as_str(), "dats:flag": flag,
    });
    let time = |time: Option<Timestamp>| time.map(|time| Value::from(time.to_string()));
    // PROV-JSON has no null.
    let known = [
        ("prov:startTime", time(record.started_at)),
        ("prov:endTime", time(record.completed_at)),
        ("dats:task_id", task_id(record).map(Value::from)),
        ("dats:attempt", record.attempt.map(Value::from)),
        ("dats:model_used", record.model_used.as_deref().map(Value::from)),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            activity[name] = value;
        }
    }
    activity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_escaped() {
        assert_eq!(quoted(r#"a "b" \c &lt;"#), r#""a \"b\" \\c &amp;lt;""#);
        assert_eq!(name("artifact", "a b/c"), "dats:artifact.a%20b%2Fc");
    }

    #[test]
    fn an_empty_document_has_its_parts() {
        assert_eq!(
            prov(&Graph::default(), &[]).unwrap(),
            json!({"prefix": {"dats": "urn:dats:"}, "entity": {}, "activity": {}, "agent": {}})
        );
    }
}
