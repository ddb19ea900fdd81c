//! In how many files a type has `impl` blocks, and how many files may change a large struct.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Field, Reference, Target, Tree};

pub(super) const MOST_FILES_WITH_IMPLS: usize = 5;
pub(super) const MOST_SHARED_FIELDS: usize = 10;

/// Types of this crate whose `impl` blocks, of traits too, stand in more files than allowed:
/// `engine::machine::Machine` to the files.
pub(super) fn scattered_impls(tree: &Tree) -> BTreeMap<String, BTreeSet<String>> {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in &tree.impls {
        if let Some(name) = type_name(tree, &block.of) {
            files.entry(name).or_default().insert(tree.file(block.of.module).to_owned());
        }
    }
    files.retain(|_, files| files.len() > MOST_FILES_WITH_IMPLS);
    files
}

/// Structs with more fields than allowed that more than one file may change, with those files.
///
/// A file may change a field if it sees the field, and if it has a method with `&mut self` for the
/// struct or names `&mut Struct` in a type.
pub(super) fn shared_structs(tree: &Tree) -> BTreeMap<String, BTreeSet<String>> {
    let mut changed_in: BTreeMap<(usize, String), BTreeSet<usize>> = BTreeMap::new();
    let methods = tree.impls.iter().filter(|block| block.changes).map(|block| &block.of);
    for reference in methods.chain(&tree.mutable_uses) {
        if let Target::Item(module, name) = tree.resolve(reference) {
            changed_in.entry((module, name)).or_default().insert(reference.module);
        }
    }
    let mut shared = BTreeMap::new();
    for item in &tree.structs {
        let Some(modules) = changed_in.get(&(item.module, item.name.clone())) else { continue };
        let fields: Vec<BTreeSet<&str>> =
            item.fields.iter().map(|field| files_that_see(tree, modules, field)).collect();
        let shared_fields = fields.iter().filter(|files| files.len() > 1);
        if shared_fields.count() > MOST_SHARED_FIELDS {
            let files = fields.into_iter().flatten().map(str::to_owned).collect();
            shared.insert(full_name(tree, item.module, &item.name), files);
        }
    }
    shared
}

fn files_that_see<'a>(tree: &'a Tree, modules: &BTreeSet<usize>, field: &Field) -> BTreeSet<&'a str> {
    let see = modules.iter().filter(|module| tree.modules[**module].path.starts_with(&field.visible_in));
    see.map(|module| tree.file(*module)).collect()
}

fn type_name(tree: &Tree, reference: &Reference) -> Option<String> {
    match tree.resolve(reference) {
        Target::Item(module, name) => Some(full_name(tree, module, &name)),
        _ => None,
    }
}

pub(super) fn full_name(tree: &Tree, module: usize, name: &str) -> String {
    let mut path = tree.modules[module].path.clone();
    path.push(name.to_owned());
    path.join("::")
}
