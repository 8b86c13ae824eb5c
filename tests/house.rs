//! The modules of the library are in layers: a module imports only from lower layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::Visit;

/// The layers, lowest first. Modules of the same layer do not import each other. `lib.rs` is above all layers.
const LAYERS: [&[&str]; 8] = [
    &["total"],
    &["text"],
    &["identity"],
    &["error"],
    &["provisioning"],
    &["http", "mqtt"],
    &["transport"],
    &["after"],
];

/// The only item of `lib.rs` that modules may import.
const OF_THE_ROOT: &str = "USER_AGENT";

/// A module's path without the crate: `["text", "json"]`.
type Module = Vec<String>;

/// The paths in a file that name other modules, from the crate's root.
struct File {
    module: Module,
    /// Each path that the file uses, without re-exports.
    paths: BTreeSet<Vec<String>>,
    /// The names that the file re-exports, and the path of each.
    exports: BTreeMap<String, Vec<String>>,
}

impl File {
    fn parse(module: Module, source: &str) -> Self {
        let mut file = Self { module, paths: BTreeSet::new(), exports: BTreeMap::new() };
        file.visit_file(&syn::parse_file(source).unwrap());
        file
    }

    /// Returns the path from the root, or `None` for a path into another crate or this file.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => {
                let parent = &self.module[..self.module.len() - supers];
                Some([parent, &path[supers..]].concat())
            }
            _ => None,
        }
    }

    fn add(&mut self, path: &[String]) {
        self.paths.extend(self.resolve(path));
    }
}

/// Adds the paths of a `use`, one by one.
fn flatten(tree: &syn::UseTree, before: &[String], paths: &mut Vec<Vec<String>>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), paths),
        syn::UseTree::Name(name) if name.ident == "self" => paths.push(before.to_vec()),
        syn::UseTree::Name(name) => paths.push(with(&name.ident)),
        syn::UseTree::Rename(rename) => paths.push(with(&rename.ident)),
        syn::UseTree::Glob(_) => paths.push([before, &["*".into()]].concat()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, paths)),
    }
}

impl<'ast> Visit<'ast> for File {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        flatten(&item.tree, &[], &mut paths);
        for path in paths {
            let [.., name] = &path[..] else { continue };
            match item.vis {
                syn::Visibility::Inherited => self.add(&path),
                _ => {
                    // From a module of this file, or from a lower layer.
                    let from = self.resolve(&path).unwrap_or_else(|| [&self.module[..], &path].concat());
                    if !from.starts_with(&self.module) {
                        self.paths.insert(from.clone());
                    }
                    self.exports.insert(name.clone(), from);
                }
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        syn::visit::visit_path(self, path);
    }

    /// `pub(crate)` does not use the root.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // syn does not parse the arguments of a macro.
        let tokens = call.tokens.to_string().replace(' ', "");
        for start in ["crate::", "super::"] {
            for (at, _) in tokens.match_indices(start) {
                let path = tokens[at..].split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).next().unwrap();
                self.add(&path.split("::").map(str::to_string).collect::<Vec<_>>());
            }
        }
        syn::visit::visit_macro(self, call);
    }

    /// Tests may import anything.
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

