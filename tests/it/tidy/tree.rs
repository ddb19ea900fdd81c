//! The modules of a crate, the names that each of them knows, and the file behind a path.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::LineColumn;

/// Aliases and globs may point at each other; a longer chain than this is not followed.
const DEPTH: usize = 16;

/// The modules of a crate, the root first.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) modules: Vec<Module>,
    pub(super) references: Vec<Reference>,
    pub(super) impls: Vec<ImplBlock>,
    pub(super) structs: Vec<StructItem>,
    pub(super) mutable_uses: Vec<Reference>,
}

/// A module, be it a file or a block inside of one.
#[derive(Default)]
pub(super) struct Module {
    /// Path from the crate's root, for example `["engine", "read"]`.
    pub(super) path: Vec<String>,
    /// File that holds it, relative to the repository.
    pub(super) file: String,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// Functions, types, constants and macros that it defines.
    pub(super) items: BTreeSet<String>,
    /// Name in this module to the path that a `use` gives it.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    pub(super) globs: Vec<Vec<String>>,
    /// Capitalized names in the calls of macros that stand among its items: the macro may define
    /// them.
    pub(super) macro_names: BTreeSet<String>,
}

/// A path that code in `module` writes.
pub(super) struct Reference {
    pub(super) module: usize,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

pub(super) struct ImplBlock {
    pub(super) of: Reference,
    /// Whether a method takes `&mut self`.
    pub(super) changes: bool,
}

pub(super) struct StructItem {
    pub(super) module: usize,
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    pub(super) name: String,
    /// Path of the outermost module that sees the field.
    pub(super) visible_in: Vec<String>,
    pub(super) is_reference: bool,
    /// Names in its type, from the outside inwards: `Option<Arc<Row>>` is `Option`, `Arc`, `Row`.
    pub(super) type_names: Vec<String>,
}

/// The thing that a path leads to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    Module(usize),
    /// An item, with the module that defines it.
    Item(usize, String),
    /// Another crate, the prelude, a local variable or a type parameter.
    Outside,
}

impl Reference {
    pub(super) fn new(module: usize, path: Vec<String>, at: LineColumn) -> Self {
        Self { module, path, line: at.line }
    }

    pub(super) fn written(&self) -> String {
        self.path.join("::")
    }
}

impl Tree {
    /// Adds a module and returns its index.
    pub(super) fn add(&mut self, parent: Option<usize>, name: &str, file: &str) -> usize {
        let index = self.modules.len();
        let mut path = Vec::new();
        if let Some(parent) = parent {
            path.clone_from(&self.modules[parent].path);
            path.push(name.to_owned());
            self.modules[parent].children.insert(name.to_owned(), index);
        }
        self.modules.push(Module { path, file: file.to_owned(), parent, ..Module::default() });
        index
    }

    pub(super) fn file(&self, module: usize) -> &str {
        &self.modules[module].file
    }

    /// Follows re-exports and globs to the item that a path names.
    pub(super) fn resolve(&self, reference: &Reference) -> Target {
        self.walk(reference.module, &reference.path, 0).0
    }

    /// Path of the module that a reference names, as it is written: a re-export counts as part of
    /// the module that offers it. `None` for other crates and local names.
    pub(super) fn named_module(&self, reference: &Reference) -> Option<&[String]> {
        let module = self.walk(reference.module, &reference.path, 0).1?;
        Some(&self.modules[module].path)
    }

    /// The target, and the deepest module that the path names before it comes to an alias.
    fn walk(&self, from: usize, path: &[String], depth: usize) -> (Target, Option<usize>) {
        let Some((first, rest)) = path.split_first() else { return (Target::Outside, None) };
        let mut target = match first.as_str() {
            "crate" | "dats" => Target::Module(0),
            "self" => Target::Module(from),
            "super" => self.parent(from),
            name => self.look_up(from, name, rest.is_empty(), depth),
        };
        let is_anchored = matches!(first.as_str(), "crate" | "dats" | "self" | "super");
        let mut named = match (&target, is_anchored) {
            (Target::Module(module), _) => Some(*module),
            (Target::Item(..), false) | (Target::Outside, _) => self.named_by_alias(from, first, depth),
            (Target::Item(..), true) => None,
        };
        for (index, segment) in rest.iter().enumerate() {
            let Target::Module(module) = target else { break };
            let is_last = index + 1 == rest.len();
            named = Some(module);
            target = match segment.as_str() {
                "super" => self.parent(module),
                "self" => Target::Module(module),
                name => self.look_up(module, name, is_last, depth),
            };
        }
        if let Target::Module(module) = target {
            named = Some(module);
        }
        (target, named)
    }

    fn named_by_alias(&self, from: usize, name: &str, depth: usize) -> Option<usize> {
        let path = self.modules[from].imports.get(name)?;
        if depth > DEPTH { None } else { self.walk(from, path, depth + 1).1 }
    }

    fn parent(&self, module: usize) -> Target {
        self.modules[module].parent.map_or(Target::Outside, Target::Module)
    }

    fn look_up(&self, module: usize, name: &str, is_last: bool, depth: usize) -> Target {
        let here = &self.modules[module];
        if is_last && here.items.contains(name) {
            return Target::Item(module, name.to_owned());
        }
        if let Some(child) = here.children.get(name) {
            return Target::Module(*child);
        }
        if here.items.contains(name) {
            return Target::Item(module, name.to_owned());
        }
        if depth > DEPTH {
            return Target::Outside;
        }
        if let Some(path) = here.imports.get(name) {
            // `use name::…` of another crate, which would otherwise lead back to itself.
            return if path[0] == name { Target::Outside } else { self.walk(module, path, depth + 1).0 };
        }
        for glob in &here.globs {
            if let (Target::Module(source), _) = self.walk(module, glob, depth + 1) {
                let found = self.look_up(source, name, is_last, depth + 1);
                if source != module && found != Target::Outside {
                    return found;
                }
            }
        }
        if here.macro_names.contains(name) { Target::Item(module, name.to_owned()) } else { Target::Outside }
    }
}
