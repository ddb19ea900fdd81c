//! Every question to the graph against the model's answer.

use std::collections::{BTreeMap, BTreeSet};

use dats::lineage::{Flag, Graph, Node, Walk};
use petgraph::Direction;
use petgraph::visit::{Bfs, IntoNeighborsDirected as _, Reversed};

use super::model::Model;
use crate::support::random::Random;

pub(super) fn check(graph: &Graph, model: &Model, random: &mut Random) {
    let (from, to) = (random.index(model.records.len()), random.index(model.records.len()));
    let limit = random.chance(50).then(|| u32::try_from(random.below(5)).unwrap());
    let node = Model::node(graph, from);
    check_walk(graph, model, &graph.dependents(&[node], limit), (from, false), limit);
    check_walk(graph, model, &graph.dependencies(&[node], limit), (from, true), limit);
    check_impact(graph, model, from, limit);
    check_root_causes(graph, model, from);
    check_tainted_dependencies(graph, from);
    check_path(graph, model, from, to, limit);
    check_as_petgraph(graph, model, from);
}

fn check_walk(graph: &Graph, model: &Model, walk: &Walk, (from, up): (usize, bool), limit: Option<u32>) {
    let mut expected = model.distances(&[from], up);
    expected.retain(|_, depth| *depth > 0 && limit.is_none_or(|limit| *depth <= limit));
    let number = |node: Node| Model::number_of(graph, model, node);
    let found: BTreeMap<usize, u32> = walk.iter().map(|found| (number(found.record), found.depth)).collect();
    assert_eq!((&found, walk.len()), (&expected, expected.len()));
    assert_eq!(walk.max_depth(), expected.values().copied().max().unwrap_or(0));
    assert!(walk.iter().map(|found| found.depth).is_sorted());
    for it in walk.iter() {
        let through = number(it.through);
        assert_eq!(found.get(&through).copied().unwrap_or(0) + 1, it.depth);
        assert!(through == from || found.contains_key(&through));
        let (dependent, dependency) = if up { (it.through, it.record) } else { (it.record, it.through) };
        let between: BTreeSet<_> =
            graph.between(dependent, dependency).filter_map(|it| graph.artifact_id(it)).collect();
        let (dependent, dependency) = (number(dependent), number(dependency));
        let edges = model.edges.iter().filter(|((from, _), (to, _))| (*from, *to) == (dependent, dependency));
        let expected: BTreeSet<_> = edges.map(|((_, artifact), _)| artifact.as_str()).collect();
        assert!(!between.is_empty());
        assert_eq!(between, expected);
    }
}

fn check_impact(graph: &Graph, model: &Model, from: usize, limit: Option<u32>) {
    let impact = graph.impact(&[Model::node(graph, from)], limit);
    let mut expected = model.distances(&[from], false);
    expected.retain(|_, depth| *depth > 0 && limit.is_none_or(|limit| *depth <= limit));
    let records = || expected.keys().map(|number| &model.records[*number].record);
    let tasks: BTreeSet<_> = records().map(|record| record.task).collect();
    let projects: BTreeSet<_> = records().map(|record| record.project.as_str()).collect();
    assert_eq!((impact.walk.len(), &impact.tasks), (expected.len(), &tasks.into_iter().collect()));
    let found: BTreeSet<_> = impact.projects.iter().map(|it| graph.project_id(*it).unwrap()).collect();
    assert_eq!((found.len(), found), (impact.projects.len(), projects));
}

fn check_tainted_dependencies(graph: &Graph, of: usize) {
    let node = Model::node(graph, of);
    let is_tainted = |node: &Node| graph.record(*node).unwrap().flag == Flag::Tainted;
    let all: BTreeSet<Node> = graph.dependencies(&[node], None).iter().map(|found| found.record).collect();
    let found = graph.tainted_dependencies(node);
    let expected: BTreeSet<Node> = all.into_iter().filter(is_tainted).collect();
    assert_eq!((found.len(), found.into_iter().collect()), (expected.len(), expected));
}

fn check_root_causes(graph: &Graph, model: &Model, of: usize) {
    let causes = graph.root_causes(Model::node(graph, of), None);
    let found: BTreeMap<_, _> =
        causes.iter().map(|(node, depth)| (Model::number_of(graph, model, node), depth)).collect();
    assert_eq!((&found, causes.len()), (&model.root_causes(of), found.len()));
    for (at, (root, depth)) in causes.iter().enumerate() {
        let path = causes.path(at);
        assert_eq!(u32::try_from(path.len()).unwrap(), depth + 1);
        check_is_path(graph, model, &path, root, Model::node(graph, of));
    }
}

fn check_path(graph: &Graph, model: &Model, from: usize, to: usize, limit: Option<u32>) {
    let (start, end) = (Model::node(graph, from), Model::node(graph, to));
    let path = graph.path(start, end, limit);
    let distance = model.distances(&[from], false).get(&to).copied();
    let distance = distance.filter(|distance| limit.is_none_or(|limit| *distance <= limit));
    assert_eq!(path.as_ref().map(|path| u32::try_from(path.len()).unwrap() - 1), distance, "{from} to {to}, {limit:?}");
    if let Some(path) = path {
        check_is_path(graph, model, &path, start, end);
    }
}

fn check_is_path(graph: &Graph, model: &Model, path: &[Node], start: Node, end: Node) {
    assert_eq!((path.first(), path.last()), (Some(&start), Some(&end)));
    for step in path.windows(2) {
        let [above, below] = [step[0], step[1]].map(|node| Model::number_of(graph, model, node));
        assert!(model.neighbors(below, true).contains(&above));
    }
}

/// petgraph's own algorithms run on the graph, and agree.
fn check_as_petgraph(graph: &Graph, model: &Model, from: usize) {
    assert!(petgraph::algo::toposort(graph, None).is_ok());
    let node = Model::node(graph, from);
    let numbers = |nodes: Vec<Node>| -> BTreeSet<usize> {
        nodes.into_iter().map(|node| Model::number_of(graph, model, node)).collect()
    };
    let below = graph.neighbors_directed(node, Direction::Incoming).collect();
    assert_eq!(numbers(below), model.neighbors(from, false));
    let (mut search, mut above) = (Bfs::new(graph, node), Vec::new());
    while let Some(next) = search.next(graph) {
        above.push(next);
    }
    assert_eq!(numbers(above), model.distances(&[from], true).into_keys().collect());
    let (mut search, mut below) = (Bfs::new(Reversed(graph), node), Vec::new());
    while let Some(next) = search.next(Reversed(graph)) {
        below.push(next);
    }
    assert_eq!(numbers(below), model.distances(&[from], false).into_keys().collect());
}