fn read(folder: &Path, module: &[String], files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let inner = [module, std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            read(&path, &inner, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "lib" {
            let module = if name == "mod" { module.to_vec() } else { inner };
            files.push(File::parse(module, &fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Returns one line for each broken rule.
fn complaints(files: &[File]) -> Vec<String> {
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let exports: BTreeMap<_, _> = files.iter().map(|file| (&file.module, &file.exports)).collect();
    let mut complaints = Vec::new();
    // The files of the same folder that each file uses.
    let mut siblings = BTreeMap::<&Module, BTreeSet<&Module>>::new();
    for file in files {
        let own = &file.module[0];
        let name = file.module.join("::");
        let Some(own_layer) = layer(own) else {
            complaints.push(format!("{name} is in no layer"));
            continue;
        };
        for path in &file.paths {
            let shown = format!("{name} uses {}", path.join("::"));
            match path.first().map(|first| (first, layer(first))) {
                Some((first, _)) if first == OF_THE_ROOT => {}
                None | Some((_, None)) => complaints.push(format!("{shown} through the crate's root")),
                Some((first, Some(layer))) if first != own && layer >= own_layer => {
                    complaints.push(format!("{shown}, which is not below it"));
                }
                Some((first, _)) if first == own => {
                    // Follows re-exports to the file that defines the name.
                    let mut path = path.clone();
                    while let [folder @ .., name] = &path[..]
                        && let Some(from) = exports.get(&folder.to_vec()).and_then(|exports| exports.get(name))
                    {
                        path = from.clone();
                    }
                    // The file is the longest prefix of the path that names a file.
                    let target = files.iter().map(|file| &file.module).filter(|module| path.starts_with(module));
                    let target = target.max_by_key(|module| module.len()).unwrap();
                    if target != &file.module {
                        siblings.entry(&file.module).or_default().insert(target);
                    }
                }
                Some(_) => {}
            }
        }
    }
    // A file that can reach itself is part of a cycle.
    for &module in siblings.keys() {
        let mut reached = BTreeSet::new();
        let mut open = vec![module];
        while let Some(next) = open.pop() {
            for &target in siblings.get(next).into_iter().flatten() {
                if reached.insert(target) {
                    open.push(target);
                }
            }
        }
        if reached.contains(module) {
            complaints.push(format!("{} is in a circle", module.join("::")));
        }
    }
    complaints
}

/// There is no exception: the state machine uses its neighbors, and they do not use it.
#[test]
fn no_module_imports_upwards_or_in_a_circle() {
    let mut files = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut files);
    assert!(files.len() > 30, "{}", files.len());
    assert!(files.iter().map(|file| file.paths.len()).sum::<usize>() > 150);
    let complaints = complaints(&files);
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn broken_rules_are_found() {
    let house = |files: &[(&str, &str)]| {
        let parse =
            |&(module, source): &(&str, &str)| File::parse(module.split("::").map(str::to_string).collect(), source);
        complaints(&files.iter().map(parse).collect::<Vec<_>>())
    };
    let straight = [
        ("text", "pub mod json; pub(crate) mod writer; pub struct BufferTooSmall; pub use json::Text;"),
        ("text::json", "use super::{BufferTooSmall, writer::Writer};"),
        ("text::writer", "use super::BufferTooSmall;"),
        ("error", "pub use crate::text::BufferTooSmall; use crate::{USER_AGENT, text::json::Text};"),
        ("http::request", "use crate::error::Error; fn agent() -> &'static str { crate::USER_AGENT }"),
    ];
    assert_eq!(house(&straight), [""; 0]);
    for (module, source, expected) in [
        ("identity", "use crate::error::Error;", "identity uses error::Error, which is not below it"),
        ("identity", "pub use crate::error::Error;", "identity uses error::Error, which is not below it"),
        ("identity", "fn f(_: crate::error::Error) {}", "identity uses error::Error, which is not below it"),
        (
            "identity",
            "fn f() { matches!(x, crate::error::Error); }",
            "identity uses error::Error, which is not below it",
        ),
        ("identity::key", "use super::super::error::Error;", "identity::key uses error::Error, which is not below it"),
        ("mqtt", "use crate::http::Response;", "mqtt uses http::Response, which is not below it"),
        ("mqtt", "use crate::{Error, text::json};", "mqtt uses Error through the crate's root"),
        ("mqtt", "use crate::*;", "mqtt uses * through the crate's root"),
        ("mqtt", "fn f(_: crate::Error) {}", "mqtt uses Error through the crate's root"),
        ("garage", "", "garage is in no layer"),
    ] {
        let crooked = house(&[&straight[..], &[(module, source)]].concat());
        assert_eq!(crooked, [expected], "{source}");
    }
    // Directly, or through a re-export of the folder.
    for source in ["use super::json::Text;", "use super::Text;", "use crate::text::Text;"] {
        let mut crooked = straight;
        crooked[2].1 = source;
        assert_eq!(house(&crooked), ["text::json is in a circle", "text::writer is in a circle"], "{source}");
    }
    // Three files in a cycle.
    let three = [("after::a", "use super::b::B;"), ("after::b", "use super::c::C;"), ("after::c", "use super::a::A;")];
    assert_eq!(house(&three).len(), 3);
}
