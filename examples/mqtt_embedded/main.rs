//! Provisions over MQTT as firmware does. Only network and timer (tokio) and TLS 1.2 (rustls) are those of a PC. The first
//! command starts the emulator. The other commands, in another terminal, start the example:
//!
//! ```text
//! cargo run --bin dps-emulator -- --mqtts 127.0.0.1:8883 --ca-out ca.pem
//! export AZURE_DPS_SYMMETRIC_KEY=JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=
//! cargo run --example mqtt_embedded -- mqtts://localhost:8883 breakroom499-contoso-tstrsd-007 ca.pem
//! ```

mod session;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId,
    after::Hub,
    blocking::ConnectError,
    error::TransportError,
    mqtt,
    provisioning::{Endpoint, Progress, Sizes, Step},
    tls::{self, Connector},
};
use embedded_io_adapters::tokio_1::FromTokio;
use rustls::pki_types::ServerName;
use session::{STALLED, session};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// Enough for any device with a key, and for a webhook that returns 500 bytes.
const RECEIVED: usize =
    Sizes::longest(IdScope::MAX_LEN, RegistrationId::MAX_LEN).with_returned_payload(500).mqtt_answer();

/// Stands for the board's timer.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Duration {
        self.0.elapsed()
    }

    async fn until<T>(self, deadline: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(deadline.saturating_sub(self.now()), work).await.unwrap_or(Err(STALLED))
    }
}

/// Opens TCP and TLS, which stand for the board's network, and runs a session.
async fn connect(
    provisioning: &mut Provisioning<'_>,
    clock: Clock,
    tls: Option<&TlsConnector>,
    received: &mut [u8],
) -> Result<(), Error> {
    let endpoint = *provisioning.endpoint();
    let host = endpoint.host().trim_matches(['[', ']']);
    // `Endpoint` uses the port of HTTPS if the URL has none.
    let port = if endpoint.port() == 443 { mqtt::PORT } else { endpoint.port() };
    let network = |error: io::Error| {
        let error = tls::Error::from(error);
        eprintln!("{host}:{port}: {error}");
        match error.into_connect_error() {
            ConnectError::Untrusted(_) => Error::Untrusted,
            ConnectError::ProxyRefused(_) => Error::ProxyRefused,
            ConnectError::Network(_) => Error::Transport(TransportError::Connect),
        }
    };
    let deadline = provisioning.request_deadline(clock.now());
    let tcp = async { tokio::net::TcpStream::connect((host, port)).await.map_err(network) };
    let tcp = clock.until(deadline, tcp).await?;
    let Some(tls) = tls else { return session(provisioning, clock, FromTokio::new(tcp), received, &mut show).await };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::InvalidEndpoint)?;
    let stream = clock.until(deadline, async { tls.connect(name, tcp).await.map_err(network) }).await?;
    session(provisioning, clock, FromTokio::new(stream), received, &mut show).await
}

fn show(progress: Progress) {
    eprintln!("{progress:?}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provisioned = runtime.block_on(provision());
    // Do not wait for a DNS query that still runs.
    runtime.shutdown_background();
    provisioned
}

async fn provision() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let (Some(url), Some(id), ca_file) = (args.next(), args.next(), args.next()) else {
        return Err("usage: mqtt_embedded mqtts://HOST:PORT REGISTRATION_ID CA_FILE, or mqtt:// and no CA".into());
    };
    let text = env::var("AZURE_DPS_SYMMETRIC_KEY").map(Zeroizing::new);
    // The key of the toaster in the tutorial.
    let text = text.as_deref().map_or("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=", |text| text);
    let mut key = DeviceKey::new();
    key.read_base64(text)?;
    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(&id)?)
        .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#)?;
    // Without TLS, the endpoint must be this machine, as over HTTP.
    let url = format!("http{}", url.strip_prefix("mqtt").ok_or("the URL must begin with mqtts: or mqtt:")?);
    let endpoint = Endpoint::parse(&url)?;
    let mut tls = None;
    if endpoint.is_https() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca = fs::read(ca_file.ok_or("mqtts: needs a file with CA certificates")?)?;
        let connector = Connector::builder().with_ca(&ca).build()?;
        if let Some(proxy) = connector.proxy(&endpoint) {
            return Err(format!("this example does not use the proxy {proxy}: list the host in NO_PROXY").into());
        }
        tls = Some(TlsConnector::from(connector.client_config().clone()));
    }

    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(endpoint);
    let (clock, mut received) = (Clock(Instant::now()), [0; RECEIVED]);
    provisioning.start(clock.now(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    loop {
        let step = provisioning.step(clock.now());
        provisioning.progress().into_iter().for_each(show);
        let done = match step {
            Step::Finished => break,
            Step::Wait(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Step::Sign => provisioning.sign_with(&mut key, &mut received),
            Step::Activate => provisioning.activate_with(&mut key, &received),
            Step::Send => connect(&mut provisioning, clock, tls.as_ref(), &mut received).await,
        };
        // Has no effect if no request is due.
        done.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
    }
    let assignment = provisioning.result(&received).map_err(|error| {
        let said = provisioning.details(&received).and_then(|details| details.message());
        format!("{error}{}", said.map_or_else(String::new, |said| format!(": {said}")))
    })?;
    let hub = assignment.hub();
    println!("hub:        {}\ndevice ID:  {}\n", hub.host(), hub.device_id());
    let port = hub.port().unwrap_or(Hub::MQTT_PORT);
    // The next step is in `examples/embassy/src/hub.rs`: connect to the hub, and read the twin.
    println!("Connect the same client to the hub:\nhost:       {}, port {port}", hub.host());
    println!("client ID:  {}", hub.client_id());
    println!("user name:  {}", hub.write_user_name(&mut [0; 512])?);
    println!("password:   the token of Hub::write_token");
    Ok(())
}
