//! Reads source files with `syn` into a [`Tree`]: modules, names, and the paths that code writes.
//!
//! Code under `cfg(test)` does not count. Paths inside of macro calls and attributes do, as far as
//! their tokens show them. Method calls name no path and are not seen.

use std::collections::BTreeMap;

use proc_macro2::{LineColumn, Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, FnArg, ImplItem, Item, ReceiverKind, Type, UseTree, Visibility};

use super::tree::{Field, ImplBlock, Reference, StructItem, Tree};

/// Sources by their path from the repository, for example `src/task/id.rs`.
pub(super) type Sources = BTreeMap<String, String>;

/// Reads the crate whose root is `root`, from `sources`.
///
/// Panics at a source that is no Rust, or at a module without a file.
pub(super) fn read_crate(sources: &Sources, root: &str) -> Tree {
    let mut tree = Tree::default();
    let module = tree.add(None, "", root);
    read_file(&mut tree, sources, module, root);
    tree
}

fn read_file(tree: &mut Tree, sources: &Sources, module: usize, file: &str) {
    let source = &sources[file];
    let syntax = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let folder = folder_of_children(file);
    let mut collector = Collector { tree, module, folder, files: Vec::new() };
    collector.visit_file(&syntax);
    let files = std::mem::take(&mut collector.files);
    for found in files {
        let candidates =
            [format!("{}/{}.rs", found.folder, found.name), format!("{}/{}/mod.rs", found.folder, found.name)];
        let path = candidates.iter().find(|path| sources.contains_key(*path));
        let path = path.unwrap_or_else(|| panic!("{file}: module {} has no file", found.name));
        let child = tree.add(Some(found.parent), &found.name, path);
        read_file(tree, sources, child, path);
    }
}

/// `src/task/mod.rs` has its children beside it, `src/clock.rs` in `src/clock`.
fn folder_of_children(file: &str) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap_or((".", file));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        name => format!("{folder}/{}", name.trim_end_matches(".rs")),
    }
}

/// `mod name;`
struct ModuleFile {
    parent: usize,
    name: String,
    folder: String,
}

struct Collector<'a> {
    tree: &'a mut Tree,
    /// The module that is being read.
    module: usize,
    folder: String,
    files: Vec<ModuleFile>,
}

