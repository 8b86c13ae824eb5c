//! Provisions a Linux gateway: the whole way from a key to a hub with the library's two std
//! transports, and what a program in production needs around it.
//!
//! ```text
//! cargo run --example gateway -- --help
//! ```

mod cli;
mod outcome;
mod progress;
mod tls;

use std::{
    error::Error as _,
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{Credential, Endpoint, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy};
use clap::Parser;
use zeroize::Zeroizing;

use crate::{
    cli::{Cli, Command, DeriveKey, Key, Provision, usage_error},
    outcome::{Assigned, Failure},
    progress::Reporter,
    tls::Tls,
};

fn main() -> ExitCode {
    // For the whole process, minreq included. It fails if there is a provider already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let cli = Cli::parse();
    let done = match (&cli.command, &cli.provision) {
        (Some(Command::DeriveKey(args)), _) => derive_keys(args),
        (None, Some(args)) => provision(args, &cli.key),
        (None, None) => usage_error("nothing to do"),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: cannot write the result: {error}");
        ExitCode::FAILURE
    })
}

fn derive_keys(args: &DeriveKey) -> io::Result<ExitCode> {
    let group_key = args.key.group_key().unwrap_or_else(|error| usage_error(error));
    for id in &args.registration_ids {
        let id = RegistrationId::new(id).unwrap_or_else(|error| usage_error(error));
        let mut text = Zeroizing::new([0; 88]);
        let key = group_key.derive(&id);
        writeln!(io::stdout(), "{}", key.write_base64(text.as_mut_slice()).map_err(io::Error::other)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn provision(args: &Provision, key: &Key) -> io::Result<ExitCode> {
    match run(args, key) {
        Ok(assigned) if args.json => writeln!(io::stdout(), "{}", *Zeroizing::new(serde_json::to_string(&assigned)?))?,
        Ok(assigned) => writeln!(io::stdout(), "{}", *assigned.text())?,
        Err(failure) => {
            if args.json {
                writeln!(io::stdout(), "{}", serde_json::json!({ "error": failure }))?;
            } else {
                eprintln!("{}", failure.text());
            }
            return Ok(ExitCode::from(failure.exit_code()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that the command line can get wrong ends the program here; what comes back is
/// the outcome of the provisioning.
fn run(args: &Provision, key: &Key) -> Result<Assigned, Box<Failure>> {
    let payload = args.payload().unwrap_or_else(|error| usage_error(error));
    let trusting = |file| Tls::trusting(file, args.timeout()).unwrap_or_else(|error| usage_error(error));
    let tls = args.ca.as_deref().map(trusting);
    let endpoint = Endpoint::parse(&args.provisioning_host).unwrap_or_else(|error| usage_error(error));
    if tls.is_some() && !endpoint.is_https() {
        usage_error("--ca is for https: there is no certificate to check on an http endpoint");
    }
    let registration = registration(args, payload.as_deref()).unwrap_or_else(|error| usage_error(error));
    // Last, so that nobody types a key for nothing.
    let mut key = args.device_key(key, &registration.registration_id()).unwrap_or_else(|error| usage_error(error));

    let reporter = Reporter::new(args.quiet || args.json);
    reporter.step(&format!("Connecting to {endpoint}"));
    let mut observer = |progress| reporter.progress(progress);
    let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key))
        .with_endpoint(endpoint)
        .with_retry_policy(RetryPolicy::new().with_timeout(args.timeout()))
        .with_observer(&mut observer);
    // Room for any request, and for answers far beyond what the service sends.
    let mut buffer = vec![0; 64 * 1024 + payload.as_ref().map_or(0, String::len)];
    let mut assigned = attempt(&mut provisioning, &mut buffer, tls.as_ref())?;
    assigned.operation_id = provisioning.operation_id().map(str::to_owned);
    match args.connection_string {
        true => assigned.with_connection_string(&key).map_err(|error| Failure::new(error, None, None)),
        false => Ok(assigned),
    }
}

fn registration<'a>(args: &'a Provision, payload: Option<&'a str>) -> Result<Registration<'a>, Error> {
    let registration = Registration::new(IdScope::new(&args.id_scope)?, RegistrationId::new(&args.registration_id)?);
    match payload {
        Some(payload) => registration.with_payload(payload),
        None => Ok(registration),
    }
}

/// Over TLS of ours if there is a CA of ours, else over minreq.
fn attempt(
    provisioning: &mut Provisioning<'_>,
    buffer: &mut [u8],
    tls: Option<&Tls>,
) -> Result<Assigned, Box<Failure>> {
    // A clock before 1970 gets a token that has expired, and the service says so.
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let registration_id = provisioning.registration().registration_id();
    let endpoint = *provisioning.endpoint();
    let started = Instant::now();
    let clock = || started.elapsed();

    let result = match tls {
        Some(tls) => {
            let connect = |_| tls.connect(&endpoint);
            azure_dps::embedded_io::provision(provisioning, unix_time, buffer, connect, clock, thread::sleep)
                .map(|assignment| Assigned::new(&assignment, registration_id.as_str()))
                .map_err(|error| (error.kind(), error.source().map(tls::describe)))
        }
        None => azure_dps::minreq::provision(provisioning, unix_time, buffer, clock, thread::sleep)
            .map(|assignment| Assigned::new(&assignment, registration_id.as_str()))
            .map_err(|error| (error.kind(), error.source().map(tls::describe))),
    };
    result.map_err(|(error, cause)| Failure::new(error, cause, provisioning.details(buffer)))
}
