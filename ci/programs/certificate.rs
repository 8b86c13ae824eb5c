//! A device with a certificate, over rustls with a CA file.

use std::{
    error::Error,
    fs, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId, blocking, identity::NoKey,
    provisioning::Endpoint, tls::Connector,
};

pub fn provision(endpoint: &str, ca: &str, certificate: &str, key: &str) -> Result<String, Box<dyn Error>> {
    let tls = Connector::builder()
        .with_ca(&fs::read(ca)?)
        .with_client_certificate(&fs::read(certificate)?, &fs::read(key)?)
        .build()?;
    let endpoint = Endpoint::parse(endpoint)?;
    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("sn-007")?);
    let mut provisioning = Provisioning::new(registration, Attestation::x509()).with_endpoint(endpoint);

    let started = Instant::now();
    let clock = || started.elapsed();
    let mut connect = |end: Duration| tls.connect(&endpoint, end.saturating_sub(clock()));
    let mut buffer = [0; 4096];
    provisioning.start(clock(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    blocking::run(&mut provisioning, &mut NoKey, &mut buffer, &mut connect, clock, thread::sleep, |_| ())?;
    Ok(provisioning.result(&buffer)?.assigned_hub().to_string())
}
