//! What to copy into firmware: provisioning over MQTT 3.1.1 on a secured stream, without std and
//! without an allocator. It needs the feature `embedded-io-async-v0_7`, which tells the stream's
//! errors apart.

use core::time::Duration;

use azure_dps::{
    Error, IdScope, Provisioning, RegistrationId,
    error::{BufferTooSmall, Malformed, TransportError},
    mqtt,
    provisioning::{Progress, Sizes, Step},
};
use embedded_io_async::{Read, Write};
use mqttrs::{
    Connect, ConnectReturnCode, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeReturnCodes,
    SubscribeTopic, decode_slice, encode_slice,
};
use zeroize::Zeroizing;

use super::Clock;

/// The service closes a session that was silent for one and a half times this long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const STREAM: Error = Error::Transport(TransportError::Stream);
pub const STALLED: Error = Error::Transport(TransportError::Stalled);
const NOT_DPS: Error = Error::Malformed(Malformed::Invalid("MQTT packet"));

/// Sufficient for every device. Add the length of the payload that yours sends.
const SIZES: Sizes = Sizes::longest(IdScope::MAX_LEN, RegistrationId::MAX_LEN).with_payload(256);
const USER_NAME: usize = SIZES.mqtt_user_name();
const PASSWORD: usize = SIZES.sas_token();
const PUBLISH: usize = SIZES.mqtt_publish();
const TEXT: usize = if PUBLISH > USER_NAME + PASSWORD { PUBLISH } else { USER_NAME + PASSWORD };
/// A packet has less than 64 bytes beside these texts and the client ID.
const PACKET: usize = TEXT + RegistrationId::MAX_LEN + 64;

/// Runs one MQTT session, until the run or the session ends, or a signature is due. Then the body of
/// the last answer is at the start of `received`. The error is for the request that was due, if one was.
pub async fn session<S: Read + Write>(
    provisioning: &mut Provisioning<'_>,
    clock: Clock,
    stream: S,
    received: &mut [u8],
    observe: &mut impl FnMut(Progress),
) -> Result<(), Error> {
    let mut link = Link { stream, clock, received, filled: 0, length: 0 };
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
    link.send(connect.into(), deadline).await?;
    let Packet::Connack(connack) = link.receive(deadline).await? else { return Err(NOT_DPS) };
    mqtt::on_connack(provisioning, clock.now(), connack.code as u8);
    provisioning.progress().into_iter().for_each(&mut *observe);
    if connack.code != ConnectReturnCode::Accepted {
        return Ok(());
    }
    let topic = SubscribeTopic { topic_path: mqtt::SUBSCRIBE_FILTER.into(), qos: QoS::AtMostOnce };
    let subscribe = Subscribe { pid: Pid::new(), topics: [topic].into_iter().collect() };
    link.send(subscribe.into(), deadline).await?;
    let Packet::Suback(suback) = link.receive(deadline).await? else { return Err(NOT_DPS) };
    if suback.return_codes.contains(&SubscribeReturnCodes::Failure) {
        return Err(NOT_DPS);
    }

    loop {
        let step = provisioning.step(clock.now());
        provisioning.progress().into_iter().for_each(&mut *observe);
        match step {
            // A session has one password. So the caller signs, and opens a new session.
            Step::Finished | Step::Sign | Step::Activate => {
                return link.send(Packet::Disconnect, clock.now().saturating_add(Duration::from_secs(1))).await;
            }
            Step::Wait(wait) => {
                // What arrives now is the answer to a ping, or the end of the session.
                match link.receive(clock.now().saturating_add(wait.min(KEEP_ALIVE / 2))).await {
                    Err(STALLED) if wait > KEEP_ALIVE / 2 => {
                        link.send(Packet::Pingreq, clock.now().saturating_add(KEEP_ALIVE)).await?
                    }
                    Ok(_) | Err(STALLED) => {}
                    Err(error) => return Err(error),
                }
            }
            Step::Send => {
                let message = mqtt::write_publish(provisioning, clock.now(), &mut text[..])?;
                provisioning.progress().into_iter().for_each(&mut *observe);
                let (topic_name, payload, qospid) = (message.topic, message.body, QosPid::AtMostOnce);
                let deadline = provisioning.request_deadline(clock.now());
                link.send(Publish { dup: false, qospid, retain: false, topic_name, payload }.into(), deadline).await?;
                loop {
                    let Packet::Publish(message) = link.receive(deadline).await? else { continue };
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

/// Packets over a stream.
struct Link<'b, S> {
    stream: S,
    clock: Clock,
    received: &'b mut [u8],
    /// How much of a packet is there.
    filled: usize,
    /// How long the last whole one was.
    length: usize,
}

impl<S: Read + Write> Link<'_, S> {
    async fn send(&mut self, packet: Packet<'_>, deadline: Duration) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; PACKET]);
        let length = encode_slice(&packet, &mut bytes[..]).map_err(|_| STREAM)?;
        let write = async {
            self.stream.write_all(&bytes[..length]).await.map_err(broken)?;
            self.stream.flush().await.map_err(broken)
        };
        self.clock.until(deadline, write).await
    }

    /// What has come of a packet by the deadline stays for the next call.
    async fn receive(&mut self, deadline: Duration) -> Result<Packet<'_>, Error> {
        // A timer may let work that never waits go on for ever.
        if self.clock.now() >= deadline {
            return Err(STALLED);
        }
        let read = async {
            while decode_slice(&self.received[..self.filled]).map_err(|_| NOT_DPS)?.is_none() {
                let too_small = BufferTooSmall::at_least(self.filled + 1);
                let byte = self.received.get_mut(self.filled..=self.filled).ok_or(too_small)?;
                match self.stream.read(byte).await.map_err(broken)? {
                    0 => return Err(Error::Transport(TransportError::Closed)),
                    _ => self.filled += 1,
                }
                // mqttrs relies on a packet's fixed part. CONNACK, SUBACK, PUBLISH and PINGRESP are
                // all that can come to a session of QoS 0.
                let head = &self.received[..self.filled];
                if head.len() == 2 && !matches!(head, [0x20, 2] | [0x90, 3] | [0x30, _] | [0xd0, 0]) {
                    return Err(NOT_DPS);
                }
                if let Some(needed) = packet_length(head).filter(|&needed| needed > self.received.len()) {
                    return Err(BufferTooSmall::at_least(needed).into());
                }
            }
            Ok(())
        };
        self.clock.until(deadline, read).await?;
        self.length = core::mem::take(&mut self.filled);
        decode_slice(&self.received[..self.length]).ok().flatten().ok_or(NOT_DPS)
    }
}

fn broken(error: impl embedded_io_async::Error) -> Error {
    Error::Transport(error.kind().into())
}

/// How long the packet is that begins like this, once that is known.
///
/// Source: MQTT 3.1.1, 2.2.3, Remaining Length.
fn packet_length(head: &[u8]) -> Option<usize> {
    let digits = head.get(1..5.min(head.len()))?;
    let last = digits.iter().position(|digit| digit & 0x80 == 0)?;
    let rest = digits[..=last].iter().rev().fold(0, |rest, digit| rest << 7 | usize::from(digit & 0x7f));
    Some(1 + digits[..=last].len() + rest)
}
