//! Reads the device's settings from its hub, with the program's own MQTT client.

use std::time::Duration;

use azure_dps::{
    DeviceKey, Error,
    after::{
        Hub, HubOutcome,
        twin::{self, Message, Order, Properties},
    },
};

use super::own_mqtt::Client;

/// The operator's settings for a toaster.
#[derive(Debug, Default, PartialEq)]
pub struct Settings {
    pub darkness: Option<String>,
    /// The version of the desired properties.
    version: u64,
}

impl Settings {
    fn apply(&mut self, properties: &Properties<'_>) {
        if let Some(darkness) = properties.get("darknessSetting") {
            self.darkness = darkness.text().map(|text| text.to_string());
        }
        self.version = properties.version();
    }
}

/// Follows the settings until the client has no more messages. Returns how the session ended.
pub fn follow(
    client: &mut impl Client,
    hub: &Hub<'_>,
    key: &mut DeviceKey,
    unix_time: u64,
    settings: &mut Settings,
) -> Result<HubOutcome, Error> {
    let (mut user_name, mut password, mut topic) = ([0; 256], [0; 512], [0; twin::TOPIC_LEN]);
    let user_name = hub.write_user_name(&mut user_name)?;
    let password = hub.write_token(key, unix_time + 3600, &mut password)?;
    let outcome = HubOutcome::from_connack(client.connect(hub.client_id(), user_name, password));
    if outcome != HubOutcome::Accepted {
        return Ok(outcome);
    }
    client.subscribe(twin::ANSWER_FILTER);
    client.subscribe(twin::CHANGE_FILTER);

    let mut request_id = 1;
    client.publish(twin::write_get_topic(request_id, &mut topic)?, b"");
    while let Some((arrived, payload)) = client.receive(client.now() + Duration::from_secs(60)) {
        let mut ask_again_after = None;
        match twin::read(&arrived, &payload)? {
            Message::Twin(twin) if twin.request_id == request_id => {
                // Missing settings get their defaults.
                *settings = Settings::default();
                settings.apply(&twin.desired);
                if let Some(darkness) = &settings.darkness {
                    request_id += 1;
                    let report = format!(r#"{{"darknessSetting":"{darkness}"}}"#);
                    client.publish(twin::write_report_topic(request_id, &mut topic)?, report.as_bytes());
                }
            }
            Message::Change(patch) => match patch.order(settings.version) {
                Order::Known => {}
                Order::Next => settings.apply(&patch),
                Order::Gap => ask_again_after = Some(Duration::ZERO),
            },
            Message::Refused(refusal) => {
                if let Some(outcome) = refusal.hub_outcome() {
                    return Ok(outcome);
                }
                if refusal.is_retryable() {
                    ask_again_after = Some(Duration::from_secs(60));
                }
            }
            // A late answer, an accepted report, and messages for other parts of the program.
            Message::Twin(_) | Message::Reported { .. } | Message::Other => {}
        }
        if let Some(wait) = ask_again_after {
            client.sleep(wait);
            request_id += 1;
            client.publish(twin::write_get_topic(request_id, &mut topic)?, b"");
        }
    }
    Ok(HubOutcome::Unreachable)
}
