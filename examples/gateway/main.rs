//! Provisions a Linux gateway: the whole way from a key to a hub with the library's two std
//! transports, and what a program in production needs around it.
//!
//! ```text
//! cargo run --example gateway -- --help
//! ```

mod cli;
#[path = "../mqtt_rumqttc/session.rs"]
mod mqtt;
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
    cli::{Cli, Command, DeriveKey, Key, Provision, Transport, usage_error},
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
    // minreq takes this machine's roots by itself.
    let tls = match (args.ca.as_deref(), args.transport) {
        (None, Transport::Http) => None,
        (None, Transport::Mqtt) => Some(Tls::of_this_machine(args.timeout())),
        (Some(file), _) => Some(trusting(file)),
    };
    let endpoint = Endpoint::parse(&args.provisioning_host).unwrap_or_else(|error| usage_error(error));
    if tls.is_some() && !endpoint.is_https() {
        usage_error("--ca and --transport mqtt are for TLS: there is none on an http endpoint");
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
    let mut assigned = attempt(&mut provisioning, &mut buffer, args.transport, tls.as_ref())?;
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

/// Over TLS of ours if there is a CA of ours or MQTT is spoken, else over minreq.
fn attempt(
    provisioning: &mut Provisioning<'_>,
    buffer: &mut [u8],
    transport: Transport,
    tls: Option<&Tls>,
) -> Result<Assigned, Box<Failure>> {
    // A clock before 1970 gets a token that has expired, and the service says so.
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let registration_id = provisioning.registration().registration_id();
    let endpoint = *provisioning.endpoint();
    let started = Instant::now();
    let clock = || started.elapsed();

    let result = match (tls, transport) {
        (Some(tls), Transport::Mqtt) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| usage_error(error));
            let answer = runtime.block_on(mqtt::provision(provisioning, tls.config()));
            return match provisioning.result(&answer) {
                Ok(assignment) => Ok(Assigned::new(&assignment, registration_id.as_str())),
                Err(error) => Err(Failure::new(error, None, provisioning.details(&answer))),
            };
        }
        (Some(tls), Transport::Http) => {
            let connect = |_| tls.connect(&endpoint);
            azure_dps::embedded_io::provision(provisioning, unix_time, buffer, connect, clock, thread::sleep)
                .map(|assignment| Assigned::new(&assignment, registration_id.as_str()))
                .map_err(|error| (error.kind(), error.source().map(tls::describe)))
        }
        (None, _) => azure_dps::minreq::provision(provisioning, unix_time, buffer, clock, thread::sleep)
            .map(|assignment| Assigned::new(&assignment, registration_id.as_str()))
            .map_err(|error| (error.kind(), error.source().map(tls::describe))),
    };
    result.map_err(|(error, cause)| Failure::new(error, cause, provisioning.details(buffer)))
}
