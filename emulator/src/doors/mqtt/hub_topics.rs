//! The topics and filters of the device side of a hub.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::connect::parameter;
use crate::{store::hub_device::Filter, watch::text::excerpt};

const TWIN_ANSWERS: &str = "$iothub/twin/res/";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/";
const METHODS: &str = "$iothub/methods/POST/";
const CREDENTIALS: &str = "$iothub/credentials/res/";

const TWIN_GET: &str = "$iothub/twin/GET/?";
const REPORT: &str = "$iothub/twin/PATCH/properties/reported/?";
const METHOD_ANSWER: &str = "$iothub/methods/res/";

/// The longest request ID. The topic of the answer is a little longer than the topic of the request, and MQTT limits
/// a topic to 65 535 bytes.
const MAX_REQUEST_ID: usize = 65_000;

/// The properties of telemetry, in their order.
pub(super) type Properties = Vec<(String, String)>;

/// What a message of a device is for.
#[derive(Debug, PartialEq)]
pub(super) enum Topic {
    /// Telemetry, with the decoded properties of the topic.
    Telemetry(Properties),
    TwinGet {
        request_id: String,
    },
    Report {
        request_id: String,
    },
    /// The answer to a direct method. The emulator's hub calls no methods.
    MethodAnswer,
}

impl Topic {
    /// Reads the topic of a message. The error says what is wrong with the topic.
    pub(super) fn read(topic: &str, device_id: &str) -> Result<Self, String> {
        if let Some(query) = topic.strip_prefix(TWIN_GET) {
            return Ok(Self::TwinGet { request_id: request_id(topic, query)? });
        }
        if let Some(query) = topic.strip_prefix(REPORT) {
            return Ok(Self::Report { request_id: request_id(topic, query)? });
        }
        if topic.starts_with(METHOD_ANSWER) {
            return Ok(Self::MethodAnswer);
        }
        let Some((device, rest)) = topic.strip_prefix("devices/").and_then(|rest| rest.split_once('/')) else {
            let why = match topic {
                _ if topic.starts_with("$iothub/credentials/") => "the hub of the emulator issues no certificates",
                _ if topic.starts_with("$dps/") => "this is a topic of DPS, but the session is with a hub",
                _ => NO_SUCH_TOPIC,
            };
            return Err(told(topic, why));
        };
        match rest.strip_prefix("messages/events") {
            _ if device != device_id => Err(told(topic, "the topic names another device")),
            _ if rest.starts_with("modules/") => Err(told(topic, "modules are not emulated")),
            Some("") => Err(told(topic, "the topic needs a slash at its end")),
            Some(rest) if rest.starts_with('/') => Ok(Self::Telemetry(properties(&rest[1..]))),
            _ => Err(told(topic, NO_SUCH_TOPIC)),
        }
    }
}

const NO_SUCH_TOPIC: &str = "the hub has no such topic";

fn told(topic: &str, why: &str) -> String {
    format!("a message to \"{}\": {why}", excerpt(topic))
}

/// Returns `$rid` as it was written. Without `$rid`, the device cannot match the answer to its request. A `$rid` that
/// is too long for the answer is rejected before the request is processed.
fn request_id(topic: &str, query: &str) -> Result<String, String> {
    let request_id = parameter(query, "$rid").ok_or_else(|| told(topic, "it has no $rid"))?;
    if request_id.len() > MAX_REQUEST_ID {
        return Err(told(topic, "its $rid is too long for the topic of the answer"));
    }
    Ok(request_id.to_owned())
}

