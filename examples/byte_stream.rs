//! What firmware does, on any byte stream. The first command starts the emulator, the second one, in another terminal, the
//! example:
//!
//! ```text
//! cargo run --bin dps-emulator -- --http 127.0.0.1:8080
//! cargo run --example byte_stream -- 127.0.0.1:8080
//! ```

use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_dps::{
    Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, blocking, provisioning::Endpoint,
};
use embedded_io_adapters::std::FromStd;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: byte_stream HOST:PORT of an emulator's plain HTTP")?;

    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
    let registration =
        Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("breakroom499-contoso-tstrsd-007")?)
            .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#)?;
    let url = format!("http://{address}");
    let mut provisioning =
        Provisioning::new(registration, Credential::sas(&mut key)).with_endpoint(Endpoint::parse(&url)?);

    // On a board this is a TLS 1.2 session, and its read gives up after a while.
    let connect = |_| {
        let stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok::<_, embedded_io::ConnectError<std::io::Error>>(FromStd::new(stream))
    };
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let started = Instant::now();
    let mut buffer = [0; 872];
    let clock = || started.elapsed();
    let assignment =
        embedded_io::provision(&mut provisioning, unix_time, &mut buffer, connect, clock, std::thread::sleep)?;
    println!("{} {}", assignment.assigned_hub(), assignment.device_id());
    Ok(())
}
