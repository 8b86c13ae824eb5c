//! The webhook of Microsoft's tutorial, as a web server.
//!
//! It follows the C# function of the tutorial line by line:
//! * If the registration ID contains `-contoso-tstrsd-007`, the device gets the last linked hub whose name contains
//!   `-toasters-`.
//! * If the registration ID contains `-contoso-hpsd-088`, the device gets the last linked hub whose name contains
//!   `-heatpumps-`.
//! * Each hub has its own initial twin.
//! * Any other registration is rejected with 400 and the reason as text.
//!
//! ```
//! use azure_dps_emulator::contoso::{ContosoOptions, Webhook};
//!
//! let webhook = Webhook::start("127.0.0.1:0", ContosoOptions::default())?;
//! assert!(webhook.url().ends_with("/api/HttpTrigger1"));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use form_urlencoded::byte_serialize;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde::Serialize;
use serde_json::{Value, json};

pub use crate::config::ContosoOptions;
use crate::{
    net::{
        http::{Body, Connection, Handler, Http, NoAnswer, read_body, whole},
        listener::{bind, serve},
        worker::Worker,
    },
    watch::Bounded,
};

/// The path of the function in the tutorial.
const PATH: &str = "/api/HttpTrigger1";

/// An answer that a test sets instead of the function's.
#[derive(Clone, Debug)]
struct Prescribed {
    status: u16,
    body: String,
    delay: Duration,
}

/// The running webhook. It stops when it is dropped.
pub struct Webhook {
    address: SocketAddr,
    function: Arc<Function>,
    _worker: Worker,
}

impl Webhook {
    /// Starts the webhook on this address, such as `127.0.0.1:0`.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be listened on, or if no thread can be started.
    pub fn start(address: &str, options: ContosoOptions) -> io::Result<Self> {
        Self::start_with_log(address, options, |_| {})
    }

    /// Starts the webhook, and calls `observer` with every line that it logs.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Webhook::start`].
    pub fn start_with_log(
        address: &str,
        options: ContosoOptions,
        observer: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (listener, address) = bind(address)?;
        let function = Arc::new(Function {
            options,
            calls: AtomicU64::new(0),
            prescribed: Mutex::default(),
            log: Mutex::default(),
            observer: Box::new(observer),
        });
        let handler = Arc::clone(&function);
        let worker =
            Worker::start("contoso-webhook", move || vec![tokio::spawn(serve(listener, None, Http(handler)))])?;
        Ok(Self { address, function, _worker: worker })
    }

    /// Returns the URL of the function without the key: `http://127.0.0.1:PORT/api/HttpTrigger1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Returns the URL with the function key in the query, as the portal stores it. This URL is a secret.
    #[must_use]
    pub fn url_with_key(&self) -> String {
        match &self.function.options.function_key {
            Some(key) => {
                let key: String = byte_serialize(key.as_bytes()).collect();
                format!("{}?code={key}", self.url())
            }
            None => self.url(),
        }
    }

    /// Sets the answer to the next call. Several such answers wait in a queue.
    ///
    /// Use it for the rows of the tutorial's troubleshooting table: 200 with an empty hub, 401, 429 and more, or any
    /// other status.
    pub fn respond(&self, status: u16, body: impl Into<String>) {
        self.respond_after(Duration::ZERO, status, body);
    }

    /// Sets the answer to the next call, which the webhook sends after this delay.
    pub fn respond_after(&self, delay: Duration, status: u16, body: impl Into<String>) {
        lock(&self.function.prescribed).push_back(Prescribed { status, body: body.into(), delay });
    }

    /// Returns the lines that the function has logged, as the tutorial shows them under *Logs*.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lock(&self.function.log).iter().cloned().collect()
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url()).field("options", &self.function.options).finish()
    }
}

struct Function {
    options: ContosoOptions,
    /// The number of calls, for `throttle_every`.
    calls: AtomicU64,
    prescribed: Mutex<VecDeque<Prescribed>>,
    log: Mutex<Bounded<String>>,
    observer: Box<dyn Fn(&str) + Send + Sync>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `ResponseObj` of the tutorial, with its members in the order of the tutorial's log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseObj {
    iot_hub_host_name: String,
    initial_twin: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
}

impl Function {
    fn log(&self, line: &str) {
        lock(&self.log).push(line.to_owned(), line.len());
        (self.observer)(line);
    }

