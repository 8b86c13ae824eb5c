//! Drives a `Provisioning` over MQTT with rumqttc. Copy this file.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Error, Provisioning,
    error::{BufferTooSmall, Malformed, TransportError},
    identity::Sign,
    mqtt,
    provisioning::{Endpoint, Progress, Step},
};
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, StateError,
    SubscribeReasonCode, TlsConfiguration, TlsError, Transport, mqttbytes,
};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

/// Returns the MQTT port of the endpoint. `Endpoint` uses the port of HTTPS if the text has none.
pub fn port(endpoint: &Endpoint<'_>) -> u16 {
    if endpoint.port() == 443 { mqtt::PORT } else { endpoint.port() }
}

/// Starts the run and drives it to its end. Returns the body of the last answer, for [`Provisioning::result`].
///
/// `signer` holds the key. An array of two signers is a primary and a secondary key. Answers have at most `largest` bytes.
/// `lost` is called with rumqttc's error if a session is lost. `observe` is called with each [`Progress`].
pub async fn provision(
    provisioning: &mut Provisioning<'_>,
    signer: &mut dyn Sign,
    tls: &Arc<ClientConfig>,
    largest: usize,
    lost: &mut dyn FnMut(&ConnectionError),
    observe: &mut dyn FnMut(Progress),
) -> Vec<u8> {
    let started = Instant::now();
    let now = || started.elapsed();
    // If the clock is before 1970, the service rejects the token as expired.
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    provisioning.start(now(), unix_time);
    let mut session: Option<(AsyncClient, EventLoop)> = None;
    let mut answer = Vec::new();
    loop {
        let step = provisioning.step(now());
        provisioning.progress().into_iter().for_each(&mut *observe);
        match step {
            Step::Finished => {
                close(session).await;
                return answer;
            }
            // A session has one password: the next request opens a new one.
            Step::Sign => {
                close(session.take()).await;
                let mut message = vec![0; provisioning.sizes().sas_token()];
                if let Err(error) = provisioning.sign_with(signer, &mut message) {
                    provisioning.on_error(now(), error);
                }
            }
            // The service has no TPM attestation over MQTT.
            Step::Activate => provisioning.on_error(now(), Error::Unsupported),
            Step::Wait(duration) => match &mut session {
                // The event loop sends pings. If it fails, the next request opens a new session.
                Some((_, events)) => {
                    if timeout(duration, idle(events)).await.is_ok() {
                        session = None;
                    }
                }
                None => sleep(duration).await,
            },
            Step::Send => {
                let left = provisioning.request_deadline(now()).saturating_sub(now());
                let exchange = exchange(provisioning, &now, tls, largest, &mut session, &mut answer, observe);
                let error = match timeout(left, exchange).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(Failed { error, cause })) => {
                        cause.iter().for_each(&mut *lost);
                        error
                    }
                    Err(_) => Error::Transport(TransportError::Stalled),
                };
                session = None;
                provisioning.on_error(now(), error);
            }
        }
    }
}

