//! Gets a certificate during provisioning, for a key pair that never leaves the device. Needs an emulator with an
//! enrollment that has a certificate policy:
//! `AZURE_DPS_SYMMETRIC_KEY=… cargo run --example csr -- http://127.0.0.1:PORT REGISTRATION_ID DIRECTORY`
//!
//! Writes the chain to `device.pem` and the private key to `device-key.pem`. The hub and the example `x509` accept them.

#[allow(dead_code, reason = "this file of the gateway has other functions too")]
#[path = "gateway/files.rs"]
mod files;
#[path = "gateway/issued.rs"]
mod issued;

use std::{
    env,
    path::Path,
    process::ExitCode,
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, https, identity::Csr,
    provisioning::Endpoint,
};
use rcgen::{CertificateParams, DnType, KeyPair};
use zeroize::Zeroizing;

/// Enough for a chain of three certificates of 4 kB each, in base64.
const CHAIN: usize = 16 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = env::args().collect();
    let [_, url, id, directory] = &args[..] else {
        return Err("usage: csr URL REGISTRATION_ID DIRECTORY".into());
    };
    // The key from the factory, for the first provisioning.
    let key = env::var("AZURE_DPS_SYMMETRIC_KEY").map_err(|error| format!("AZURE_DPS_SYMMETRIC_KEY: {error}"))?;
    let text = Zeroizing::new(key);
    let mut key = DeviceKey::new();
    key.read_base64(&text)?;

    // This key pair is in a file. A secure element makes its own request instead. The file is written before the
    // certificate is issued, so that there is no certificate without its key.
    let key_pair = KeyPair::generate()?;
    let directory = Path::new(directory);
    files::replace(&directory.join("device-key.pem"), Zeroizing::new(key_pair.serialize_pem()).as_bytes(), 0o600)?;
    let mut request = CertificateParams::default();
    request.distinguished_name.push(DnType::CommonName, id.as_str());
    let request = request.serialize_request(&key_pair)?;
    let csr = Csr::from_der(request.der())?;

    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(id)?).with_csr(csr);
    let mut provisioning =
        Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(Endpoint::parse(url)?);
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let started = Instant::now();
    let clock = || started.elapsed();
    let mut buffer = vec![0; provisioning.sizes().with_returned_payload(CHAIN).http()];
    provisioning.start(clock(), unix_time);
    https::run(&mut provisioning, &mut key, &mut buffer, clock, thread::sleep, |_| ())?;
    let assignment = provisioning.result(&buffer)?;
    println!("{} {}", assignment.assigned_hub(), assignment.device_id());

    let chain =
        assignment.issued_certificate_chain().ok_or("no certificate was issued: the enrollment has no policy")?;
    let pem = issued::to_pem(chain, &csr, 4096)?;
    files::replace(&directory.join("device.pem"), pem.as_bytes(), 0o644)?;
    Ok(())
}