impl Collector<'_> {
    fn refer(&mut self, path: Vec<String>, at: LineColumn) {
        self.tree.references.push(Reference::new(self.module, path, at));
    }

    fn define(&mut self, name: &syn::Ident) {
        self.tree.modules[self.module].items.insert(name.to_string());
    }

    fn add_macro_names(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if ident.to_string().starts_with(char::is_uppercase) => {
                    self.tree.modules[self.module].macro_names.insert(ident.to_string());
                }
                TokenTree::Group(group) => self.add_macro_names(group.stream()),
                _ => {}
            }
        }
    }

    fn add_use(&mut self, tree: &UseTree, prefix: &[String]) {
        let extended = |ident: &syn::Ident| {
            let mut path = prefix.to_vec();
            // `a::{self}` is `a`.
            if ident != "self" || prefix.is_empty() {
                path.push(ident.to_string());
            }
            path
        };
        let at = tree.span().start();
        match tree {
            UseTree::Path(path) => self.add_use(&path.tree, &extended(&path.ident)),
            UseTree::Name(name) => {
                let path = extended(&name.ident);
                self.add_import(path.last().cloned(), path, at);
            }
            UseTree::Rename(rename) => self.add_import(Some(rename.rename.to_string()), extended(&rename.ident), at),
            UseTree::Glob(_) => {
                self.tree.modules[self.module].globs.push(prefix.to_vec());
                self.refer(prefix.to_vec(), at);
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add_use(item, prefix)),
        }
    }

    fn add_import(&mut self, alias: Option<String>, path: Vec<String>, at: LineColumn) {
        if let Some(alias) = alias.filter(|alias| alias != "_") {
            self.tree.modules[self.module].imports.insert(alias, path.clone());
        }
        self.refer(path, at);
    }

    fn field(&self, field: &syn::Field) -> Field {
        let own = &self.tree.modules[self.module].path;
        let visible_in = match &field.vis {
            Visibility::Public(_) => Vec::new(),
            Visibility::Inherited => own.clone(),
            Visibility::Restricted(restricted) => match &segments(&restricted.path)[..] {
                [first, rest @ ..] if first == "crate" => rest.to_vec(),
                path => own[..own.len().saturating_sub(path.iter().filter(|each| *each == "super").count())].to_vec(),
            },
        };
        let mut names = TypeNames::default();
        names.visit_type(&field.ty);
        let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        Field { name, visible_in, is_reference: matches!(field.ty, Type::Reference(_)), type_names: names.0 }
    }

    /// Paths in tokens that `syn` does not parse.
    fn read_tokens(&mut self, tokens: TokenStream, with_strings: bool) {
        let mut path: Vec<String> = Vec::new();
        let mut at = LineColumn { line: 0, column: 0 };
        let mut colons = 0;
        let mut after_dot = false;
        for token in tokens {
            let is_continued = colons == 2;
            if !matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ':') {
                let goes_on = is_continued && matches!(token, TokenTree::Ident(_));
                if !goes_on && !path.is_empty() {
                    self.refer(std::mem::take(&mut path), at);
                }
                colons = 0;
            }
            match token {
                TokenTree::Ident(ident) if is_continued && !path.is_empty() => path.push(ident.to_string()),
                TokenTree::Ident(ident) if !after_dot => {
                    at = ident.span().start();
                    path = vec![ident.to_string()];
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    if colons == 1 && punct.spacing() == Spacing::Alone && !path.is_empty() {
                        self.refer(std::mem::take(&mut path), at);
                    }
                    continue;
                }
                TokenTree::Group(group) => self.read_tokens(group.stream(), with_strings),
                TokenTree::Literal(literal) if with_strings => self.read_string(&literal),
                TokenTree::Punct(ref punct) => {
                    after_dot = punct.as_char() == '.';
                    continue;
                }
                _ => {}
            }
            after_dot = false;
        }
        if !path.is_empty() {
            self.refer(path, at);
        }
    }

    /// `#[serde(with = "crate::a::b")]`.
    fn read_string(&mut self, literal: &proc_macro2::Literal) {
        let text = literal.to_string();
        if let Ok(path) = syn::parse_str::<syn::Path>(text.trim_matches('"')) {
            self.refer(segments(&path), literal.span().start());
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test_only(attributes(item)) {
            return;
        }
        match item {
            Item::Const(item) => self.define(&item.ident),
            Item::Enum(item) => self.define(&item.ident),
            Item::Fn(item) => self.define(&item.sig.ident),
            Item::Static(item) => self.define(&item.ident),
            Item::Trait(item) => self.define(&item.ident),
            Item::Type(item) => self.define(&item.ident),
            Item::Union(item) => self.define(&item.ident),
            Item::Struct(item) => {
                self.define(&item.ident);
                let fields = item.fields.iter().filter(|field| !is_test_only(&field.attrs));
                let fields = fields.map(|field| self.field(field)).collect();
                self.tree.structs.push(StructItem { module: self.module, name: item.ident.to_string(), fields });
            }
            Item::Macro(item) => {
                item.ident.iter().for_each(|name| self.define(name));
                self.add_macro_names(item.mac.tokens.clone());
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let folder = format!("{}/{name}", self.folder);
        let Some((_, items)) = &item.content else {
            self.files.push(ModuleFile { parent: self.module, name, folder: self.folder.clone() });
            return;
        };
        let file = self.tree.file(self.module).to_owned();
        let child = self.tree.add(Some(self.module), &name, &file);
        let outer = (std::mem::replace(&mut self.module, child), std::mem::replace(&mut self.folder, folder));
        for item in items {
            self.visit_item(item);
        }
        (self.module, self.folder) = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&item.tree, &[]);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(path) = type_path(&item.self_ty) {
            let of = Reference::new(self.module, path, item.span().start());
            let changes = item.items.iter().any(takes_mutable_self);
            self.tree.impls.push(ImplBlock { of, changes });
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        if let (true, Some(path)) = (reference.mutability.is_some(), type_path(&reference.elem)) {
            self.tree.mutable_uses.push(Reference::new(self.module, path, reference.span().start()));
        }
        visit::visit_type_reference(self, reference);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_test_only(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test_only(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_test_only(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.refer(segments(path), path.span().start());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.read_tokens(call.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.read_tokens(list.tokens.clone(), true);
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn type_path(kind: &Type) -> Option<Vec<String>> {
    match kind {
        Type::Path(path) if path.qself.is_none() => Some(segments(&path.path)),
        Type::Reference(reference) => type_path(&reference.elem),
        Type::Paren(paren) => type_path(&paren.elem),
        _ => None,
    }
}

fn takes_mutable_self(item: &ImplItem) -> bool {
    let ImplItem::Fn(function) = item else { return false };
    let Some(FnArg::Receiver(receiver)) = function.sig.inputs.first() else { return false };
    !is_test_only(&function.attrs) && matches!(receiver.kind, ReceiverKind::Reference(_, _, Some(_)))
}

#[derive(Default)]
struct TypeNames(Vec<String>);

impl<'ast> Visit<'ast> for TypeNames {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(segments(path).join("::"));
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an attribute is `cfg(test)`, or `cfg(all(test, …))`.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let tokens = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (tokens == "test" || tokens.starts_with("all(test,"))
    })
}
