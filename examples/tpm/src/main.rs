//! Provisions a Linux machine with its TPM. `docs/tpm.md` explains this example.
//!
//! ```text
//! main.rs   the way from a TPM to a hub
//! tpm.rs    the trait `Sign` over Linux's TPM software stack: copy this file
//! cli.rs    the command line
//! run.sh    runs the example with two software TPMs against the emulator
//! ```

mod cli;
#[allow(dead_code, reason = "this file of the gateway reads other inputs too")]
#[path = "../../gateway/input.rs"]
mod input;
mod tpm;

use std::{
    error::Error as _,
    fmt,
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, Error, IdScope, Provisioning, Registration, RegistrationId, blocking,
    error::Fault,
    identity::Sign,
    provisioning::{Endpoint, MAX_BODY},
    tls::{self, Connector},
};
use clap::Parser;
use data_encoding::{BASE32_NOPAD, BASE64};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    cli::Cli,
    input::Input,
    tpm::{IDENTITY_KEY, MachineTpm, PublicKeys},
};

fn main() -> ExitCode {
    // For the whole process. Fails if there is a provider already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let mut tpm = MachineTpm::open(cli.tcti.clone()).map_err(|error| Failure::Tpm(error.to_string()))?;
    let keys = tpm.public_keys();
    let endorsement_key = keys.endorsement_key.as_slice();
    let registration_id = cli.registration_id.clone().unwrap_or_else(|| registration_id_of(endorsement_key));
    match &cli.id_scope {
        Some(id_scope) if !cli.print_enrollment => provision(cli, id_scope, &registration_id, &keys, &mut tpm),
        _ => {
            println!("registration ID: {registration_id}");
            println!("endorsement key: {}", BASE64.encode(endorsement_key));
            Ok(())
        }
    }
}

/// Returns the registration ID that Microsoft's tools use: base32 of the endorsement key's SHA-256, without padding.
fn registration_id_of(endorsement_key: &[u8]) -> String {
    BASE32_NOPAD.encode(&Sha256::digest(endorsement_key)).to_lowercase()
}

fn provision(
    cli: &Cli,
    id_scope: &str,
    registration_id: &str,
    keys: &PublicKeys,
    tpm: &mut MachineTpm,
) -> Result<(), Failure> {
    let ca = cli.ca.as_deref().map(|file| Input::CA.read(file)).transpose().map_err(Failure::Usage)?;
    let mut builder = Connector::builder();
    if let Some(ca) = &ca {
        builder = builder.with_ca(ca);
    }
    let tls = builder.build().map_err(|error| Failure::Usage(error.to_string()))?;
    let endpoint = Endpoint::parse(&cli.endpoint)?;
    let mut registration = Registration::new(
        IdScope::new(id_scope).map_err(Error::from)?,
        RegistrationId::new(registration_id).map_err(Error::from)?,
    );
    if let Some(payload) = &cli.payload {
        registration = registration.with_payload(payload)?;
    }

    let attestation = Attestation::tpm(keys.as_tpm_keys());
    let mut provisioning = Provisioning::new(registration, attestation).with_endpoint(endpoint);
    let mut buffer = vec![0; provisioning.sizes().with_returned_payload(MAX_BODY).http()];
    // If the clock is before 1970, the service rejects the token as expired.
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let started = Instant::now();
    let mut connect = |end: Duration| tls.connect(&endpoint, end.saturating_sub(started.elapsed()));
    let clock = || started.elapsed();
    provisioning.start(clock(), unix_time);
    let run = blocking::run(&mut provisioning, tpm, &mut buffer, &mut connect, clock, thread::sleep, |_| ());
    if let Err(error) = run {
        let cause = error.source().map(tls::describe);
        let message = provisioning.details(&buffer).and_then(|details| details.message());
        let message = message.map(|text| text.chars().filter(|c| !c.is_control()).collect());
        let refusal = tpm.refusal().map(|refusal| refusal.to_string());
        return Err(Failure::Provisioning(error.kind(), cause.or(refusal).or(message)));
    }
    let assignment = provisioning.result(&buffer)?;

    println!("hub:       {}", assignment.assigned_hub());
    println!("device ID: {}", assignment.device_id());
    println!("payload:   {}", assignment.payload().map_or("none", |payload| payload.raw()));
    let key = assignment.tpm_authentication_key().ok_or(Failure::NoHubKey)?;
    tpm.activate(key).map_err(|error| Failure::of_tpm(tpm, error.into()))?;
    // This is the password for the hub. The example does not connect to the hub. It only checks that the new key signs
    // before the new key replaces the old one.
    let mut token = Zeroizing::new([0; 1024]);
    assignment
        .hub()
        .write_token(tpm, unix_time.saturating_add(3600), token.as_mut_slice())
        .map_err(|error| Failure::of_tpm(tpm, error))?;
    tpm.keep_key().map_err(|error| Failure::Tpm(error.to_string()))?;
    println!("hub key:   in the TPM at {IDENTITY_KEY:#x}");
    Ok(())
}

enum Failure {
    Usage(String),
    Tpm(String),
    /// The error, and a cause if it is known.
    Provisioning(Error, Option<String>),
    /// The device is assigned, but cannot connect to its hub.
    NoHubKey,
}

impl Failure {
    fn of_tpm(tpm: &MachineTpm, error: Error) -> Self {
        Self::Provisioning(error, tpm.refusal().map(|refusal| refusal.to_string()))
    }

    /// Returns the exit code. The help lists all of them.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Provisioning(Error::InvalidPayload(_), _) => 2,
            Self::Tpm(_) | Self::Provisioning(Error::Tpm(_) | Error::Signer(_), _) => 9,
            Self::Provisioning(Error::Disabled, _) => 4,
            Self::Provisioning(Error::Untrusted | Error::ProxyRefused, _) => 7,
            Self::NoHubKey => 8,
            Self::Provisioning(error, _) => match error.fault() {
                Fault::Refused => 3,
                Fault::Credential => 5,
                Fault::Busy => 6,
                Fault::Transport => 7,
                Fault::Peer => 8,
                _ => 1,
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Provisioning(error, None)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) => f.write_str(why),
            Self::Tpm(why) => write!(f, "cannot use the TPM (--tcti, by default device:/dev/tpmrm0): {why}"),
            Self::Provisioning(error, None) => error.fmt(f),
            Self::Provisioning(error, Some(why)) => write!(f, "{error}: {why}"),
            Self::NoHubKey => f.write_str("the service sent no key for the hub"),
        }
    }
}
