//! Prints a crate's public API from its rustdoc JSON, one line for each item.

use std::collections::HashSet;

/// Traits without interest for users.
const INTERNAL: [&str; 6] = [
    "Freeze for ",
    "UnsafeUnpin for ",
    "StructuralPartialEq for ",
    "UnwindSafe for ",
    "RefUnwindSafe for ",
    "Unpin for ",
];
/// Methods that their trait's line implies.
const IMPLIED: [&str; 9] = [
    "::clone(&self)",
    "::fmt(&self,",
    "::eq(&self,",
    "::hash<",
    "::cmp(&self,",
    "::partial_cmp(&self,",
    "::default()",
    "::drop(&mut self)",
    "::from(",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args().nth(1).ok_or("wanted: a file of rustdoc's JSON")?;
    let api = public_api::Builder::from_rustdoc_json(json).omit_blanket_impls(true).build()?;
    let mut printed = HashSet::new();
    for item in api.items() {
        let line = item.to_string();
        let says_nothing = INTERNAL.iter().any(|name| line.contains(name))
            || line.starts_with("pub fn ") && IMPLIED.iter().any(|method| line.contains(method));
        if !says_nothing && printed.insert(line.clone()) {
            println!("{line}");
        }
    }
    Ok(())
}
