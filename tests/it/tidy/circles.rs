//! Circles of files: which file names which, and Tarjan's search for those that name each other.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Target, Tree};

/// For each file, the files that it names, with a line that does.
pub(super) type FileGraph = BTreeMap<String, BTreeMap<String, String>>;

/// Which file names an item that another defines. `mod` lines alone do not count.
pub(super) fn file_graph(tree: &Tree) -> FileGraph {
    let mut graph: FileGraph = tree.modules.iter().map(|module| (module.file.clone(), BTreeMap::new())).collect();
    for reference in &tree.references {
        let Target::Item(defined_in, _) = tree.resolve(reference) else { continue };
        let (from, to) = (tree.file(reference.module), tree.file(defined_in));
        if from != to {
            let place = || format!("{from}:{} names {}", reference.line, reference.written());
            graph.get_mut(from).unwrap().entry(to.to_owned()).or_insert_with(place);
        }
    }
    graph
}

/// Groups of files that reach each other, each sorted.
pub(super) fn circles(graph: &FileGraph) -> Vec<Vec<String>> {
    let mut search = Search::new(graph);
    for file in graph.keys() {
        if !search.order.contains_key(file.as_str()) {
            search.visit(file);
        }
    }
    search.circles.sort();
    search.circles
}

/// The lines that make a group of files a circle.
pub(super) fn lines_within(graph: &FileGraph, circle: &[String]) -> Vec<String> {
    let within: BTreeSet<&String> = circle.iter().collect();
    let edges = circle.iter().flat_map(|file| &graph[file]);
    edges.filter(|(to, _)| within.contains(to)).map(|(to, line)| format!("{line}, of {to}")).collect()
}

/// Tarjan's search for strongly connected components.
struct Search<'a> {
    graph: &'a FileGraph,
    order: BTreeMap<&'a str, usize>,
    /// Smallest order that a file reaches.
    lowest: BTreeMap<&'a str, usize>,
    stack: Vec<&'a str>,
    circles: Vec<Vec<String>>,
}

impl<'a> Search<'a> {
    fn new(graph: &'a FileGraph) -> Self {
        Self { graph, order: BTreeMap::new(), lowest: BTreeMap::new(), stack: Vec::new(), circles: Vec::new() }
    }

    fn visit(&mut self, file: &'a str) {
        let order = self.order.len();
        self.order.insert(file, order);
        self.lowest.insert(file, order);
        self.stack.push(file);
        for next in self.graph[file].keys() {
            if !self.order.contains_key(next.as_str()) {
                self.visit(next);
                self.lower(file, self.lowest[next.as_str()]);
            } else if self.stack.contains(&next.as_str()) {
                self.lower(file, self.order[next.as_str()]);
            }
        }
        if self.lowest[file] == order {
            let start = self.stack.iter().position(|each| *each == file).unwrap();
            let mut circle: Vec<String> = self.stack.split_off(start).into_iter().map(str::to_owned).collect();
            circle.sort();
            if circle.len() > 1 {
                self.circles.push(circle);
            }
        }
    }

    fn lower(&mut self, file: &'a str, order: usize) {
        let lowest = self.lowest.get_mut(file).unwrap();
        *lowest = order.min(*lowest);
    }
}
