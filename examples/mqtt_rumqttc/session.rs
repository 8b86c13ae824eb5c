//! The session: the driving contract with rumqttc. This is the part to copy.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{Error, Malformed, Provisioning, Step, TransportFault, mqtt};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, SubscribeReasonCode,
    TlsConfiguration, TlsError, Transport,
};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

/// Runs to the end; returns the body of the last answer, which the result is read from.
pub async fn provision(provisioning: &mut Provisioning<'_>, tls: &Arc<ClientConfig>) -> Vec<u8> {
    let started = Instant::now();
    let now = || started.elapsed();
    // A clock before 1970 gets a token that has expired, and the service says so.
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    provisioning.start(now(), unix_time);
    let mut session: Option<(AsyncClient, EventLoop)> = None;
    let mut answer = Vec::new();
    loop {
        match provisioning.step(now()) {
            Step::Finished => {
                if let Some((client, mut events)) = session {
                    // Whether the goodbye arrives is all the same.
                    let _ = client.disconnect().await;
                    let gone = async {
                        while !matches!(events.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {}
                    };
                    let _ = timeout(Duration::from_secs(1), gone).await;
                }
                return answer;
            }
            Step::Wait(duration) => match &mut session {
                // The event loop answers pings. Where it fails, the next request opens a session.
                Some((_, events)) => {
                    if timeout(duration, idle(events)).await.is_ok() {
                        session = None;
                    }
                }
                None => sleep(duration).await,
            },
            Step::Send => {
                let left = provisioning.request_deadline(now()).saturating_sub(now());
                let exchange = exchange(provisioning, &now, tls, &mut session, &mut answer);
                let error = match timeout(left, exchange).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error,
                    Err(_) => Error::Transport(TransportFault::Stalled),
                };
                session = None;
                provisioning.on_error(now(), error);
            }
        }
    }
}

/// One request and its answer, in the session at hand or in a new one.
async fn exchange(
    provisioning: &mut Provisioning<'_>,
    now: &impl Fn() -> Duration,
    tls: &Arc<ClientConfig>,
    session: &mut Option<(AsyncClient, EventLoop)>,
    answer: &mut Vec<u8>,
) -> std::result::Result<(), Error> {
    // Room for a user name, a token, and what the device gives the service.
    let registration = provisioning.registration();
    let given = registration.payload().map_or(0, str::len) + registration.csr().map_or(0, |csr| 2 * csr.der().len());
    let mut buffer = vec![0; 1024 + given];
    if session.is_none() {
        let endpoint = *provisioning.endpoint();
        // An endpoint without a port has that of HTTPS.
        let port = if endpoint.port() == 443 { mqtt::PORT } else { endpoint.port() };
        let mut options = MqttOptions::new(mqtt::client_id(provisioning), endpoint.host(), port);
        let user_name = mqtt::write_user_name(provisioning, &mut buffer)?.to_owned();
        options.set_credentials(user_name, mqtt::write_password(provisioning, now(), &mut buffer)?);
        options.set_keep_alive(Duration::from_secs(60));
        // Room for any payload of the webhook's.
        options.set_max_packet_size(256 * 1024, 256 * 1024);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls))));
        let (client, mut events) = AsyncClient::new(options, 8);
        // The first event is the CONNACK.
        if let Err(error) = events.poll().await {
            return refused(provisioning, now(), error);
        }
        mqtt::on_connack(provisioning, now(), 0);
        client.subscribe(mqtt::SUBSCRIBE_FILTER, QoS::AtLeastOnce).await.map_err(broken)?;
        let granted = loop {
            if let Event::Incoming(Packet::SubAck(granted)) = events.poll().await.map_err(broken)? {
                break granted;
            }
        };
        if granted.return_codes.contains(&SubscribeReasonCode::Failure) {
            return Err(Error::Malformed(Malformed::Invalid("SUBACK")));
        }
        *session = Some((client, events));
    }
    let Some((client, events)) = session else { return Ok(()) };
    let publish = mqtt::write_publish(provisioning, now(), &mut buffer)?;
    client.publish(publish.topic, QoS::AtLeastOnce, false, publish.body).await.map_err(broken)?;
    loop {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await.map_err(broken)?
            && mqtt::on_message(provisioning, now(), &message.topic, &message.payload)
        {
            *answer = message.payload.to_vec();
            return Ok(());
        }
    }
}

/// The network's own words are in no `Error`: they are for the log.
fn broken<E: Display>(error: E) -> Error {
    eprintln!("the session broke: {error}");
    Error::Transport(TransportFault::Stream)
}

/// Why there is no session. What the service says to CONNECT, the state machine is told.
fn refused(
    provisioning: &mut Provisioning<'_>,
    now: Duration,
    error: ConnectionError,
) -> std::result::Result<(), Error> {
    match error {
        ConnectionError::ConnectionRefused(code) => {
            mqtt::on_connack(provisioning, now, code as u8);
            Ok(())
        }
        _ => {
            eprintln!("no session: {error}");
            let untrusted = is_untrusted(&error);
            Err(if untrusted { Error::Untrusted } else { Error::Transport(TransportFault::Connect) })
        }
    }
}

/// What TLS itself objects to is the same the next time.
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
