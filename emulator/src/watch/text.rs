//! Makes text of clients safe to show: without secrets, and without control characters.

/// Escapes control characters, and characters that are invisible or change the direction of the text.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.escape_debug().len() > 1 && !matches!(c, '"' | '\'' | '\\') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Masks the signatures of tokens and the keys of connection strings: the values of `sig=` and `SharedAccessKey=` in
/// any case, also with escapes such as `sig%3D`. A value ends at the next `&`, and a key also at the next `;`.
pub(super) fn mask_signatures(text: &str) -> String {
    let masked = mask_values(text, "sig", &['&']);
    mask_values(&masked, "sharedaccesskey", &['&', ';'])
}

/// Masks the values of this name, which must be in lower case. A value ends at one of `ends`.
fn mask_values(text: &str, name: &str, ends: &[char]) -> String {
    let is_assigned = |rest: &str| {
        let escape = rest.strip_prefix('%').map(|escape| escape.trim_start_matches("25"));
        rest.starts_with('=') || escape.is_some_and(|escape| escape.starts_with("3d"))
    };
    // The lower case has the same length.
    let lower = text.to_ascii_lowercase();
    let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
    for (at, name) in lower.match_indices(name) {
        let value = at + name.len();
        if value > done && is_assigned(&lower[value..]) {
            masked.push_str(&text[done..value]);
            masked.push_str("=****");
            done = lower[value..].find(ends).map_or(text.len(), |end| value + end);
        }
    }
    masked + &text[done..]
}

/// Masks these secrets.
pub(crate) fn mask(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| if text.contains(secret) { text.replace(secret, "****") } else { text })
}

/// Returns the beginning of a text that may be long.
pub(crate) fn excerpt(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token or a connection string in a wrong field does not reach the log.
    #[test]
    fn secrets_in_names_are_masked() {
        for (text, masked) in [
            ("sr=a&sig=b%3D&se=1", "sr=a&sig=****&se=1"),
            ("x?SIG%253Db&se=1 sig=c", "x?SIG=****&se=1 sig=****"),
            ("HostName=h;SharedAccessKey=a/b+c==;DeviceId=d", "HostName=h;SharedAccessKey=****;DeviceId=d"),
            ("DeviceId=d;sharedaccesskey%3Da%2Fb", "DeviceId=d;sharedaccesskey=****"),
            ("SharedAccessKeyName=owner;SharedAccessKey=k&a=b", "SharedAccessKeyName=owner;SharedAccessKey=****&a=b"),
            ("design/signal?a=b", "design/signal?a=b"),
        ] {
            assert_eq!(mask_signatures(text), masked);
        }
    }

    /// Text cannot control a terminal, and invisible characters become visible.
    #[test]
    fn invisible_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[2J\r\n\u{9b}"), r"a\u{1b}[2J\r\n\u{9b}");
        assert_eq!(printable("\u{feff}a\u{202e}b\u{200b}\u{2028}"), r"\u{feff}a\u{202e}b\u{200b}\u{2028}");
        let plain = r#"Größe "x" \ it's 温度 {"a": 1}"#;
        assert_eq!(printable(plain), plain);
    }
}
