//! Scripts in JSON, with every fault of [`Script`].

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, Desk},
    reply::{Refusal, Reply},
};
use crate::{
    service::script::{Action, Operation, SCRIPTS, SCRIPTS_SIZE, Script},
    watch::text::excerpt,
};

/// A script in JSON.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Order {
    operation: Operation,
    #[serde(default)]
    registration_id: Option<String>,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    delay_ms: u64,
    fault: Fault,
}

fn once() -> u32 {
    1
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Fault {
    DropConnection,
    OmitRetryAfter,
    PermuteTopic,
    Delay,
    Respond {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
    },
    Cut {
        bytes: usize,
    },
    Raw(Bytes),
    Merge {
        patch: Map<String, Value>,
    },
    Connack {
        return_code: u8,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Bytes {
    Text(String),
    Base64(String),
}

pub(super) fn show(desk: &Desk, _: &Call<'_>) -> Result<Reply, Refusal> {
    let scripts: Vec<_> = desk.service.scripts().into_iter().map(Order::from).collect();
    Ok(Reply::json(&json!({ "scripts": scripts })))
}

pub(super) fn add(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    // serde would accept an array instead of the members of a fault.
    let members: Map<String, Value> = call.body()?;
    if members.get("fault").and_then(Value::as_object).is_some_and(|fault| fault.values().any(Value::is_array)) {
        return Err(Refusal::bad_request("the members of a fault are an object, not an array"));
    }
    let script = Script::try_from(call.body::<Order>()?).map_err(Refusal::bad_request)?;
    let waiting = Order::from(script.clone());
    desk.service.try_push_script(script).map_err(|_| {
        let megabytes = SCRIPTS_SIZE / 1024 / 1024;
        Refusal::conflict(format!(
            "the limit of {SCRIPTS} scripts or {megabytes} MB is reached: remove them with DELETE /_emulator/scripts"
        ))
    })?;
    Ok(Reply::json(&waiting))
}

pub(super) fn clear(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    call.no_body()?;
    desk.service.clear_scripts();
    show(desk, call)
}

impl TryFrom<Order> for Script {
    type Error = String;

    fn try_from(order: Order) -> Result<Self, String> {
        let Order { operation, registration_id, times, delay_ms, fault } = order;
        if times == 0 {
            return Err("times is 0. A script applies to at least one request".to_owned());
        }
        let is_connect = matches!(operation, Operation::Connect | Operation::HubConnect);
        let script = match fault {
            Fault::DropConnection => Self::drop_connection(operation),
            Fault::Delay => Self::delay(operation, Duration::ZERO),
            Fault::Cut { bytes } => Self::cut(operation, bytes),
            Fault::Raw(Bytes::Text(text)) => Self::raw(operation, text),
            Fault::Raw(Bytes::Base64(text)) => {
                Self::raw(operation, STANDARD.decode(text).map_err(|error| format!("base64: {error}"))?)
            }
            Fault::Connack { return_code } if is_connect => Self::refuse_connect(operation, return_code),
            Fault::Connack { .. } => {
                return Err("connack is for the operations \"connect\" and \"hubConnect\"".to_owned());
            }
            _ if is_connect => {
                return Err("a CONNECT can be delayed, cut, dropped, or answered by connack or raw".to_owned());
            }
            Fault::OmitRetryAfter => Self::omit_retry_after(operation),
            Fault::PermuteTopic => Self::permute_topic(operation),
            Fault::Merge { patch } => Self::merge(operation, Value::Object(patch)),
            Fault::Respond { status, headers, body } => {
                if !(200..=599).contains(&status) {
                    return Err(format!("status is {status}. It must be 200 to 599"));
                }
                for (name, value) in &headers {
                    let is_header =
                        HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
                    if !is_header {
                        return Err(format!("{:?} in headers is not a valid HTTP header", excerpt(name)));
                    }
                }
                let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                Self::respond(operation, status, &headers, body)
            }
        };
        let script = script.times(times).after(Duration::from_millis(delay_ms));
        Ok(match registration_id {
            Some(id) => script.for_device(&id),
            None => script,
        })
    }
}

impl From<Script> for Order {
    fn from(script: Script) -> Self {
        let fault = match script.action {
            Action::Nothing => Fault::Delay,
            Action::Respond { status, headers, body } => {
                Fault::Respond { status, headers: headers.into_iter().collect(), body }
            }
            Action::Merge(Value::Object(patch)) => Fault::Merge { patch },
            // Rust code may merge any JSON. JSON that is not an object replaces the body.
            Action::Merge(other) => Fault::Raw(Bytes::Text(other.to_string())),
            Action::Cut(0) => Fault::DropConnection,
            Action::Cut(bytes) => Fault::Cut { bytes },
            Action::Raw(bytes) => match (script.operation, &bytes[..]) {
                (Operation::Connect | Operation::HubConnect, &[0x20, 0x02, 0x00, return_code]) => {
                    Fault::Connack { return_code }
                }
                _ => Fault::Raw(match String::from_utf8(bytes) {
                    Ok(text) => Bytes::Text(text),
                    Err(error) => Bytes::Base64(STANDARD.encode(error.as_bytes())),
                }),
            },
            Action::OmitRetryAfter => Fault::OmitRetryAfter,
            Action::PermuteTopic => Fault::PermuteTopic,
        };
        Self {
            operation: script.operation,
            registration_id: script.registration_id,
            times: script.times,
            delay_ms: u64::try_from(script.delay.as_millis()).unwrap_or(u64::MAX),
            fault,
        }
    }
}
