//! A client of the service API.
#![allow(dead_code, reason = "each test file uses its part")]

use azure_dps_emulator::{Emulator, WELL_KNOWN_SERVICE_KEY};
use reqwest::{
    Method,
    blocking::{Client, RequestBuilder, Response},
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;

use super::{answer, now, sign, tls_client};

pub const OWNER: &str = "provisioningserviceowner";
pub const SERVICE_VERSION: &str = "?api-version=2021-10-01";

/// A client that has the name and key of a policy and signs each request, as the SDKs do.
#[derive(Clone)]
pub struct ServiceClient {
    pub client: Client,
    /// The URL: `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    pub url: String,
    pub policy: String,
    pub key: String,
}

impl ServiceClient {
    /// Creates a client of the owner, with the well-known key, over HTTP.
    pub fn new(emulator: &Emulator) -> Self {
        Self {
            client: Client::builder().no_proxy().build().unwrap(),
            url: emulator.http_url().unwrap().replace("0.0.0.0", "127.0.0.1"),
            policy: OWNER.to_owned(),
            key: WELL_KNOWN_SERVICE_KEY.to_owned(),
        }
    }

    pub fn over_tls(emulator: &Emulator) -> Self {
        let client = tls_client(emulator, None).build().unwrap();
        let url = emulator.https_url().unwrap().to_owned();
        Self { client, url, policy: OWNER.to_owned(), key: WELL_KNOWN_SERVICE_KEY.to_owned() }
    }

    pub fn with_policy(mut self, policy: &str, key: &str) -> Self {
        (self.policy, self.key) = (policy.to_owned(), key.to_owned());
        self
    }

    /// Returns the host with its port.
    pub fn host(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    pub fn token(&self) -> String {
        let sr = self.host().replace(':', "%3A");
        let se = now() + 3600;
        format!("SharedAccessSignature sr={sr}&sig={}&se={se}&skn={}", sign(&self.key, &sr, se), self.policy)
    }

    /// Creates a request without a token. The path has no query.
    pub fn unsigned(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}{SERVICE_VERSION}", self.url))
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.unsigned(method, path).header(AUTHORIZATION, self.token())
    }

    pub fn send(&self, method: Method, path: &str) -> (u16, Value) {
        answer(self.request(method, path).send().unwrap())
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path)
    }

    pub fn delete(&self, path: &str) -> (u16, Value) {
        self.send(Method::DELETE, path)
    }

    pub fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.with_body(Method::PUT, path, body)
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.with_body(Method::POST, path, body)
    }

    fn with_body(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(method, path).header(CONTENT_TYPE, "application/json");
        answer(request.body(body.to_string()).send().unwrap())
    }
}

/// Checks an error of the service API. Returns its code and message.
pub fn refused(response: Response) -> (u64, String) {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let [kind, code, id] = ["content-type", "x-ms-error-code", "x-ms-request-id"].map(header);
    assert_eq!(kind.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!(id.unwrap().len(), 36);
    let (status, body) = answer(response);
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["errorCode", "trackingId", "message", "timestampUtc"]);
    let error_code = body["errorCode"].as_u64().unwrap();
    assert_eq!((error_code / 1000, code), (status.into(), Some(error_code.to_string())));
    (error_code, body["message"].as_str().unwrap().to_owned())
}

pub fn last_outcome(emulator: &Emulator) -> String {
    emulator.requests().last().unwrap().outcome.clone()
}
