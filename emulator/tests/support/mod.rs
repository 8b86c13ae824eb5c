//! A device that uses plain HTTP and creates its own tokens.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod control;
pub mod hub;
pub mod mqtt;
#[cfg(unix)]
pub mod program;
pub mod service;
pub mod software_tpm;
pub mod x509;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use azure_dps_emulator::{Builder, Config, Emulator};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{
    Method,
    blocking::{Client, ClientBuilder, RequestBuilder, Response},
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Value, json};
use sha2::Sha256;

/// The path of the emulator's program.
pub const DPS: &str = env!("CARGO_BIN_EXE_dps-emulator");

pub const SCOPE: &str = "0ne00002193";
pub const TOASTER: &str = "breakroom499-contoso-tstrsd-007";
pub const HEAT_PUMP: &str = "mainbuilding167-contoso-hpsd-088";
pub const TOASTERS_HUB: &str = "contoso-toasters-hub-1098.azure-devices.net";
pub const HEATPUMPS_HUB: &str = "contoso-heatpumps-hub-1098.azure-devices.net";
pub const GROUP: &str = "contoso-custom-allocated-devices";
pub const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
pub const OTHER_KEY: &str = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
/// Older api-versions have no `reprovisionedToInitialAssignment`.
pub const VERSION: &str = "?api-version=2021-06-01";

