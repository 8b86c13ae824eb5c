//! Masks the keys in bodies of the service API before they are recorded.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::config::webhook_url;

const MASK: &str = "****";

/// Names of members whose value is a secret: in lower case, only the letters.
const SECRET_NAMES: [&str; 4] = ["primarykey", "secondarykey", "sharedaccesskey", "sharedaccesssignature"];

/// Names of members that hold secrets, in the same form. An unknown text inside them, or instead of them, may be a
/// key.
const PARENTS: [&str; 2] = ["attestation", "symmetrickey"];

/// Matches any kind, such as `-----BEGIN EC PRIVATE KEY-----`.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

/// The longest body that is kept. The answer to a query may be longer than the whole history.
const LONGEST: usize = 1024 * 1024;

/// Returns the body without keys and without the secrets in URLs of webhooks. If a body is not JSON or is too long,
/// only its length is returned, because keys cannot be found in it.
pub(super) fn masked(body: &[u8]) -> String {
    if body.iter().all(u8::is_ascii_whitespace) {
        return String::new();
    }
    if body.len() > LONGEST {
        return format!("({} bytes, too long to keep)", body.len());
    }
    match serde_json::from_slice(body) {
        Ok(mut json) => {
            mask(&mut json);
            json.to_string()
        }
        Err(_) => format!("({} bytes that are not JSON)", body.len()),
    }
}

fn mask(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(members) => {
            for (name, value) in members {
                let letters = letters(name);
                let is_url = letters == "webhookurl";
                match value {
                    Value::Null => {}
                    // Any value under this name may be a key.
                    _ if SECRET_NAMES.contains(&&*letters) => *value = MASK.into(),
                    Value::Object(members) if letters == "symmetrickey" => {
                        members.values_mut().filter(|value| !value.is_null()).for_each(|value| *value = MASK.into());
                    }
                    Value::Object(_) if !is_url => mask(value),
                    _ if PARENTS.contains(&&*letters) => *value = MASK.into(),
                    Value::String(url) if is_url => *url = webhook_url::masked(url),
                    _ if is_url => *value = MASK.into(),
                    _ => mask(value),
                }
            }
        }
        Value::String(text) => mask_text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the letters of a name in lower case, because clients also write `primary_key`.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
}

/// Masks a text that contains secrets: members with keys, such as JSON in a string, a private key, a token, or the
/// query of a URL.
fn mask_text(text: &mut String) {
    let letters = letters(text);
    // Names in JSON may contain escapes.
    let is_secret = SECRET_NAMES.iter().any(|name| letters.contains(name))
        || text.contains("\\u00")
        || text.contains("sig=")
        || has_private_key(text.as_bytes());
    // Microsoft's tools send certificates as base64 of PEM, too.
    let inside = || BASE64_STANDARD.decode(text.split_ascii_whitespace().collect::<String>());
    if is_secret || inside().is_ok_and(|inside| has_private_key(&inside)) {
        *text = MASK.to_owned();
    } else if let Some(at) = text.find("://") {
        *text = format!("{}{}", &text[..at], webhook_url::masked(&text[at..]));
    }
}

