//! A webhook's URL: its check, and the secrets in it.

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::finding::quoted;

/// Checks that a webhook can be called at this URL.
pub(crate) fn check(url: &str) -> Result<(), String> {
    let shown = quoted(&masked(url));
    let has_scheme = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if !has_scheme("http://") && !has_scheme("https://") {
        return Err(format!("the webhook's URL {shown} does not begin with http:// or https://"));
    }
    match Url::parse(url) {
        Ok(_) => Ok(()),
        Err(fault) => Err(format!("the webhook's URL {shown} cannot be used: {fault}")),
    }
}

/// Returns a webhook's URL without secrets. The query contains the function key, and the part before an `@` contains a
/// password. The text may be an invalid URL.
pub(crate) fn masked(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, ""), |(address, _)| (address, "?****"));
    let rest = address.split_once(':').map_or(address, |(_, rest)| rest);
    // URL parsers accept any number of slashes and backslashes before the authority, and ignore line breaks.
    let rest = rest.trim_start_matches(|c: char| matches!(c, '/' | '\\') || c.is_ascii_control() || c == ' ');
    let (scheme, rest) = address.split_at(address.len() - rest.len());
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}****@{host}{path}{query}"),
        None => format!("{address}{query}"),
    }
}

/// Returns the secrets in a webhook's URL: the parts of its query, and a password. A text may contain a secret with the
/// escapes of URLs, JSON or HTML. So the parts of a secret without special characters count as secrets, too.
pub(crate) fn secrets(url: &str) -> Vec<String> {
    // A shorter text is not a key, and would be found in any text.
    const SHORTEST: usize = 8;
    let Ok(url) = url.parse::<Url>() else {
        return Vec::new();
    };
    let query = url.query().unwrap_or_default();
    let raw = query.split('&').map(|part| part.split_once('=').map_or(part, |(_, value)| value).to_owned());
    let password = percent_decode_str(url.password().unwrap_or_default()).decode_utf8_lossy().into_owned();
    let decoded = url.query_pairs().map(|(name, value)| if value.is_empty() { name } else { value }.into_owned());
    let decoded: Vec<_> = decoded.chain([password]).collect();
    let special = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~'));
    let parts: Vec<_> = decoded.iter().flat_map(|text| text.split(special)).map(str::to_owned).collect();
    let mut secrets: Vec<_> = raw
        .chain(decoded)
        .chain(parts)
        .chain([query, url.password().unwrap_or_default()].map(str::to_owned))
        .filter(|secret| secret.len() >= SHORTEST)
        .collect();
    // A secret may contain another one, so longer secrets come first.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`Url`] accepts any number of slashes and backslashes before a password, so `masked` must find the password too.
    #[test]
    fn a_password_is_masked_in_every_place_of_a_url() {
        for start in [
            "http://",
            "HTTPS://",
            "http:/",
            "http:",
            "http:///",
            "http:////",
            "http://\\",
            "http:\\\\",
            "http:/\t/",
            "http://\r\n/",
            " http://",
        ] {
            for user in ["user:S3CRET", ":S3CRET", "S3CRET", "a@b:S3CRET"] {
                for end in ["", "/api/f", "\\api", "#part", "/a@b", "?code=S3CRET", "/?code=S3CRET"] {
                    let url = format!("{start}{user}@127.0.0.1{end}");
                    let parsed = Url::parse(&url).unwrap();
                    assert!(format!("{}{:?}", parsed.username(), parsed.password()).contains("S3CRET"), "{url:?}");
                    assert!(!masked(&url).contains("S3CRET"), "{url:?}: {}", masked(&url));
                    assert!(masked(&url).contains("****@127.0.0.1"), "{url:?}");
                }
            }
        }
        for (url, shown) in [
            ("http://127.0.0.1:7071/api/@me?code=S3CRET", "http://127.0.0.1:7071/api/@me?****"),
            ("https://[::1]:8443/", "https://[::1]:8443/"),
            ("localhost:7071/api", "localhost:7071/api"),
            ("functions.example", "functions.example"),
            ("user@functions.example/a", "****@functions.example/a"),
            ("", ""),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
