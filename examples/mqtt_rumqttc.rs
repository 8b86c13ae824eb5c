//! Provisions over MQTT with rumqttc. Start the emulator beside it:
//! `cargo run --bin dps-emulator -- --mqtts 127.0.0.1:0 --ca-out ca.pem`, then
//! `AZURE_DPS_SYMMETRIC_KEY=… cargo run --example mqtt_rumqttc -- localhost:PORT ca.pem REGISTRATION_ID`

use std::{
    env, fs,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Credential, DeviceKey, Endpoint, Error, IdScope, Provisioning, Registration, RegistrationId, Step, TransportFault,
    mqtt,
};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, TlsError, Transport,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::{sleep, timeout};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let [_, address, ca, id] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: mqtt_rumqttc HOST:PORT CA.pem REGISTRATION_ID".into());
    };
    let mut key = DeviceKey::from_base64(&env::var("AZURE_DPS_SYMMETRIC_KEY")?)?;
    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(id)?)
        .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#)?;
    let mut provisioning =
        Provisioning::new(registration, Credential::sas(&mut key)).with_endpoint(Endpoint::parse(address)?);

    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(ca)?) {
        roots.add(certificate?)?;
    }
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

    let answer = provision(&mut provisioning, &Arc::new(tls)).await;
    let assignment = provisioning.result(&answer)?;
    let (hub, device_id) = (assignment.assigned_hub(), assignment.device_id());
    println!("{hub} {device_id}");
    println!("At the hub, with the same key and client:");
    println!("  address   {hub}:{}", mqtt::PORT);
    println!("  client ID {device_id}");
    println!("  user name {hub}/{device_id}/?api-version=2021-04-12");
    println!("  password  a SAS token for {hub}%2Fdevices%2F{device_id}, without skn");
    Ok(())
}

/// Runs to the end; returns the body of the last answer, which the result is read from.
async fn provision(provisioning: &mut Provisioning<'_>, tls: &Arc<ClientConfig>) -> Vec<u8> {
    let started = Instant::now();
    let now = || started.elapsed();
    // A clock before 1970 gets a token that has expired, and the service says so.
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    provisioning.start(now(), unix_time);
    let mut session = None;
    let mut answer = Vec::new();
    loop {
        match provisioning.step(now()) {
            Step::Finished => return answer,
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
    let mut buffer = [0; 1024];
    if session.is_none() {
        let endpoint = *provisioning.endpoint();
        let mut options = MqttOptions::new(mqtt::client_id(provisioning), endpoint.host(), endpoint.port());
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
        while !matches!(events.poll().await.map_err(broken)?, Event::Incoming(Packet::SubAck(_))) {}
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

fn broken<E>(_: E) -> Error {
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
        _ if is_untrusted(&error) => Err(Error::Untrusted),
        _ => Err(Error::Transport(TransportFault::Connect)),
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