/// Returns `true` if the text contains a private key in PEM, as files with certificates often do.
fn has_private_key(text: &[u8]) -> bool {
    text.windows(PRIVATE_KEY.len()).any(|part| part == PRIVATE_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_long_body_is_not_kept() {
        let longer = format!("[\"{}\"]", "a".repeat(LONGEST - 3));
        assert_eq!(masked(longer.as_bytes()), "(1048577 bytes, too long to keep)");
        let kept = format!("[\"{}\"]", "a".repeat(LONGEST - 4));
        assert_eq!(masked(kept.as_bytes()), kept);
    }

    #[test]
    fn a_recorded_body_has_no_key() {
        for (body, shown) in [
            (
                r#"{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"S3CRET","secondaryKey":"S3CRET"}}}"#,
                r#"{"attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"****","secondaryKey":"****"}}}"#,
            ),
            (
                r#"{"enrollments":[{"primaryKEY":["S3CRET"]},{"SecondaryKey":{"a":"S3CRET"}}]}"#,
                r#"{"enrollments":[{"primaryKEY":"****"},{"SecondaryKey":"****"}]}"#,
            ),
            (r#"{"primaryKey":null,"SharedAccessKey":7}"#, r#"{"primaryKey":null,"SharedAccessKey":"****"}"#),
            (
                r#"{"webhookUrl":"https://u:S3CRET@a.example/api?code=S3CRET","apiVersion":"2021-10-01"}"#,
                r#"{"webhookUrl":"https://****@a.example/api?****","apiVersion":"2021-10-01"}"#,
            ),
            (r#"{"webhookurl":{"a":"S3CRET"}}"#, r#"{"webhookurl":"****"}"#),
            (r#"["https://a.example/?code=S3CRET"]"#, r#"["https://a.example/?****"]"#),
            (r#"{"query":"{'primaryKey': 'S3CRET'}"}"#, r#"{"query":"****"}"#),
            // Names that clients may misspell.
            (
                r#"{"primary_key":"S3CRET","Secondary-Key ":"S3CRET"}"#,
                r#"{"primary_key":"****","Secondary-Key ":"****"}"#,
            ),
            (r#"{"primary\u004bey":"S3CRET"}"#, r#"{"primaryKey":"****"}"#),
            (r#"{"symmetricKey":{"key":"S3CRET","key2":null}}"#, r#"{"symmetricKey":{"key":"****","key2":null}}"#),
            (r#"{"symmetric_key":["S3CRET"]}"#, r#"{"symmetric_key":"****"}"#),
            (r#"{"attestation":"S3CRET"}"#, r#"{"attestation":"****"}"#),
            (r#"{"tags":{"a":"{\"primary\\u004bey\":\"S3CRET\"}"}}"#, r#"{"tags":{"a":"****"}}"#),
            (r#"{"tags":{"a":"{\"primary_key\":\"S3CRET\"}"}}"#, r#"{"tags":{"a":"****"}}"#),
            (r#"{"a":"HostName=b;SharedAccessKey=S3CRET"}"#, r#"{"a":"****"}"#),
            (r#"{"a":"sr=b&sig=S3CRET&se=1"}"#, r#"{"a":"****"}"#),
            (r#"{"a":"note: see https://u:S3CRET@b/?code=S3CRET"}"#, r#"{"a":"note: see https://****@b/?****"}"#),
            (r#"{"webhookUrl":"http:///u:S3CRET@b/"}"#, r#"{"webhookUrl":"http:///****@b/"}"#),
            (
                r#"{"certificate":"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----"}"#,
                r#"{"certificate":"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----"}"#,
            ),
            (r#"{"certificate":"-----BEGIN EC PRIVATE KEY-----\nS3CRET"}"#, r#"{"certificate":"****"}"#),
            // The base64 of "-----BEGIN PRIVATE KEY-----".
            (r#"{"certificate":"LS0tLS1CRUdJTiBQUklW\nQVRFIEtFWS0tLS0t"}"#, r#"{"certificate":"****"}"#),
            (
                r#"{"webhookUrl":"http://a/?code=S3CRET","webhookUrl":"http://b/?code=S3CRET"}"#,
                r#"{"webhookUrl":"http://b/?****"}"#,
            ),
            (r#"{"primaryKey":"S3CRET""#, "(22 bytes that are not JSON)"),
            ("primaryKey=S3CRET", "(17 bytes that are not JSON)"),
            (r#"{"query":"SELECT * FROM enrollments"}"#, r#"{"query":"SELECT * FROM enrollments"}"#),
            ("", ""),
            (" \r\n", ""),
        ] {
            assert_eq!(masked(body.as_bytes()), shown, "{body}");
        }
        let deep = format!("{}\"S3CRET\"{}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(masked(deep.as_bytes()), "(2008 bytes that are not JSON)");
        assert_eq!(masked(b"{\"primaryKey\":\"S3CRET\xff\"}"), "(24 bytes that are not JSON)");
    }
}
