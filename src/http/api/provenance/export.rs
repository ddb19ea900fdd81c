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

use crate::http::api::app::Call;
use crate::http::api::provenance::record::task_id;
use crate::http::api::provenance::results::Stop;
use crate::http::api::provenance::walks::{artifacts, known};
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply};
use crate::json;
use crate::lineage::{Cancelled, Flag, Graph, Link, Node, RecordState, Relationship};
use crate::store::Record;
use crate::task::{ArtifactId, RecordId, Timestamp};
use crate::transfer;

/// How far it goes in both directions when the client does not say.
pub(in crate::http) const DEFAULT_DEPTH: u64 = 3;
/// Most records of one document.
const MOST: usize = 1000;
/// Most bytes of one document: it can't be cut, since it is nothing without its
/// other half.
const MOST_BYTES: usize = MOST_MIB << 20;
const MOST_MIB: usize = 4;
/// What an id keeps in a qualified name.
const LOCAL_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The record in the form of the old program's files.
async fn file(call: &Call, id: RecordId) -> Reply {
    let engine = &call.app.engine;
    let record = engine.provenance().record(id).await?.ok_or_else(|| Problem::provenance_not_found(&call.id()))?;
    Ok(reply::json(StatusCode::OK, &transfer::record_json(engine, &record).await?))
}

/// `GET /provenance/{id}/export`
pub(in crate::http) async fn export(call: Call) -> Reply {
    let mut query = call.query(&["format", "depth", "direction"]);
    let sides = sides(&mut query);
    let depth = query.number("depth", 0..=u64::from(u32::MAX)).unwrap_or(DEFAULT_DEPTH);
    let format = query.one("format");
    if !matches!(format.as_deref(), Some("dot" | "prov" | "json")) {
        let was = format.as_deref().map(|word| format!(", was {}", json::quoted(word))).unwrap_or_default();
        query.reject("format", format!("must be json, dot or prov{was}"));
    }
    query.finish()?;
    let depth = u32::try_from(depth).unwrap_or(u32::MAX);
    let graph = call.app.engine.provenance().graph();
    let (of, about) = known(&graph, &call.id())?;
    if format.as_deref() == Some("json") {
        return file(&call, about.id).await;
    }
    let walked = graph.clone();
    let nodes = call.app.walks.run(move |stop| around(&walked, of, depth, sides, stop)).await??;
    let nodes = nodes.map_err(|count| {
        Problem::invalid_field("depth", format!("reaches {count} records, one document has at most {MOST}"))
    })?;
    let too_large = || {
        let message = format!("reaches more than the {MOST_MIB} MiB of one document: ask for a smaller depth");
        Problem::invalid_field("depth", message)
    };
    if format.as_deref() == Some("dot") {
        let response = reply::rendered(StatusCode::OK, dot(&graph, of, &nodes).ok_or_else(too_large)?);
        return Ok(reply::with_header(response, CONTENT_TYPE, HeaderValue::from_static("text/vnd.graphviz")));
    }
    let mut document = Document::new(&graph);
    for (node, known) in nodes.iter().filter_map(|node| Some((*node, graph.record(*node)?))) {
        // One after the other: the row of a record can be larger than all that is said of it.
        if let Some(record) = call.app.engine.provenance().record(known.id).await?
            && !document.add(&record, node, known.flag)
        {
            return Err(too_large());
        }
    }
    Ok(reply::json(StatusCode::OK, &document.finish()))
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
            query.reject("direction", message);
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
) -> Result<Result<Vec<Node>, usize>, Cancelled> {
    let questions = graph.cancellable(|| stop.is_set());
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

/// Graphviz: an arrow leads from what was used to what was made of it. `None`:
/// it is too large.
fn dot(graph: &Graph, of: Node, nodes: &[Node]) -> Option<String> {
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
            if out.len() > MOST_BYTES {
                return None;
            }
        }
    }
    out.push_str("}\n");
    Some(out)
}