async fn close(session: Option<(AsyncClient, EventLoop)>) {
    let Some((client, mut events)) = session else { return };
    // It does not matter whether the DISCONNECT arrives.
    let _ = client.disconnect().await;
    let gone = async { while !matches!(events.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {} };
    let _ = timeout(Duration::from_secs(1), gone).await;
}

/// Sends one request and receives its answer, in the open session or in a new one.
async fn exchange(
    provisioning: &mut Provisioning<'_>,
    now: &impl Fn() -> Duration,
    tls: &Arc<ClientConfig>,
    largest: usize,
    session: &mut Option<(AsyncClient, EventLoop)>,
    answer: &mut Vec<u8>,
    observe: &mut dyn FnMut(Progress),
) -> Result<(), Failed> {
    let sizes = provisioning.sizes();
    let mut buffer = vec![0; sizes.mqtt_user_name().max(sizes.sas_token()).max(sizes.mqtt_publish())];
    if session.is_none() {
        let endpoint = *provisioning.endpoint();
        // Only URLs have brackets around an IPv6 address.
        let host = endpoint.host().trim_matches(['[', ']']);
        let mut options = MqttOptions::new(mqtt::client_id(provisioning), host, port(&endpoint));
        let user_name = mqtt::write_user_name(provisioning, &mut buffer)?.to_owned();
        options.set_credentials(user_name, mqtt::write_password(provisioning, &mut buffer)?);
        options.set_keep_alive(Duration::from_secs(60));
        // A received packet also has a topic. Sent packets need no limit.
        options.set_max_packet_size(largest.saturating_add(1024), usize::MAX);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls))));
        let (client, mut events) = AsyncClient::new(options, 8);
        // The first event is the CONNACK.
        match events.poll().await {
            Ok(_) => {
                mqtt::on_connack(provisioning, now(), 0);
                provisioning.progress().into_iter().for_each(&mut *observe);
            }
            // The state machine decides what the return code means.
            Err(ConnectionError::ConnectionRefused(code)) => {
                mqtt::on_connack(provisioning, now(), code as u8);
                return Ok(());
            }
            Err(cause) => return Err(Failed::of(cause, TransportError::Connect)),
        }
        client.subscribe(mqtt::SUBSCRIBE_FILTER, QoS::AtLeastOnce).await?;
        let granted = loop {
            if let Event::Incoming(Packet::SubAck(granted)) = events.poll().await? {
                break granted;
            }
        };
        if granted.return_codes.contains(&SubscribeReasonCode::Failure) {
            return Err(Error::Malformed(Malformed::Invalid("SUBACK")).into());
        }
        *session = Some((client, events));
    }
    let Some((client, events)) = session else { return Ok(()) };
    let publish = mqtt::write_publish(provisioning, now(), &mut buffer)?;
    provisioning.progress().into_iter().for_each(observe);
    client.publish(publish.topic, QoS::AtLeastOnce, false, publish.body).await?;
    loop {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await?
            && mqtt::on_message(provisioning, now(), &message.topic, &message.payload)
        {
            *answer = message.payload.to_vec();
            return Ok(());
        }
    }
}

/// Why an exchange failed.
struct Failed {
    error: Error,
    /// The error of rumqttc.
    cause: Option<ConnectionError>,
}

impl Failed {
    fn of(cause: ConnectionError, fault: TransportError) -> Self {
        let error = match &cause {
            // Until CONNACK, the server may be something other than DPS.
            ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(
                size,
            ))) if fault == TransportError::Stream => BufferTooSmall::at_least(*size).into(),
            _ if is_untrusted(&cause) => Error::Untrusted,
            _ => Error::Transport(fault),
        };
        // The error has the size already.
        let cause = Some(cause).filter(|_| !matches!(error, Error::BufferTooSmall(_)));
        Self { error, cause }
    }
}

impl From<ConnectionError> for Failed {
    fn from(cause: ConnectionError) -> Self {
        Self::of(cause, TransportError::Stream)
    }
}

/// The event loop has ended.
impl From<ClientError> for Failed {
    fn from(_: ClientError) -> Self {
        Error::Transport(TransportError::Stream).into()
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, cause: None }
    }
}

impl From<BufferTooSmall> for Failed {
    fn from(error: BufferTooSmall) -> Self {
        Error::from(error).into()
    }
}

/// Returns `true` for an error of TLS itself, which a retry does not fix.
fn is_untrusted(error: &ConnectionError) -> bool {
    let tls = match error {
        ConnectionError::Tls(TlsError::TLS(error)) => Some(error),
        ConnectionError::Tls(TlsError::Io(error)) | ConnectionError::Io(error) => {
            error.get_ref().and_then(|error| error.downcast_ref())
        }
        _ => None,
    };
    tls.is_some_and(|error| !matches!(error, rustls::Error::AlertReceived(_)))
}

async fn idle(events: &mut EventLoop) {
    while events.poll().await.is_ok() {}
}
