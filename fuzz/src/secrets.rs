//! Keys that come in, and must not come out.

use serde_json::Value;

use crate::{contains, http::HttpRequest, percent_decoded};

/// Keys of enrollments, and a function key: those of the seeds, and of the emulator's configuration.
pub const SECRETS: [&str; 5] = [
    "cHJpbWFyeSBrZXkgb2YgdGhlIHNlZWRzIGZvciBmdXp6",
    "c2Vjb25kYXJ5IGtleSBvZiB0aGUgc2VlZHMgZm9yIGZ1eno",
    "functionKeyOfTheSeeds",
    "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA",
    "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs",
];

pub const FUNCTION_KEY: &str = SECRETS[2];

/// Which secrets stood where only secrets stand. Another one may come out as it came in: as the name of an enrollment,
/// or in a tag of a twin.
#[derive(Default)]
pub struct Secrets {
    public: [bool; SECRETS.len()],
}

impl Secrets {
    /// Takes note of what comes in.
    pub fn come_in(&mut self, request: &HttpRequest<'_>) {
        let mut shown = percent_decoded(request.target.as_bytes());
        for (name, value) in &request.headers {
            if name.eq_ignore_ascii_case("Authorization") {
                // The log shows which resource a token is for.
                let resources = value.split(['&', ' ']).filter(|part| part.starts_with("sr="));
                resources.for_each(|part| shown.extend(percent_decoded(part.as_bytes())));
            } else {
                shown.extend_from_slice(name.as_bytes());
                shown.extend_from_slice(value.as_bytes());
            }
        }
        shown.extend_from_slice(request.method.as_bytes());
        if request.is_of_device() {
            // What devices send is on record as it was.
            shown.extend_from_slice(request.body);
        }
        if let Ok(mut body) = serde_json::from_slice(request.body) {
            take_out(&mut body);
            // Without the escapes of JSON, in which a secret could hide from the search.
            texts(&body, &mut shown);
        }
        for (secret, public) in SECRETS.iter().zip(&mut self.public) {
            *public |= contains(&shown, secret.as_bytes());
        }
    }

    /// What comes out has none of them.
    pub fn check(&self, what: &[u8]) {
        for (secret, public) in SECRETS.iter().zip(self.public) {
            assert!(public || !contains(what, secret.as_bytes()), "{secret}: {}", String::from_utf8_lossy(what));
        }
    }
}

/// Takes keys out of the places where keys belong.
fn take_out(body: &mut Value) {
    for list in ["enrollments", "enrollmentGroups"] {
        body.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(take_out);
    }
    if let Some(keys) = body.pointer_mut("/attestation/symmetricKey").and_then(Value::as_object_mut) {
        keys.remove("primaryKey");
        keys.remove("secondaryKey");
    }
    if let Some(url) = body.pointer_mut("/customAllocationDefinition/webhookUrl")
        && let Some(text) = url.as_str()
    {
        *url = without_secrets(text).into();
    }
}

/// A URL without its query, and without what comes before the host.
fn without_secrets(url: &str) -> String {
    let address = url.split('?').next().unwrap_or_default();
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

fn texts(value: &Value, shown: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            shown.push(b'\n');
            shown.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, shown)),
        Value::Object(members) => {
            for (name, value) in members {
                shown.push(b'\n');
                shown.extend_from_slice(name.as_bytes());
                texts(value, shown);
            }
        }
        _ => {}
    }
}
