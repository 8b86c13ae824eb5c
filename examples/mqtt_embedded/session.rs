//! Provisions over MQTT 3.1.1 on a secured stream, without std and without an allocator. Copy this file and `link.rs`
//! into firmware. They need the feature `embedded-io-async-v0_7`, which converts the errors of the stream.

#[path = "link.rs"]
pub mod link;

use core::time::Duration;

use azure_dps::{
    Error, IdScope, Provisioning, RegistrationId, mqtt,
    provisioning::{Progress, Sizes, Step},
};
use embedded_io_async::{Read, Write};
use link::{Link, UNEXPECTED, encode};
use mqttrs::{
    Connect, ConnectReturnCode, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeReturnCodes,
    SubscribeTopic, decode_slice,
};
use zeroize::Zeroizing;

use super::Clock;
pub use link::STALLED;

/// The service closes a session that sends nothing for one and a half times as long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Enough for every device with a payload of at most 256 bytes.
const SIZES: Sizes = Sizes::longest(IdScope::MAX_LEN, RegistrationId::MAX_LEN).with_payload(256);
const USER_NAME: usize = SIZES.mqtt_user_name();
const PASSWORD: usize = SIZES.sas_token();
const PUBLISH: usize = SIZES.mqtt_publish();
const TEXT: usize = if PUBLISH > USER_NAME + PASSWORD { PUBLISH } else { USER_NAME + PASSWORD };
/// A packet has fewer than 64 bytes besides these texts and the client ID.
const PACKET: usize = TEXT + RegistrationId::MAX_LEN + 64;

/// Runs one MQTT session, until the run or the session ends, or until a signature is due. Leaves the body of the last
/// answer at the start of `received`. Pass an error to `Provisioning::on_error`.
pub async fn session<S: Read + Write>(
    provisioning: &mut Provisioning<'_>,
    clock: Clock,
    stream: S,
    received: &mut [u8],
    observe: &mut impl FnMut(Progress),
) -> Result<(), Error> {
    let mut link = Link::new(stream, clock, received);
    let mut packet = Zeroizing::new([0; PACKET]);
    let mut text = Zeroizing::new([0; TEXT]);
    let (user_name, password) = text.split_at_mut(USER_NAME);
    let deadline = provisioning.request_deadline(clock.now());
    let connect = Connect {
        protocol: Protocol::MQTT311,
        keep_alive: KEEP_ALIVE.as_secs() as u16,
        client_id: mqtt::client_id(provisioning),
        clean_session: true,
        last_will: None,
        username: Some(mqtt::write_user_name(provisioning, user_name)?),
        password: Some(mqtt::write_password(provisioning, password)?.as_bytes()),
    };
    let len = encode(connect.into(), &mut packet[..])?;
    link.write(&packet[..len], deadline).await?;
    link.receive(deadline).await?;
    let Ok(Some(Packet::Connack(connack))) = decode_slice(link.packet()) else { return Err(UNEXPECTED) };
    mqtt::on_connack(provisioning, clock.now(), connack.code as u8);
    provisioning.progress().into_iter().for_each(&mut *observe);
    if connack.code != ConnectReturnCode::Accepted {
        return Ok(());
    }
    let topic = SubscribeTopic { topic_path: mqtt::SUBSCRIBE_FILTER.into(), qos: QoS::AtMostOnce };
    let subscribe = Subscribe { pid: Pid::new(), topics: [topic].into_iter().collect() };
    let len = encode(subscribe.into(), &mut packet[..])?;
    link.write(&packet[..len], deadline).await?;
    link.receive(deadline).await?;
    let Ok(Some(Packet::Suback(suback))) = decode_slice(link.packet()) else { return Err(UNEXPECTED) };
    if suback.return_codes.contains(&SubscribeReturnCodes::Failure) {
        return Err(UNEXPECTED);
    }

    loop {
        let step = provisioning.step(clock.now());
        provisioning.progress().into_iter().for_each(&mut *observe);
        match step {
            // A session has one password. So the caller signs and opens a new session.
            Step::Finished | Step::Sign | Step::Activate => {
                let len = encode(Packet::Disconnect, &mut packet[..])?;
                return link.write(&packet[..len], clock.now().saturating_add(Duration::from_secs(1))).await;
            }
            Step::Wait(wait) => {
                // Only the answer to a ping or the end of the session arrives now.
                match link.receive(clock.now().saturating_add(wait.min(KEEP_ALIVE / 2))).await {
                    Err(STALLED) if wait > KEEP_ALIVE / 2 => {
                        let len = encode(Packet::Pingreq, &mut packet[..])?;
                        link.write(&packet[..len], clock.now().saturating_add(KEEP_ALIVE)).await?
                    }
                    Ok(()) | Err(STALLED) => {}
                    Err(error) => return Err(error),
                }
            }
            Step::Send => {
                let message = mqtt::write_publish(provisioning, clock.now(), &mut text[..])?;
                provisioning.progress().into_iter().for_each(&mut *observe);
                let (topic_name, payload, qospid) = (message.topic, message.body, QosPid::AtMostOnce);
                let deadline = provisioning.request_deadline(clock.now());
                let publish = Publish { dup: false, qospid, retain: false, topic_name, payload };
                let len = encode(publish.into(), &mut packet[..])?;
                link.write(&packet[..len], deadline).await?;
                loop {
                    link.receive(deadline).await?;
                    let Some(Packet::Publish(message)) = decode_slice(link.packet()).map_err(|_| UNEXPECTED)? else {
                        continue;
                    };
                    if mqtt::on_message(provisioning, clock.now(), message.topic_name, message.payload) {
                        let body = message.payload.len();
                        link.received.copy_within(link.length - body..link.length, 0);
                        break;
                    }
                }
            }
        }
    }
}
