//! The layers of the source: a file imports from lower layers only, and never in a circle.
//!
//! The test reads the tokens of every file in `src`. A path that begins with `crate`, `self`, `super` or a child module
//! is an import, in a `use` or anywhere else, macros included.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The layers from top to bottom. A file may import from its own folder and from lower layers, but not from another
/// folder of its layer.
const LAYERS: [&[&str]; 9] = [
    &["emulator", "fuzzing"],
    &["doors", "contoso"],
    &["service"],
    &["hub"],
    &["store"],
    &["config"],
    &["identity"],
    &["net", "watch"],
    &["clock"],
];

/// A module as the path of its names: `service::webhook::calls`.
type Module = Vec<String>;

/// A file's text by its path in `src`.
type Sources = BTreeMap<String, String>;

#[test]
fn imports_go_down_only() {
    let mut sources = Sources::new();
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut sources);
    // The programs are separate crates that use the public API, and `lib.rs` is that API.
    sources.retain(|file, _| !file.starts_with("bin/") && file != "lib.rs");
    assert!(sources.len() > 40, "{} files", sources.len());
    let faults = faults(&sources);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Each of these sources has one fault.
#[test]
fn a_wrong_import_is_found() {
    for (house, fault) in [
        (
            &[("store.rs", "use crate::service::Service;"), ("service.rs", "")][..],
            "store.rs:1 imports service.rs, which is not below it",
        ),
        (
            &[("net/mod.rs", "mod a;"), ("net/a.rs", "\nfn f() { json!(crate::watch::g()); }"), ("watch.rs", "")],
            "net/a.rs:2 imports watch.rs, which is not below it",
        ),
        (
            &[("clock/mod.rs", "mod a;"), ("clock/a.rs", "use super::super::net;"), ("net.rs", "")],
            "clock/a.rs:1 imports net.rs, which is not below it",
        ),
        (
            &[
                ("net/mod.rs", "mod a; mod b;"),
                ("net/a.rs", "use super::b::{self, B};"),
                ("net/b.rs", "use super::{a::A};"),
            ],
            "a circle: net/a.rs -> net/b.rs -> net/a.rs",
        ),
        (
            &[("net/mod.rs", "mod a; fn f() { a::g() }"), ("net/a.rs", "use super::f;")],
            "a circle: net/a.rs -> net/mod.rs -> net/a.rs",
        ),
        (
            &[("net.rs", "mod tests { use super::*; use super::super::lib; }")],
            "net.rs:1 imports lib, which is in no file",
        ),
        (&[("net.rs", "use crate::Config;")], "net.rs:1 imports Config, which is in no file"),
        (&[("cellar.rs", "")], "cellar.rs is in no layer"),
        (&[("net.rs", "use azure_dps::mqtt;")], "net.rs:1 imports the library"),
    ] {
        let sources = house.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        assert_eq!(faults(&sources), [fault]);
    }
    let right = [
        ("service/mod.rs", "mod a; pub(crate) use a::A; pub(in crate::service) fn f(_: crate::store::Store) {}"),
        ("service/a.rs", "mod tests { use super::*; use self::b::C; mod b { use super::super::A; } }"),
        ("store.rs", "use crate::{clock, config::{self, Config}}; //! [`crate::service`]"),
        ("clock.rs", "use time::Duration; fn f() { r#\"crate::service\"# }"),
        ("config.rs", ""),
    ];
    let sources = right.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    assert_eq!(faults(&sources), [""; 0]);
}

/// The emulator implements the protocol independently, so it must not depend on the library.
#[test]
fn the_emulator_does_not_depend_on_the_library() {
    let manifest: toml::Table =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap().parse().unwrap();
    for section in ["dependencies", "dev-dependencies"] {
        let dependencies = manifest[section].as_table().unwrap();
        assert!(dependencies.len() > 3 && !dependencies.contains_key("azure-dps"), "{section}");
    }
}

/// Each file says in its first line what it does, and `docs/source.md` names only files that exist.
#[test]
fn every_file_is_described() {
    let mut sources = Sources::new();
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut sources);
    for (file, text) in &sources {
        assert!(text.starts_with("//! "), "{file} has no module documentation");
    }
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/source.md")).unwrap();
    let names = guide.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    let unknown: Vec<_> = names.filter(|name| !sources.contains_key(*name)).collect();
    assert_eq!(unknown, [""; 0]);
}