fn label(graph: &Graph, node: Node, known: &RecordState) -> String {
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
struct Relations {
    all: BTreeMap<&'static str, Map<String, Value>>,
    bytes: usize,
}

impl Relations {
    fn add(&mut self, kind: &'static str, relation: Value) {
        let relations = self.all.entry(kind).or_default();
        let name = format!("_:{kind}{}", relations.len() + 1);
        self.bytes += name.len() + json_bytes(&relation);
        relations.insert(name, relation);
    }
}

/// How long a flat object is in JSON, about.
fn json_bytes(object: &Value) -> usize {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| name.len() + value.as_str().map_or(32, str::len) + 6).sum()
}

/// A PROV-JSON document: artifacts are entities, records activities, workers
/// agents.
struct Document<'a> {
    graph: &'a Graph,
    activities: Map<String, Value>,
    agents: Map<String, Value>,
    entities: Entities<'a>,
    relations: Relations,
}

impl<'a> Document<'a> {
    fn new(graph: &'a Graph) -> Self {
        let entities = Entities { graph, all: Map::new(), bytes: 0 };
        Self { graph, activities: Map::new(), agents: Map::new(), entities, relations: Relations::default() }
    }

    /// Whether it is larger than one may be.
    fn is_too_large(&self) -> bool {
        // An activity or an agent takes less than a KiB.
        let others = (self.activities.len() + self.agents.len()) << 10;
        self.relations.bytes + self.entities.bytes + others > MOST_BYTES
    }

    /// Says what is known of a record; `false`: the document is too large.
    fn add(&mut self, record: &Record, node: Node, flag: Flag) -> bool {
        let activity = name("record", &record.id.to_string());
        self.activities.insert(activity.clone(), activity_of(record, flag));
        let relations = &mut self.relations;
        if let Some(worker) = &record.worker {
            let agent = name("worker", worker.as_str());
            self.agents.insert(
                agent.clone(),
                json!({"prov:label": worker, "prov:type": {"$": "prov:SoftwareAgent", "type": "xsd:QName"}}),
            );
            relations.add("wasAssociatedWith", json!({"prov:activity": activity, "prov:agent": agent}));
        }
        let bound = bound(self.graph, node);
        let mut all_used = Vec::with_capacity(record.inputs.len());
        for input in &record.inputs {
            let maker = bound.get(input.artifact.as_str()).copied();
            let used = self.entities.entity(&input.artifact, maker, None, relations);
            let role = json!(input.relationship);
            relations.add("used", json!({"prov:activity": activity, "prov:entity": used, "prov:role": role}));
            all_used.push(used);
        }
        for output in &record.outputs {
            let kind = output.artifact.kind.as_deref();
            let made = self.entities.entity(&output.artifact.id, Some(record.id), kind, &mut self.relations);
            self.relations.add("wasGeneratedBy", json!({"prov:entity": made, "prov:activity": activity}));
            for used in &all_used {
                let derived = json!({"prov:generatedEntity": made, "prov:usedEntity": used, "prov:activity": activity});
                self.relations.add("wasDerivedFrom", derived);
            }
            if self.is_too_large() {
                return false;
            }
        }
        !self.is_too_large()
    }

    fn finish(self) -> Value {
        let mut document = json!({
            "prefix": {"dats": "urn:dats:"}, "entity": self.entities.all, "activity": self.activities,
            "agent": self.agents,
        });
        for (kind, relations) in self.relations.all {
            document[kind] = Value::Object(relations);
        }
        document
    }
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
    bytes: usize,
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
        let bytes = &mut self.bytes;
        let known = self.all.entry(whole.clone()).or_insert_with(|| {
            *bytes += whole.len() + id.as_str().len() + 64;
            json!({"prov:label": id})
        });
        if let (Some(kind), Value::Object(known)) = (kind, known) {
            known.insert("dats:type".to_owned(), kind.into());
        }
        let Some(maker) = maker.filter(|_| makers > 1) else { return whole };
        let version = name(&format!("version.{maker}"), id.as_str());
        if !self.all.contains_key(&version) {
            self.bytes += version.len() + id.as_str().len() + 64;
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
            Document::new(&Graph::default()).finish(),
            json!({"prefix": {"dats": "urn:dats:"}, "entity": {}, "activity": {}, "agent": {}})
        );
    }
}
