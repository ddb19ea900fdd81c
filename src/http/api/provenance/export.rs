//! `GET /provenance/{id}/export`: a record with its surroundings as a graph for Graphviz or as a W3C PROV-JSON
//! document, or the record alone in the file format of the old program.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::http::api::app::Call;
use crate::http::api::provenance::graph::{artifacts, find_record};
use crate::http::api::provenance::record::task_id;
use crate::http::api::provenance::results::StopFlag;
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply};
use crate::json;
use crate::lineage::{Cancelled, Flag, Graph, Link, Node, RecordState, Relationship};
use crate::store::Record;
use crate::task::{ArtifactId, RecordId, Timestamp};
use crate::transfer;

/// The default number of steps in each direction.
pub(in crate::http) const DEFAULT_DEPTH: u64 = 3;
/// The largest number of records in one document.
const MAX_RECORDS: usize = 1000;
/// The largest size of one document, in bytes. A larger one is refused, because a part of it is useless.
const MAX_BYTES: usize = MAX_MIB << 20;
const MAX_MIB: usize = 4;
/// The characters that are escaped in a qualified name.
const LOCAL_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Responds with the record in the file format of the old program.
async fn legacy_record(call: &Call, id: RecordId) -> Reply {
    let engine = &call.app.engine;
    let record = engine.provenance().record(id).await?.ok_or_else(|| Problem::provenance_not_found(&call.id()))?;
    Ok(reply::json(StatusCode::OK, &transfer::record_json(engine, &record).await?))
}

/// Handles `GET /provenance/{id}/export`.
pub(in crate::http) async fn export(call: Call) -> Reply {
    let mut query = call.query(&["format", "depth", "direction"]);
    let sides = parse_sides(&mut query);
    let depth = query.number("depth", 0..=u64::from(u32::MAX)).unwrap_or(DEFAULT_DEPTH);
    let format = query.one("format");
    if !matches!(format.as_deref(), Some("dot" | "prov" | "json")) {
        let was = format.as_deref().map(|word| format!(", was {}", json::quoted(word))).unwrap_or_default();
        query.reject("format", format!("must be json, dot or prov{was}"));
    }
    query.finish()?;
    let depth = u32::try_from(depth).unwrap_or(u32::MAX);
    let graph = call.app.engine.provenance().graph();
    let (of, about) = find_record(&graph, &call.id())?;
    if format.as_deref() == Some("json") {
        return legacy_record(&call, about.id).await;
    }
    let walked = graph.clone();
    let nodes = call.app.queries.run(move |stop| surroundings(&walked, of, depth, sides, stop)).await??;
    let nodes = nodes.map_err(|count| {
        Problem::invalid_field("depth", format!("reaches {count} records, one document has at most {MAX_RECORDS}"))
    })?;
    let too_large = || {
        let message = format!("reaches more than the {MAX_MIB} MiB of one document: ask for a smaller depth");
        Problem::invalid_field("depth", message)
    };
    if format.as_deref() == Some("dot") {
        let response = reply::rendered(StatusCode::OK, render_dot(&graph, of, &nodes).ok_or_else(too_large)?);
        return Ok(reply::with_header(response, CONTENT_TYPE, HeaderValue::from_static("text/vnd.graphviz")));
    }
    let mut document = Document::new(&graph);
    for (node, known) in nodes.iter().filter_map(|node| Some((*node, graph.record(*node)?))) {
        // Reads one row at a time, because a row can be larger than its part of the document.
        if let Some(record) = call.app.engine.provenance().record(known.id).await?
            && !document.add(&record, node, known.flag)
        {
            return Err(too_large());
        }
    }
    Ok(reply::json(StatusCode::OK, &document.finish()))
}