fn read(folder: &Path, prefix: &str, sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &format!("{name}/"), sources);
        } else if name.ends_with(".rs") {
            sources.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Returns the forbidden imports.
fn faults(sources: &Sources) -> Vec<String> {
    let files: BTreeMap<Module, &str> = sources.keys().map(|file| (module(file), &**file)).collect();
    let mut faults = Vec::new();
    let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, text) in sources {
        let Some(layer) = layer(file) else {
            faults.push(format!("{file} is in no layer"));
            continue;
        };
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut found =
            Imports { children: children(&tokens), file: module(file), paths: Vec::new(), library: Vec::new() };
        found.scan(tokens, &module(file));
        faults.extend(found.library.iter().map(|line| format!("{file}:{line} imports the library")));
        for (path, line) in found.paths {
            // The longest prefix of the path that is a file. The rest is a name in this file.
            let Some(target) = (1..=path.len()).rev().find_map(|length| files.get(&path[..length])) else {
                faults.push(format!("{file}:{line} imports {}, which is in no file", path.join("::")));
                continue;
            };
            if *target == file {
                continue;
            }
            imports.entry(file).or_default().insert(target);
            let below = self::layer(target).is_none_or(|target| layer < target);
            if folder(file) != folder(target) && !below {
                faults.push(format!("{file}:{line} imports {target}, which is not below it"));
            }
        }
    }
    // A circle through several folders has an import to a higher layer, which is reported already.
    let mut done = BTreeSet::new();
    for file in sources.keys() {
        circle(file, &imports, &mut Vec::new(), &mut done, &mut faults);
    }
    faults
}

/// Follows the imports within the folder, and reports circles.
fn circle<'a>(
    file: &'a str,
    imports: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    faults: &mut Vec<String>,
) {
    if let Some(start) = way.iter().position(|before| *before == file) {
        faults.push(format!("a circle: {} -> {file}", way[start..].join(" -> ")));
        return;
    }
    if !done.insert(file) {
        return;
    }
    way.push(file);
    for target in imports.get(file).into_iter().flatten().filter(|target| folder(target) == folder(file)) {
        circle(target, imports, way, done, faults);
    }
    way.pop();
}

/// `service/mod.rs` is `service`, `service/jobs.rs` is `service::jobs`.
fn module(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

fn folder(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

fn layer(file: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder(file)))
}

/// The modules that a file declares: `mod name;`.
fn children(tokens: &TokenStream) -> BTreeSet<String> {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let declared = |window: &[TokenTree]| match window {
        [TokenTree::Ident(r#mod), TokenTree::Ident(name), TokenTree::Punct(end)] => {
            (r#mod == "mod" && end.as_char() == ';').then(|| name.to_string())
        }
        _ => None,
    };
    tokens.windows(3).filter_map(declared).collect()
}

/// The paths that a file names, each with its line.
struct Imports {
    /// The modules that the file declares.
    children: BTreeSet<String>,
    file: Module,
    paths: Vec<(Module, usize)>,
    /// The lines that name `azure_dps`.
    library: Vec<usize>,
}

impl Imports {
    /// Scans the tokens of `module`, which is the module of the file or a module inside it.
    fn scan(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            let follows = |token: Option<&TokenTree>, text: &str| token.is_some_and(|token| token.to_string() == text);
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis && follows(before, "pub") => {}
                TokenTree::Group(group) if follows(at.checked_sub(2).and_then(|at| tokens.get(at)), "mod") => {
                    let name = before.map(ToString::to_string).unwrap_or_default();
                    self.scan(group.stream(), &[module, &[name]].concat());
                }
                TokenTree::Group(group) => self.scan(group.stream(), module),
                TokenTree::Ident(name) if !follows(before, ":") => {
                    let name = name.to_string();
                    let line = token.span().start().line;
                    let start = match &*name {
                        "azure_dps" => {
                            self.library.push(line);
                            None
                        }
                        "crate" => Some(Module::new()),
                        "self" => Some(module.to_vec()),
                        "super" => Some(module[..module.len() - 1].to_vec()),
                        child if self.children.contains(child) => Some([&*self.file, &[name]].concat()),
                        _ => None,
                    };
                    if let Some(start) = start {
                        self.path(start, &tokens[at + 1..], line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads the rest of a path: `::name`, `::{…}`. Without a rest, the token is not a path: `self` may be a value.
    fn path(&mut self, mut path: Module, mut rest: &[TokenTree], line: usize) {
        let mut is_path = false;
        while let [TokenTree::Punct(one), TokenTree::Punct(two), next, after @ ..] = rest
            && (one.as_char(), two.as_char()) == (':', ':')
        {
            match next {
                TokenTree::Ident(name) if name == "super" => drop(path.pop()),
                TokenTree::Ident(name) if name == "self" => {}
                TokenTree::Ident(name) => path.push(name.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let items: Vec<_> = group.stream().into_iter().collect();
                    for item in items.split(|token| token.to_string() == ",").filter(|item| !item.is_empty()) {
                        // Read the item as if it followed the path alone.
                        let colons: Vec<_> = rest[..2].iter().chain(item).cloned().collect();
                        self.path(path.clone(), &colons, line_of(item, line));
                    }
                    return;
                }
                _ => {}
            }
            is_path = true;
            rest = after;
        }
        if is_path && !path.is_empty() {
            self.paths.push((path, line));
        }
    }
}

fn line_of(tokens: &[TokenTree], otherwise: usize) -> usize {
    tokens.first().map_or(otherwise, |token| token.span().start().line)
}