    /// `Run` of the tutorial. Returns the response, or the message of a `BadRequestObjectResult`.
    fn run(&self, body: &str) -> Result<Result<String, String>, serde_json::Error> {
        self.log("C# HTTP trigger function processed a request.");
        // JsonConvert reads an empty body as `null`.
        let data: Value = match body.trim() {
            "" => Value::Null,
            body => serde_json::from_str(body)?,
        };
        self.log("Request.Body:...");
        self.log(body);

        let result = self.allocate(&data).map(|response| serde_json::to_string(&response).unwrap_or_default());

        self.log("Response");
        self.log(match &result {
            Ok(text) | Err(text) => text,
        });
        Ok(result)
    }

    fn allocate(&self, data: &Value) -> Result<ResponseObj, String> {
        let context = &data["deviceRuntimeContext"];
        let Some(registration_id) = context["registrationId"].as_str() else {
            self.log("Registration ID : NULL");
            return Err("Registration ID not provided for the device.".to_owned());
        };
        let Some(hubs) = data["linkedHubs"].as_array() else {
            self.log("linkedHubs : NULL");
            return Err("No hub group defined for the enrollment.".to_owned());
        };
        // The last match wins, as in the loop of the tutorial.
        let hub_with =
            |part: &str| hubs.iter().filter_map(Value::as_str).rfind(|hub| hub.contains(part)).map(str::to_owned);
        let refuse = |message: &str| {
            self.log(message);
            message.to_owned()
        };

        let (subject, toaster, heat_pump) = if self.options.by_model {
            let payload = &context["payload"];
            let model = payload["deviceModel"]
                .as_str()
                .or_else(|| payload["modelId"].as_str())
                .ok_or_else(|| refuse("Device model not provided in the payload."))?;
            (model, "contoso-tstrsd-007", "contoso-hpsd-088")
        } else {
            (registration_id, "-contoso-tstrsd-007", "-contoso-hpsd-088")
        };
        let payload = self.options.return_payload.then(|| json!({ "property1": "value1" }));

        if subject.contains(toaster) {
            Ok(ResponseObj {
                iot_hub_host_name: hub_with("-toasters-")
                    .ok_or_else(|| refuse("No toasters hub found for the enrollment."))?,
                initial_twin: json!({
                    "properties": { "desired": { "state": "ready", "darknessSetting": "medium" } },
                    "tags": { "deviceType": "toaster" },
                }),
                payload,
            })
        } else if subject.contains(heat_pump) {
            Ok(ResponseObj {
                iot_hub_host_name: hub_with("-heatpumps-")
                    .ok_or_else(|| refuse("No heat pumps hub found for the enrollment."))?,
                initial_twin: json!({
                    // A string, as in the tutorial.
                    "properties": { "desired": { "state": "on", "temperatureSetting": "65" } },
                    "tags": { "deviceType": "heatpump" },
                }),
                payload,
            })
        } else {
            self.log("Unknown device registration");
            Err("Unrecognized device registration.".to_owned())
        }
    }

    fn is_authorized<T>(&self, request: &Request<T>) -> bool {
        let Some(key) = &self.options.function_key else {
            return true;
        };
        let query = request.uri().query().unwrap_or_default();
        let in_query =
            form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "code" && value == key.as_str());
        let in_header =
            request.headers().get("x-functions-key").is_some_and(|value| value.as_bytes() == key.as_bytes());
        in_query || in_header
    }
}

impl Handler for Function {
    fn note(&self, what: String) {
        self.log(&what);
    }

    async fn handle(&self, request: Request<Incoming>, _: &Connection) -> Result<Response<Body>, NoAnswer> {
        let is_function = request.uri().path().eq_ignore_ascii_case(PATH);
        let authorized = self.is_authorized(&request);
        let body = read_body(request.into_body(), 1024 * 1024, self.patience()).await.map_err(|_| NoAnswer)?;
        let prescribed = lock(&self.prescribed).pop_front();
        if let Some(prescribed) = prescribed {
            tokio::time::sleep(prescribed.delay).await;
            return Ok(respond(prescribed.status, "application/json; charset=utf-8", prescribed.body));
        }
        if !is_function {
            return Ok(respond(404, "text/plain", String::new()));
        }
        if !authorized {
            return Ok(respond(401, "text/plain", String::new()));
        }
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.options.throttle_every.is_some_and(|every| calls.is_multiple_of(u64::from(every.get()))) {
            return Ok(respond(429, "text/plain", String::new()));
        }
        let text = String::from_utf8_lossy(&body);
        Ok(match self.run(&text) {
            Ok(Ok(response)) => respond(200, "application/json; charset=utf-8", response),
            Ok(Err(message)) => respond(400, "text/plain; charset=utf-8", message),
            // The tutorial's function does not catch the exceptions of JsonConvert.
            Err(_) => respond(500, "text/plain", String::new()),
        })
    }
}

fn respond(status: u16, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
