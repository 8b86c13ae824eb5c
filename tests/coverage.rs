//! Checks that each test named in `docs/evidence/coverage.md` exists.

use std::{collections::BTreeSet, fs, path::Path};

fn list() -> String {
    fs::read_to_string(root().join("docs/evidence/coverage.md")).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every `path.rs::name` in backticks as file and name. The name may contain modules.
fn references(text: &str) -> BTreeSet<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")).collect()
}

/// Returns the rows of all tables that describe a behavior: ID, status, and the whole row.
fn rows(list: &str) -> Vec<(&str, &str, &str)> {
    let rows = list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| # "));
    rows.map(|row| match row.split(" | ").collect::<Vec<_>>()[..] {
        [id, _, _, status, _] => (id.trim_start_matches("| "), status, row),
        _ => panic!("a row must have five columns: {row}"),
    })
    .collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let list = list();
    let references = references(&list);
    assert!(references.len() > 50, "only {} tests are named", references.len());
    for (file, names) in references {
        let path = format!("{file}.rs");
        let source = fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (modules, function) = names.rsplit_once("::").unwrap_or(("", names));
        for module in modules.split("::").filter(|module| !module.is_empty()) {
            assert!(source.contains(&format!("mod {module} {{")), "{path} has no module {module}");
        }
        // The name must be a test, not a helper function.
        let at = source.find(&format!("fn {function}(")).unwrap_or_else(|| panic!("{path} has no fn {function}"));
        assert!(source[..at].trim_end().ends_with("#[test]"), "{path}: fn {function} is not a test");
    }
}

#[test]
fn every_row_names_a_test_or_says_why_not() {
    let list = list();
    let rows = rows(&list);
    let ids: BTreeSet<_> = rows.iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), rows.len(), "an ID exists twice");
    for (id, status, row) in rows {
        match status {
            "shown" | "partly" => assert!(!references(row).is_empty(), "{id} names no test"),
            "gap" | "outside" => assert!(!row.ends_with("|  |"), "{id} does not say why"),
            _ => panic!("{id} has no status: {status}"),
        }
    }
}

#[test]
fn the_list_of_gaps_equals_the_rows() {
    let list = list();
    let (tables, gaps) = list.split_once("\n## Gaps\n").unwrap();
    let rows = rows(tables);
    let open: BTreeSet<_> =
        rows.iter().filter(|(_, status, _)| ["partly", "gap"].contains(status)).map(|(id, ..)| *id).collect();
    let is_id = |word: &&str| rows.iter().any(|(id, ..)| id == word);
    let collected: BTreeSet<_> = gaps.split(|c: char| !c.is_ascii_alphanumeric()).filter(is_id).collect();
    assert_eq!(collected, open);
}

#[test]
fn references_and_rows_are_found() {
    let text = "| C1 | a | b | shown | `tests/a.rs::b`, `emulator/tests/c.rs::d::e`. `cargo test`, f.rs::g |";
    assert_eq!(references(text), BTreeSet::from([("tests/a", "b"), ("emulator/tests/c", "d::e")]));
    assert_eq!(rows(&format!("| # | Paragraph |\n|---|---|\n{text}\n")), [("C1", "shown", text)]);
}
