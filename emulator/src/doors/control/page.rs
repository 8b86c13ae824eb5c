//! The files of the page. They are part of the binary. They hold no secrets, so they need no token.

use super::reply::Reply;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The path, media type and text of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/api.js", JAVASCRIPT, include_str!("page/api.js")),
    ("/app.css", CSS, include_str!("page/app.css")),
    ("/app.js", JAVASCRIPT, include_str!("page/app.js")),
    ("/details.js", JAVASCRIPT, include_str!("page/details.js")),
    ("/device.js", JAVASCRIPT, include_str!("page/device.js")),
    ("/dom.js", JAVASCRIPT, include_str!("page/dom.js")),
    ("/entries.js", JAVASCRIPT, include_str!("page/entries.js")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/json.js", JAVASCRIPT, include_str!("page/json.js")),
    ("/lists.js", JAVASCRIPT, include_str!("page/lists.js")),
    ("/timeline.js", JAVASCRIPT, include_str!("page/timeline.js")),
];

/// Returns the file at this path.
pub(super) fn file(path: &str) -> Option<Reply> {
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    Some(Reply::text(media_type, *text))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    /// Every file in the folder is served, and no other file.
    #[test]
    fn the_page_is_complete() {
        let folder = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doors/control/page")).unwrap();
        let there: BTreeSet<_> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let served: BTreeSet<_> = FILES
            .iter()
            .map(|(path, ..)| match path.trim_start_matches('/') {
                "" => "index.html".to_owned(),
                file => file.to_owned(),
            })
            .collect();
        assert_eq!(there, served);
    }
}
