//! Provisions over MQTT with rumqttc, then connects to the hub and downloads the twin. The first command starts the
//! emulator. The other commands, in another terminal, start the example:
//!
//! ```text
//! cargo run --bin dps-emulator -- --mqtts 127.0.0.1:8883 --ca-out ca.pem
//! export AZURE_DPS_SYMMETRIC_KEY=JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=
//! cargo run --example mqtt_rumqttc -- localhost:8883 ca.pem breakroom499-contoso-tstrsd-007 localhost:8883
//! ```
//!
//! The last argument is the address of the emulator's hubs. With a real hub, connect to `hub.host()`.

mod hub;
mod session;

use std::{
    env, fs,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, after::Hub, provisioning::Endpoint,
    tls::Connector,
};
use hub::{Failed, Session};
use rumqttc::{TlsConfiguration, Transport};
use zeroize::Zeroizing;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        let done = runtime.block_on(run());
        // Do not wait for a DNS query that still runs.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments: Vec<_> = env::args().collect();
    let (address, ca, id, hub_address) = match &arguments[..] {
        [_, address, ca, id] => (address, ca, id, None),
        [_, address, ca, id, hub_address] => (address, ca, id, Some(Endpoint::parse(hub_address)?)),
        _ => return Err("usage: mqtt_rumqttc HOST:PORT CA.pem REGISTRATION_ID [HUB_HOST:PORT]".into()),
    };
    let key = env::var("AZURE_DPS_SYMMETRIC_KEY").map_err(|error| format!("AZURE_DPS_SYMMETRIC_KEY: {error}"))?;
    let text = Zeroizing::new(key);
    let mut key = DeviceKey::new();
    key.read_base64(&text)?;
    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(id)?)
        .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#)?;
    let mut provisioning =
        Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(Endpoint::parse(address)?);

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = Connector::builder().with_ca(&fs::read(ca)?).build()?;
    if let Some(proxy) = tls.proxy(provisioning.endpoint()) {
        return Err(format!("this example does not use the proxy {proxy}: list the host in NO_PROXY").into());
    }

    let mut lost = |error: &rumqttc::ConnectionError| eprintln!("the session broke: {error}");
    let answer =
        session::provision(&mut provisioning, &mut key, tls.client_config(), 256 << 10, &mut lost, &mut |_| ()).await;
    let assignment = provisioning.result(&answer).map_err(|error| {
        let said = provisioning.details(&answer).and_then(|details| details.message());
        format!("{error}{}", said.map_or_else(String::new, |said| format!(": {said}")))
    })?;
    let hub = assignment.hub();
    println!("{} {}", hub.host(), hub.device_id());
    println!("Connect to the hub with the same key and client:");
    println!("  address   {}:{}", hub.host(), Hub::MQTT_PORT);
    println!("  client ID {}", hub.client_id());
    println!("  user name {}", hub.write_user_name(&mut [0; 512])?);
    println!("  password  the token of Hub::write_token");
    let Some(hub_address) = hub_address else { return Ok(()) };

    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3600;
    let mut token = Zeroizing::new([0; 512]);
    let token = hub.write_token(&mut key, in_an_hour, token.as_mut_slice())?;
    let transport = Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls.client_config())));
    let address = (hub_address.host(), session::port(&hub_address));
    // `Reprovisioning` uses the outcome to decide whether to ask DPS again.
    let refused = |failed: Failed| format!("{failed}: {:?}", failed.outcome);
    let mut session = Session::open(&hub, token, address, transport).await.map_err(refused)?;
    println!("The twin: {}", session.twin(|twin| twin.desired.object().raw().to_owned()).await?);
    session.close().await;
    Ok(())
}
