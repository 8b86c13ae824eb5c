//! A session at the hub, with the firmware's own MQTT client. It reads one setting of the twin into memory of fixed
//! size.

use azure_dps::{
    Error, Registration,
    after::{
        HubOutcome, Record,
        twin::{self, Message},
    },
    identity::Sign,
    provisioning::{ConnectionProfile, Sizes},
};

const SIZES: Sizes = Sizes::new("0ne00002193", "breakroom499-contoso-tstrsd-007");
/// The size of the longest twin of this firmware.
const TWIN: usize = twin::answer_len(
    r#"{"darknessSetting":"medium","$version":4294967295}"#.len(),
    r#"{"darknessSetting":"medium","$version":4294967295}"#.len(),
);

/// A received packet, in the client's buffer.
pub enum Arrived<'c> {
    Whole(&'c str, &'c [u8]),
    /// The topic, and the length of a payload that was skipped.
    TooLong(&'c str, usize),
}

/// The functions of the client.
pub trait Client {
    type Error;
    /// Returns the return code of CONNACK.
    fn connect(&mut self, client_id: &str, user_name: &str, password: &str) -> Result<u8, Self::Error>;
    fn subscribe(&mut self, filter: &str) -> Result<(), Self::Error>;
    fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Self::Error>;
    /// Waits at most a minute for a message.
    fn receive<'c>(&mut self, buffer: &'c mut [u8; TWIN]) -> Result<Arrived<'c>, Self::Error>;
}

#[derive(Clone, Copy, Default, PartialEq, Eq, defmt::Format)]
pub enum Darkness {
    Light,
    #[default]
    Medium,
    Dark,
}

/// Connects to the hub in the record, and reads the darkness setting.
pub fn darkness<C: Client>(
    client: &mut C,
    flash: &[u8],
    registration: &Registration<'_>,
    key: &mut impl Sign,
    unix_time: u64,
) -> Result<Darkness, HubOutcome> {
    let refused = |error: Error| {
        defmt::error!("{}", error);
        HubOutcome::Unreachable
    };
    let unreachable = |_: C::Error| HubOutcome::Unreachable;
    let record = Record::read(flash, registration).map_err(|error| refused(error.into()))?;
    let assignment = record.assignment();
    if assignment.connection_profile() != ConnectionProfile::Classic {
        defmt::error!("this firmware cannot speak to its hub: {}", assignment.connection_profile());
        return Err(HubOutcome::Unreachable);
    }
    let hub = assignment.hub();
    let (mut user_name, mut password) = ([0; SIZES.hub_user_name()], [0; SIZES.hub_token()]);
    let user_name = hub.write_user_name(&mut user_name).map_err(|error| refused(error.into()))?;
    let password = hub.write_token(key, unix_time + 3600, &mut password).map_err(refused)?;
    match HubOutcome::from_connack(client.connect(hub.client_id(), user_name, password).map_err(unreachable)?) {
        HubOutcome::Accepted => {}
        outcome => return Err(outcome),
    }
    client.subscribe(twin::ANSWER_FILTER).map_err(unreachable)?;
    let mut topic = [0; twin::TOPIC_LEN];
    let topic = twin::write_get_topic(1, &mut topic).map_err(|error| refused(error.into()))?;
    client.publish(topic, b"").map_err(unreachable)?;

    let mut buffer = [0; TWIN];
    loop {
        let message = match client.receive(&mut buffer).map_err(unreachable)? {
            Arrived::Whole(topic, payload) => twin::read(topic, payload),
            Arrived::TooLong(topic, len) => twin::read_skipped(topic, len),
        };
        match message {
            Ok(Message::Twin(twin)) => {
                let setting = twin.desired.get("darknessSetting").and_then(|value| value.text());
                return Ok(match setting.and_then(|text| text.as_str()) {
                    Some("light") => Darkness::Light,
                    Some("dark") => Darkness::Dark,
                    _ => Darkness::Medium,
                });
            }
            Ok(Message::Refused(refusal)) => {
                defmt::warn!("the hub refuses the twin: {}", refusal);
                return Err(refusal.hub_outcome().unwrap_or(HubOutcome::Refused(refusal.status)));
            }
            Ok(_) => {}
            // The value is too long. The toaster works without the setting.
            Err(unreadable) if unreadable.request_id == Some(1) => {
                defmt::warn!("{}", unreadable.error);
                return Ok(Darkness::default());
            }
            Err(_) => {}
        }
    }
}
