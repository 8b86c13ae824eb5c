//! Provisions over an async byte stream, as firmware on embassy does. Here the stream is tokio's. The first command starts
//! the emulator. The second command, in another terminal, starts the example:
//!
//! ```text
//! cargo run --bin dps-emulator -- --http 127.0.0.1:8080
//! cargo run --example async_stream -- 127.0.0.1:8080
//! ```

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use azure_dps::asynch::{self, ConnectError};
use azure_dps::{
    Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId,
    provisioning::{Endpoint, Sizes},
};
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;

const ID_SCOPE: &str = "0ne00002193";
const REGISTRATION_ID: &str = "breakroom499-contoso-tstrsd-007";
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
/// If the webhook returns a payload, add its length with `with_returned_payload`.
const SIZES: Sizes = Sizes::new(ID_SCOPE, REGISTRATION_ID).with_payload(PAYLOAD.len());

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(provision())
}

async fn provision() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: async_stream HOST:PORT of an emulator's plain HTTP")?;

    let mut key = DeviceKey::new();
    key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
    let registration =
        Registration::new(IdScope::new(ID_SCOPE)?, RegistrationId::new(REGISTRATION_ID)?).with_payload(PAYLOAD)?;
    let url = format!("http://{address}");
    let mut provisioning =
        Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(Endpoint::parse(&url)?);

    // On a board, this is a TLS 1.2 session. It needs no time-out: `run` drops what takes too long.
    let mut connect = async |_| {
        let stream = TcpStream::connect(&address).await?;
        Ok::<_, ConnectError<std::io::Error>>(FromTokio::new(stream))
    };
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let started = Instant::now();
    let (clock, delay) = (|| started.elapsed(), async |wait| tokio::time::sleep(wait).await);
    let mut buffer = [0; SIZES.http()];
    provisioning.start(clock(), unix_time);
    match asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, clock, delay, |_| ()).await {
        Ok(()) => {
            let assignment = provisioning.result(&buffer)?;
            println!("{} {}", assignment.assigned_hub(), assignment.device_id());
            Ok(())
        }
        Err(error) => {
            let said = provisioning.details(&buffer).and_then(|details| details.message());
            Err(format!("{error}{}", said.map_or_else(String::new, |said| format!(": {said}"))).into())
        }
    }
}