/// Returns whether the document includes the dependencies and the dependents of the record.
fn parse_sides(query: &mut Query) -> [bool; 2] {
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

/// Returns the record with its dependencies and dependents, or their number if there are too many.
fn surroundings(
    graph: &Graph,
    of: Node,
    depth: u32,
    sides: [bool; 2],
    stop: &StopFlag,
) -> Result<Result<Vec<Node>, usize>, Cancelled> {
    let questions = graph.cancellable(|| stop.is_set());
    let [above, below] = sides.map(|is_shown| Some(if is_shown { depth } else { 0 }));
    let above = questions.dependencies(&[of], above)?;
    let below = questions.dependents(&[of], below)?;
    let count = above.len() + below.len() + 1;
    if count > MAX_RECORDS {
        return Ok(Err(count));
    }
    let found = above.iter().chain(below.iter()).map(|found| found.record);
    Ok(Ok(std::iter::once(of).chain(found).collect()))
}

/// Renders a graph for Graphviz. Its edges lead from a record to those that depend on it. Returns `None` if it is
/// too large.
fn render_dot(graph: &Graph, of: Node, nodes: &[Node]) -> Option<String> {
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
        let label = quote(&label(graph, *node, &known));
        let pen = if *node == of { ", penwidth=3" } else { "" };
        // Writing to memory does not fail.
        let _ = writeln!(out, "  \"{}\" [label={label}, fillcolor={colour}{pen}];", known.id);
        for (artifact, relationship, link) in graph.inputs(*node) {
            let Link::Bound(dependency) = link else { continue };
            let Some(above) = graph.record(dependency).filter(|_| shown.contains(&dependency)) else { continue };
            let name = quote(graph.artifact_id(artifact).unwrap_or_default());
            let style = if relationship == Relationship::Referenced { ", style=dashed" } else { "" };
            let _ = writeln!(out, "  \"{}\" -> \"{}\" [label={name}{style}];", above.id, known.id);
            if out.len() > MAX_BYTES {
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

/// Quotes a label.
fn quote(text: &str) -> String {
    // Graphviz also decodes HTML entities in labels.
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;");
    format!("\"{escaped}\"")
}

/// Returns a qualified name.
fn qualified_name(kind: &str, id: &str) -> String {
    format!("dats:{kind}.{}", utf8_percent_encode(id, LOCAL_NAME))
}

/// The relations of a document, which have generated names.
#[derive(Default)]
struct Relations {
    all: BTreeMap<&'static str, Map<String, Value>>,
    bytes: usize,
}

impl Relations {
    fn add(&mut self, kind: &'static str, relation: Value) {
        let relations = self.all.entry(kind).or_default();
        let name = format!("_:{kind}{}", relations.len() + 1);
        self.bytes += name.len() + estimated_json_bytes(&relation);
        relations.insert(name, relation);
    }
}

/// Returns the approximate size of a flat object in JSON.
fn estimated_json_bytes(object: &Value) -> usize {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| name.len() + value.as_str().map_or(32, str::len) + 6).sum()
}

/// A PROV-JSON document. Artifacts are entities, records are activities, and workers are agents.
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

    /// Whether the document exceeds [`MAX_BYTES`].
    fn is_too_large(&self) -> bool {
        // An activity or an agent has less than 1 KiB.
        let others = (self.activities.len() + self.agents.len()) << 10;
        self.relations.bytes + self.entities.bytes + others > MAX_BYTES
    }

    /// Adds a record. Returns false if the document is too large.
    fn add(&mut self, record: &Record, node: Node, flag: Flag) -> bool {
        let activity = qualified_name("record", &record.id.to_string());
        self.activities.insert(activity.clone(), activity_fields(record, flag));
        let relations = &mut self.relations;
        if let Some(worker) = &record.worker {
            let agent = qualified_name("worker", worker.as_str());
            self.agents.insert(
                agent.clone(),
                json!({"prov:label": worker, "prov:type": {"$": "prov:SoftwareAgent", "type": "xsd:QName"}}),
            );
            relations.add("wasAssociatedWith", json!({"prov:activity": activity, "prov:agent": agent}));
        }
        let bound = bound_inputs(self.graph, node);
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

/// Returns the records to which the inputs of a record are bound, by artifact.
fn bound_inputs(graph: &Graph, node: Node) -> HashMap<&str, RecordId> {
    let inputs = graph.inputs(node).filter_map(|(artifact, _, link)| {
        let Link::Bound(maker) = link else { return None };
        Some((graph.artifact_id(artifact)?, graph.record(maker)?.id))
    });
    inputs.collect()
}

/// The artifacts of a document. PROV allows one generation of an entity, so an artifact that several records
/// made has one version for each of them.
struct Entities<'a> {
    graph: &'a Graph,
    all: Map<String, Value>,
    bytes: usize,
}

impl Entities<'_> {
    /// Adds an artifact as `maker` made it, and returns the name of its entity.
    fn entity(
        &mut self,
        id: &ArtifactId,
        maker: Option<RecordId>,
        kind: Option<&str>,
        relations: &mut Relations,
    ) -> String {
        let whole = qualified_name("artifact", id.as_str());
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
        let version = qualified_name(&format!("version.{maker}"), id.as_str());
        if !self.all.contains_key(&version) {
            self.bytes += version.len() + id.as_str().len() + 64;
            self.all.insert(version.clone(), json!({"prov:label": id}));
            let of = json!({"prov:specificEntity": version, "prov:generalEntity": whole});
            relations.add("specializationOf", of);
        }
        version
    }
}

fn activity_fields(record: &Record, flag: Flag) -> Value {
    let mut activity = json!({
        "dats:project_id": record.project, "dats:status": record.status.as_str(), "dats:flag": flag,
    });
    let time = |time: Option<Timestamp>| time.map(|time| Value::from(time.to_string()));
    // PROV-JSON has no null values.
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
        assert_eq!(quote(r#"a "b" \c &lt;"#), r#""a \"b\" \\c &amp;lt;""#);
        assert_eq!(qualified_name("artifact", "a b/c"), "dats:artifact.a%20b%2Fc");
    }

    #[test]
    fn an_empty_document_has_its_parts() {
        assert_eq!(
            Document::new(&Graph::default()).finish(),
            json!({"prefix": {"dats": "urn:dats:"}, "entity": {}, "activity": {}, "agent": {}})
        );
    }
}
