//! Bodies of the service API as they may be put on record: without keys.

use serde_json::Value;

use crate::config::webhook_url;

const MASK: &str = "****";

/// Names of members whose text is a secret, in lower case.
const SECRET_NAMES: [&str; 3] = ["primarykey", "secondarykey", "sharedaccesskey"];

/// A body without keys, and without what is secret in the URLs of webhooks. Of a body that is not JSON only the length
/// is kept, because nobody knows where a key is in there.
pub(super) fn masked(body: &[u8]) -> String {
    if body.iter().all(u8::is_ascii_whitespace) {
        return String::new();
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
                let is_url = name.eq_ignore_ascii_case("webhookUrl");
                match value {
                    Value::Null => {}
                    // Any value under this name may be a key.
                    _ if SECRET_NAMES.iter().any(|secret| name.eq_ignore_ascii_case(secret)) => *value = MASK.into(),
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

/// Masks a text that holds members with keys, such as JSON in a string, and the query of a URL.
fn mask_text(text: &mut String) {
    let lower = text.to_ascii_lowercase();
    if SECRET_NAMES.iter().any(|name| lower.contains(name)) || lower.contains("sharedaccesssignature") {
        *text = MASK.to_owned();
    } else if lower.starts_with("http://") || lower.starts_with("https://") {
        *text = webhook_url::masked(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_on_record_holds_no_key() {
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
