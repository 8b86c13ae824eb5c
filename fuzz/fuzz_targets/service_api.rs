//! Calls of the service API. A call without a token does nothing. Each answer is well-formed HTTP and JSON with a
//! documented status. Keys are shown only by the attestation mechanism. What was set can be read back and passes the
//! rules of the configuration. What was deleted is gone. Queries end, and find all enrollments.
//!
//! A part is a call: the method and the target, headers, an empty line, the body. The owner's token is added unless the
//! call has an `Authorization`. `{etag}` and `{continuation}` stand for the last ones that were answered.

#![no_main]

use std::sync::LazyLock;

use azure_dps_emulator::fuzzing::Service;
use azure_dps_fuzz::{
    Emulator, SERVICE_TOKEN, contains,
    http::{HttpAnswer, HttpRequest, say},
    parts, percent_decoded,
    secrets::Secrets,
    signature,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

/// The highest number of calls in an input.
const CALLS: usize = 24;
const VERSION: &str = "api-version=2021-10-01";

fuzz_target!(|input: &[u8]| {
    EMULATOR.run(input.len() & 1 != 0, async |service| {
        let mut client =
            Client { service, secrets: Secrets::default(), etag: String::new(), continuation: String::new() };
        for part in parts(input).take(CALLS) {
            client.call(part).await;
        }
        service.check().unwrap();
        for collection in ["enrollments", "enrollmentGroups"] {
            let [one_by_one, at_once] = [client.query(collection, 1).await, client.query(collection, 1000).await];
            assert_eq!(one_by_one, at_once);
        }
        for record in service.records() {
            client.secrets.check(record.as_bytes());
        }
        service.reset().unwrap();
    });
});

struct Client<'a> {
    service: &'a Service,
    secrets: Secrets,
    etag: String,
    continuation: String,
}

impl Client<'_> {
    async fn call(&mut self, part: &[u8]) {
        let part = String::from_utf8_lossy(part).into_owned();
        let (head, body) = part.split_once("\n\n").unwrap_or((&part, ""));
        let head = head.replace("{etag}", &self.etag).replace("{continuation}", &self.continuation);
        let body = body.replace("{etag}", &self.etag.replace('"', "\\\""));
        let part = format!("{head}\n\n{body}");
        let request = HttpRequest::parse(part.as_bytes());
        self.secrets.come_in(&request);
        let Some(answer) = self.ask(&request).await else { return };
        if (200..300).contains(&answer.status) {
            self.check_success(&request, &answer).await;
        }
    }

    /// `None`: the request was no HTTP, or one of a device.
    async fn ask(&mut self, request: &HttpRequest<'_>) -> Option<HttpAnswer> {
        let defaults = [("Host", "localhost"), ("Authorization", SERVICE_TOKEN), ("Content-Type", "application/json")];
        let said = request.write(&defaults);
        let answered = say(self.service, said, async |service, wire| service.http(wire).await).await;
        let is_mechanism = request.target.to_ascii_lowercase().contains("attestationmechanism");
        let mut rest = &answered[..];
        let mut answer = HttpAnswer::split_off(&mut rest, request.method == "HEAD")?;
        if answer.status == 100 {
            answer = HttpAnswer::split_off(&mut rest, request.method == "HEAD")?;
        }
        if !(is_mechanism && answer.status == 200) {
            self.secrets.check(&answered);
        }
        let is_upgrade = request.header("Upgrade").is_some();
        if !request.is_of_service() || is_upgrade || request.method == "HEAD" {
            return None;
        }
        assert!(answer.is_whole);
        match answer.status {
            200 => assert!(serde_json::from_slice::<Value>(&answer.body).is_ok()),
            204 => assert!(answer.body.is_empty()),
            400 | 414 | 431 if answer.body.is_empty() => return None,
            status @ (400 | 401 | 404 | 405 | 409 | 412 | 413 | 415 | 429) => {
                let error: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(error["errorCode"].as_u64().map(|code| code / 1000), Some(status.into()), "{error}");
                for member in ["trackingId", "message", "timestampUtc"] {
                    assert!(error[member].is_string(), "{error}");
                }
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
        }
        if answer.status < 300 {
            let shown = request.header("Authorization").unwrap_or(SERVICE_TOKEN);
            let signature = signature(SERVICE_TOKEN);
            assert!(contains(&percent_decoded(shown.as_bytes()), &signature), "{} {}", request.method, request.target);
        }
        Some(answer)
    }

    /// What was set can be read, and what was deleted cannot.
    async fn check_success(&mut self, request: &HttpRequest<'_>, answer: &HttpAnswer) {
        let read = HttpRequest { method: "GET", target: request.target, headers: Vec::new(), body: b"" };
        match request.method {
            "PUT" => {
                let set: Value = serde_json::from_slice(&answer.body).unwrap();
                let stored = self.ask(&read).await.unwrap();
                assert_eq!((stored.status, serde_json::from_slice(&stored.body).ok()), (200, Some(set.clone())));
                self.service.check().unwrap();
                set["etag"].as_str().unwrap().clone_into(&mut self.etag);
            }
            "DELETE" => assert_eq!(self.ask(&read).await.unwrap().status, 404),
            "POST" => answer.header("x-ms-continuation").unwrap_or_default().clone_into(&mut self.continuation),
            _ => {}
        }
    }

    /// The names of all enrollments, in the order of a query with pages of this length.
    async fn query(&mut self, collection: &str, page: usize) -> Vec<String> {
        let (mut names, mut continuation) = (Vec::new(), String::new());
        loop {
            let (target, page) = (format!("/{collection}/query?{VERSION}"), page.to_string());
            let mut headers = vec![("x-ms-max-item-count", &*page)];
            headers.extend((!continuation.is_empty()).then_some(("x-ms-continuation", &*continuation)));
            let body = br#"{"query":"SELECT *"}"#;
            let answer = self.ask(&HttpRequest { method: "POST", target: &target, headers, body }).await.unwrap();
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            let items: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
            for item in &items {
                let name = item["registrationId"].as_str().or(item["enrollmentGroupId"].as_str()).unwrap().to_owned();
                assert!(!names.contains(&name), "{name}");
                names.push(name);
            }
            match answer.header("x-ms-continuation") {
                Some(next) => next.clone_into(&mut continuation),
                None => return names,
            }
            assert!(!items.is_empty(), "a page without items goes on");
        }
    }
}
