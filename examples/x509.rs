//! Provisions with a client certificate, over mutual TLS. Needs an emulator with an enrollment for the certificate or its
//! CA (`dps-emulator --config … --https 127.0.0.1:0 --ca-out ca.pem`):
//! `cargo run --example x509 -- localhost:PORT ca.pem device.pem device-key.pem REGISTRATION_ID`

use std::{
    env, fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId, blocking, identity::NoKey,
    provisioning::Endpoint, tls::Connector,
};

/// Enough for the certificate's data in the service's answer.
const CERTIFICATE_INFO: usize = 2048;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<_> = env::args().collect();
    let [_, address, ca, certificate, key, id] = &args[..] else {
        return Err("usage: x509 HOST:PORT CA.pem CERTIFICATE.pem KEY.pem REGISTRATION_ID".into());
    };
    // The registration ID is the certificate's common name. TLS proves the key, so no token is signed.
    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(id)?);
    let mut provisioning =
        Provisioning::new(registration, Attestation::x509()).with_endpoint(Endpoint::parse(address)?);

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The device's own certificate first, then the intermediate certificates up to the enrolled one.
    let tls = Connector::builder()
        .with_ca(&fs::read(ca)?)
        .with_client_certificate(&fs::read(certificate)?, &fs::read(key)?)
        .build()?;
    let endpoint = *provisioning.endpoint();
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let started = Instant::now();
    let mut connect = |end: Duration| tls.connect(&endpoint, end.saturating_sub(started.elapsed()));
    let clock = || started.elapsed();
    let mut buffer = vec![0; provisioning.sizes().with_returned_payload(CERTIFICATE_INFO).http()];
    provisioning.start(clock(), unix_time);
    blocking::run(&mut provisioning, &mut NoKey, &mut buffer, &mut connect, clock, thread::sleep, |_| ())?;
    let assignment = provisioning.result(&buffer)?;
    println!("{} {}", assignment.assigned_hub(), assignment.device_id());
    Ok(())
}