pub fn hmac(key: &str, text: &str) -> String {
    let key = BASE64_STANDARD.decode(key).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// Derives a device key from a group key, as in the tutorial.
pub fn derive(group_key: &str, registration_id: &str) -> String {
    hmac(group_key, registration_id)
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub fn escape(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// Signs `sr`, as the token has it, and `se`.
pub fn sign(key: &str, sr: &str, se: u64) -> String {
    escape(&hmac(key, &format!("{sr}\n{se}")))
}

pub fn token(key: &str, registration_id: &str) -> String {
    let sr = format!("{SCOPE}%2Fregistrations%2F{registration_id}");
    let se = now() + 3600;
    let sig = sign(key, &sr, se);
    format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=registration")
}

/// Returns the payload of the tutorial.
pub fn payload() -> Value {
    json!({ "MyDeviceFirmwareVersion": "12.0.2.5", "MyDeviceProvisioningVersion": "1.0.0.0" })
}

pub struct Device {
    pub client: Client,
    pub url: String,
    pub registration_id: String,
    /// The key. It is empty if the device has a certificate.
    pub key: String,
    pub payload: Option<Value>,
}

impl Device {
    /// Creates a device of the tutorial's group.
    pub fn of_group(emulator: &Emulator, registration_id: &str) -> Self {
        Self::new(emulator, registration_id, &derive(GROUP_KEY, registration_id))
    }

    pub fn new(emulator: &Emulator, registration_id: &str, key: &str) -> Self {
        Self {
            client: Client::builder().no_proxy().build().unwrap(),
            url: emulator.http_url().unwrap().to_owned(),
            registration_id: registration_id.to_owned(),
            key: key.to_owned(),
            payload: None,
        }
    }

    /// Creates a device that uses HTTPS, with a certificate or without credentials.
    pub fn over_tls(emulator: &Emulator, registration_id: &str, identity: Option<&x509::Identity>) -> Self {
        Self {
            client: tls_client(emulator, identity).build().unwrap(),
            url: emulator.https_url().unwrap().to_owned(),
            registration_id: registration_id.to_owned(),
            key: String::new(),
            payload: None,
        }
    }

    pub fn with_payload(mut self, payload: Value) -> Self {
        self.payload = Some(payload);
        self
    }

    pub fn path(&self) -> String {
        format!("/{SCOPE}/registrations/{}", self.registration_id)
    }

    /// Creates a request, which is signed if the device has a key.
    pub fn request(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        let request = self.unsigned(method, path_and_query);
        if self.key.is_empty() {
            return request;
        }
        request.header(AUTHORIZATION, token(&self.key, &self.registration_id))
    }

    pub fn unsigned(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path_and_query}", self.url))
    }

    pub fn registration(&self) -> Value {
        let mut body = json!({ "registrationId": self.registration_id });
        if let Some(payload) = &self.payload {
            body["payload"] = payload.clone();
        }
        body
    }

    pub fn put(&self) -> Response {
        self.request(Method::PUT, &format!("{}/register{VERSION}", self.path()))
            .header(CONTENT_TYPE, "application/json")
            .body(self.registration().to_string())
            .send()
            .unwrap()
    }

    /// Registers with this `Authorization` header. Returns the answer.
    pub fn put_with(&self, authorization: &str) -> (u16, Value) {
        answer(
            self.unsigned(Method::PUT, &format!("{}/register{VERSION}", self.path()))
                .header(AUTHORIZATION, authorization)
                .header(CONTENT_TYPE, "application/json")
                .body(self.registration().to_string())
                .send()
                .unwrap(),
        )
    }

    pub fn get(&self, operation_id: &str) -> Response {
        self.request(Method::GET, &format!("{}/operations/{operation_id}{VERSION}", self.path())).send().unwrap()
    }

    pub fn lookup(&self) -> (u16, Value) {
        answer(
            self.request(Method::POST, &format!("{}{VERSION}", self.path()))
                .header(CONTENT_TYPE, "application/json")
                .body(self.registration().to_string())
                .send()
                .unwrap(),
        )
    }

    pub fn register(&self) -> String {
        let (status, body) = answer(self.put());
        assert_eq!((status, &body["status"]), (202, &json!("assigning")));
        body["operationId"].as_str().unwrap().to_owned()
    }

    /// Registers, and polls until there is a result.
    pub fn provision(&self) -> Value {
        let operation_id = self.register();
        self.poll(&operation_id)
    }

    pub fn poll(&self, operation_id: &str) -> Value {
        for _ in 0..2000 {
            let (status, body) = answer(self.get(operation_id));
            if body["status"] != "assigning" {
                assert_eq!(status, 200, "{body}");
                return body;
            }
            assert_eq!(status, 202, "{body}");
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no result");
    }

    /// Registers, polls, and expects an assignment.
    pub fn assigned(&self) -> Value {
        let body = self.provision();
        assert_eq!(body["status"], "assigned", "{body}");
        body["registrationState"].clone()
    }

    /// Registers, polls, and expects this failure.
    pub fn failed(&self) -> (u64, String) {
        let body = self.provision();
        let state = &body["registrationState"];
        assert_eq!((&body["status"], &state["status"]), (&json!("failed"), &json!("failed")));
        (state["errorCode"].as_u64().unwrap(), state["errorMessage"].as_str().unwrap().to_owned())
    }
}

/// Creates an HTTPS client that trusts the emulator's CA.
pub fn tls_client(emulator: &Emulator, identity: Option<&x509::Identity>) -> ClientBuilder {
    let ca = reqwest::Certificate::from_pem(emulator.ca_pem().as_bytes()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([ca]);
    match identity {
        Some(identity) => client.identity(reqwest::Identity::from_pem(identity.pem().as_bytes()).unwrap()),
        None => client,
    }
}

pub fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Reads a call of the webhook. Returns the lines of its head in lower case, and its body.
pub fn read_call(call: &TcpStream) -> (Vec<String>, Value) {
    let mut reader = BufReader::new(call);
    let mut head = vec![];
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

pub fn answer_call(call: &TcpStream, response: &Value) {
    try_answer(call, response).unwrap();
}

/// Answers a call that may have been cancelled.
pub fn try_answer(mut call: &TcpStream, response: &Value) -> io::Result<()> {
    let response = response.to_string();
    write!(call, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{response}", response.len())
}

/// A custom allocation webhook. The test takes its calls and answers them later.
pub struct HeldWebhook(TcpListener);

impl HeldWebhook {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/HttpTrigger1", self.0.local_addr().unwrap())
    }

    /// Takes the next call. Returns it with the device's context. There is a time-out, so that no test waits for
    /// ever.
    pub fn call(&self) -> (TcpStream, Value) {
        const PATIENCE: Duration = Duration::from_secs(20);
        let deadline = Instant::now() + PATIENCE;
        let call = loop {
            match self.0.accept() {
                Ok((call, _)) => break call,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("the webhook is not called: {error}"),
            }
        };
        call.set_nonblocking(false).unwrap();
        call.set_read_timeout(Some(PATIENCE)).unwrap();
        let (_, request) = read_call(&call);
        (call, request["deviceRuntimeContext"].clone())
    }

    /// Returns `true` if the webhook is called within this time.
    pub fn is_called_within(&self, time: Duration) -> bool {
        thread::sleep(time);
        self.0.accept().is_ok()
    }
}

/// Starts a custom allocation webhook for this many calls. Returns its URL and its thread.
pub fn webhook(calls: usize, decide: impl Fn(&Value) -> Value + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/HttpTrigger1", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        for call in listener.incoming().take(calls) {
            let call = call.unwrap();
            let (_, request) = read_call(&call);
            answer_call(&call, &decide(&request));
        }
    });
    (url, thread)
}

/// Returns a builder for the tutorial's service, whose own delays take no time.
pub fn builder(config: Config) -> Builder {
    Emulator::builder(config).time_scale(10_000.0)
}

pub fn contoso() -> Emulator {
    builder(Config::contoso()).start().unwrap()
}

pub fn changed(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config::contoso();
    change(&mut config);
    builder(config).start().unwrap()
}

/// Waits until another thread of the emulator has done something.
pub fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if let Some(found) = probe() {
            return found;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("the condition was not met in time");
}