/// Reads the properties in a topic: `k=v&k=v`. Names are decoded too, because most clients write `$.ct` as `%24.ct`.
fn properties(bag: &str) -> Properties {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    // Microsoft's client for Node ends some topics with a slash.
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    let parts = bag.split('&').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Reads a filter. The error says why a hub does not have this filter.
pub(super) fn filter(filter: &str, device_id: &str) -> Result<Filter, String> {
    let Some(topics) = filter.strip_suffix('#') else { return Err(unknown(filter)) };
    match topics {
        TWIN_ANSWERS => Ok(Filter::TwinAnswers),
        DESIRED => Ok(Filter::DesiredChanges),
        METHODS => Ok(Filter::Methods),
        CREDENTIALS => Ok(Filter::Credentials),
        _ => {
            let of_device =
                topics.strip_prefix("devices/").and_then(|rest| rest.strip_suffix("/messages/devicebound/"));
            if of_device == Some(device_id) { Ok(Filter::CloudToDevice) } else { Err(unknown(filter)) }
        }
    }
}

fn unknown(filter: &str) -> String {
    format!(
        "a subscription to \"{}\": a hub has only the filters {TWIN_ANSWERS}#, {DESIRED}#, {METHODS}#, {CREDENTIALS}# \
         and devices/{{deviceId}}/messages/devicebound/#",
        excerpt(filter)
    )
}

/// Returns `$iothub/twin/res/{status}/?$rid={rid}&$version={version}`.
pub(super) fn twin_answer(status: u16, request_id: &str, version: Option<u64>, is_permuted: bool) -> String {
    let mut query = vec![Cow::Owned(format!("$rid={request_id}"))];
    query.extend(version.map(|version| Cow::Owned(format!("$version={version}"))));
    if is_permuted {
        query.reverse();
    }
    format!("{TWIN_ANSWERS}{status}/?{}", query.join("&"))
}

/// Returns `$iothub/twin/PATCH/properties/desired/?$version={version}`.
pub(super) fn desired_change(version: u64) -> String {
    format!("{DESIRED}?$version={version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(pairs: &[(&str, &str)]) -> Result<Topic, &'static str> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Ok(Topic::Telemetry(pairs.iter().map(pair).collect()))
    }

    #[test]
    fn topics_are_read() {
        for (topic, read) in [
            ("devices/d/messages/events/", bag(&[])),
            ("devices/d/messages/events//", bag(&[])),
            ("devices/d/messages/events/a=b", bag(&[("a", "b")])),
            // Microsoft's clients for Node, Python, C and embedded C escape system properties. The documentation does
            // not.
            ("devices/d/messages/events/%24.ct=a%2Fjson&$.ce=utf-8", bag(&[("$.ct", "a/json"), ("$.ce", "utf-8")])),
            ("devices/d/messages/events/%24.on=out1/", bag(&[("$.on", "out1")])),
            (
                "devices/d/messages/events/a+b=c+d&e&f=&g=h=i&&",
                bag(&[("a+b", "c+d"), ("e", ""), ("f", ""), ("g", "h=i")]),
            ),
            ("devices/d/messages/events/a/b=c%", bag(&[("a/b", "c%")])),
            ("devices/d/messages/events/a", bag(&[("a", "")])),
            ("devices/d/messages/events", Err("slash at its end")),
            ("devices/d/messages/event/", Err("no such topic")),
            ("devices/d", Err("no such topic")),
            ("devices/d/", Err("no such topic")),
            ("devices/d/messages/eventsa", Err("no such topic")),
            ("devices/dd/messages/events/", Err("another device")),
            ("devices/D/messages/events/", Err("another device")),
            ("devices/d/modules/m/messages/events/", Err("modules are not emulated")),
            ("$iothub/twin/GET/?$rid=a-b", Ok(Topic::TwinGet { request_id: "a-b".to_owned() })),
            ("$iothub/twin/GET/?a=b&$rid=%24", Ok(Topic::TwinGet { request_id: "%24".to_owned() })),
            ("$iothub/twin/GET/?$rid=", Ok(Topic::TwinGet { request_id: String::new() })),
            ("$iothub/twin/GET/?rid=1", Err("no $rid")),
            (&format!("$iothub/twin/GET/?$rid={}", "1".repeat(65_001)), Err("$rid is too long")),
            ("$iothub/twin/GET/", Err("no such topic")),
            ("$iothub/twin/PATCH/properties/reported/?$rid=1", Ok(Topic::Report { request_id: "1".to_owned() })),
            ("$iothub/twin/PATCH/properties/desired/?$rid=1", Err("no such topic")),
            ("$iothub/methods/res/200/?$rid=1", Ok(Topic::MethodAnswer)),
            ("$iothub/credentials/POST/issueCertificate/?$rid=1", Err("issues no certificates")),
            ("$dps/registrations/PUT/iotdps-register/?$rid=1", Err("topic of DPS")),
            ("", Err("no such topic")),
        ] {
            match (Topic::read(topic, "d"), read) {
                (Ok(is), Ok(expected)) => assert_eq!(is, expected, "{topic}"),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{topic}: {why}"),
                (is, _) => panic!("{topic}: {is:?}"),
            }
        }
    }

    #[test]
    fn there_are_five_filters() {
        for (text, read) in [
            ("$iothub/twin/res/#", Some(Filter::TwinAnswers)),
            ("$iothub/twin/PATCH/properties/desired/#", Some(Filter::DesiredChanges)),
            ("$iothub/methods/POST/#", Some(Filter::Methods)),
            ("devices/d/messages/devicebound/#", Some(Filter::CloudToDevice)),
            ("$iothub/credentials/res/#", Some(Filter::Credentials)),
            ("devices/e/messages/devicebound/#", None),
            ("devices/d/messages/devicebound/+", None),
            ("devices/d/messages/events/#", None),
            ("$iothub/twin/res/200/#", None),
            ("$iothub/twin/res/", None),
            ("$iothub/#", None),
            ("#", None),
        ] {
            assert_eq!(filter(text, "d").ok(), read, "{text}");
        }
    }

    #[test]
    fn topics_are_written() {
        for (version, is_permuted, topic) in [
            (None, false, "$iothub/twin/res/200/?$rid=a%20b"),
            (Some(7), false, "$iothub/twin/res/200/?$rid=a%20b&$version=7"),
            (Some(7), true, "$iothub/twin/res/200/?$version=7&$rid=a%20b"),
        ] {
            assert_eq!(twin_answer(200, "a%20b", version, is_permuted), topic);
        }
        assert_eq!(desired_change(7), "$iothub/twin/PATCH/properties/desired/?$version=7");
    }
}
