//! What async firmware does, here on tokio. The first command starts the emulator, the second one, in another terminal, the
//! example:
//!
//! ```text
//! cargo run --bin dps-emulator -- --http 127.0.0.1:8080
//! cargo run --example async_stream -- 127.0.0.1:8080
//! ```

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use azure_dps::asynch::{self, ConnectError};
use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, provisioning::Endpoint};
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(provision())
}

async fn provision() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: async_stream HOST:PORT of an emulator's plain HTTP")?;

    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
    let registration =
        Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("breakroom499-contoso-tstrsd-007")?)
            .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#)?;
    let url = format!("http://{address}");
    let mut provisioning =
        Provisioning::new(registration, Credential::sas(&mut key)).with_endpoint(Endpoint::parse(&url)?);

    // On a board this is a TLS 1.2 session. What it does not do in time is given up.
    let connect = async |_| {
        let stream = TcpStream::connect(&address).await?;
        Ok::<_, ConnectError<std::io::Error>>(FromTokio::new(stream))
    };
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let started = Instant::now();
    let mut buffer = [0; 872];
    let (clock, delay) = (|| started.elapsed(), async |wait| tokio::time::sleep(wait).await);
    let assignment =
        embedded_io_async::provision(&mut provisioning, unix_time, &mut buffer, connect, clock, delay).await?;
    println!("{} {}", assignment.assigned_hub(), assignment.device_id());
    Ok(())
}
