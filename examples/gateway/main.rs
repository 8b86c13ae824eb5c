//! Provisions a Linux gateway with the library's std transports: from a key or a certificate to a hub. It also shows
//! what a production program needs besides.
//!
//! ```text
//! cargo run --example gateway -- --help
//! ```

mod cli;
mod connect;
mod connector;
mod derive;
mod files;
#[path = "../mqtt_rumqttc/hub.rs"]
mod hub_session;
mod ids;
mod input;
mod issued;
mod message;
#[path = "../mqtt_rumqttc/session.rs"]
mod mqtt;
mod outcome;
mod progress;
mod values;

use std::{
    error::Error as _,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    after::{Hub, Record},
    blocking,
    error::{BufferTooSmall, RecordError},
    https,
    identity::{Csr, NoKey, Sign},
    json::Object,
    provisioning::{Endpoint, Progress},
    tls::{self, Connector},
};
use clap::Parser;
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::{
    cli::{Cli, Command, Key, Provision, Transport, usage_error},
    connect::HubConnection,
    input::{Bytes, Input},
    outcome::{Asked, Assigned, Failure, NO_CERTIFICATE},
    progress::Reporter,
};

/// The size of the buffer for the webhook's payload. The documentation gives no limit. Unused pages take no memory.
const RETURNED: usize = 1 << 20;

fn main() -> ExitCode {
    // Sets the provider for the whole process, also for minreq. Fails if there is already a provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let cli = Cli::parse();
    let done = match (&cli.command, &cli.provision) {
        (Some(Command::DeriveKey(args)), _) => {
            let job = args.check().unwrap_or_else(|error| usage_error(error));
            job.run().map(|()| ExitCode::SUCCESS)
        }
        (None, Some(args)) => provision(args, &cli.key),
        (None, None) => usage_error("nothing to do"),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: cannot write the result: {error}");
        ExitCode::FAILURE
    })
}

fn provision(args: &Provision, key: &Key) -> io::Result<ExitCode> {
    let mut shown = Shown { keys: [DeviceKey::new(), DeviceKey::new()], tls: None };
    let mut assigned = match run(args, key, &mut shown) {
        Ok(assigned) => assigned,
        Err(failure) => {
            if args.json {
                writeln!(io::stdout(), "{}", serde_json::json!({ "error": failure }))?;
            } else {
                eprintln!("{}", failure.text());
            }
            return Ok(ExitCode::from(failure.exit_code()));
        }
    };
    // The files are written before the output, because a script may continue after it has read the output. The output
    // is printed even if a file cannot be written.
    let issued = match (&args.issued_out, &assigned.issued) {
        (Some(file), Some(Ok(pem))) => files::replace(file, pem.as_bytes(), 0o644),
        _ => Ok(()),
    };
    let recorded = match (&args.record, &assigned.record) {
        (Some(file), Some(record)) => files::replace(file, record, 0o600),
        _ => Ok(()),
    };
    if args.connect {
        assigned.hub_connection = Some(connect(args, &assigned, &mut shown));
    }
    match args.json {
        true => writeln!(io::stdout(), "{}", *Zeroizing::new(serde_json::to_string(&assigned)?))?,
        false => writeln!(io::stdout(), "{}", *assigned.text())?,
    }
    if let Err(error) = issued.and(recorded) {
        eprintln!("error: this device is assigned, but {error}");
        return Ok(ExitCode::FAILURE);
    }
    if let Some(Err(seen)) = assigned.issued {
        eprintln!("error: this device is assigned, but no certificate was issued for it\n  seen:   {seen}");
        eprintln!("  to do:  ask the operator for a certificate policy on the enrollment");
        return Ok(ExitCode::from(NO_CERTIFICATE));
    }
    if let Some(refusal) = assigned.hub_connection.and_then(|connection| connection.error) {
        if !args.json {
            eprintln!("{}", refusal.text());
        }
        return Ok(ExitCode::from(refusal.exit_code()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The credentials for the service, and then for the hub.
struct Shown {
    keys: [DeviceKey; 2],
    /// Contains the device's certificate, if there is one.
    tls: Option<Arc<ClientConfig>>,
}

/// Connects to the assigned hub.
fn connect(args: &Provision, assigned: &Assigned, shown: &mut Shown) -> HubConnection {
    let hub = assigned.hub().unwrap_or_else(|error| usage_error(error));
    let tls = shown.tls.take().unwrap_or_else(|| usage_error("--connect has no TLS"));
    let address = match &args.hub_address {
        Some((host, port)) => (host.as_str(), *port),
        None => (hub.host(), hub.port().unwrap_or(Hub::MQTT_PORT)),
    };
    let reporter = Reporter::new(args.quiet || args.json);
    reporter.step(&format!("Connecting to {}", connect::endpoint(address)));
    connect::check(&hub, assigned.key.map(|key| &mut shown.keys[key as usize]), address, tls)
}

/// Provisions the device and returns the outcome. An error in the command line ends the program here.
fn run(args: &Provision, key: &Key, shown: &mut Shown) -> Result<Assigned, Box<Failure>> {
    let payload = args.payload().unwrap_or_else(|error| usage_error(error));
    let csr = args.csr().unwrap_or_else(|error| usage_error(error));
    let registration =
        registration(args, payload.as_deref(), csr.as_deref()).unwrap_or_else(|error| usage_error(error));
    let record = args.record.as_ref().and_then(|file| read_record(file));
    let record = args.record.as_ref().zip(record.as_ref()).and_then(|(file, bytes)| {
        let refuse = |why: &RecordError| eprintln!("warning: {}: {why}: registering again", file.display());
        Record::read(bytes, &registration).inspect_err(refuse).ok()
    });
    if let Some(record) = &record
        && let Some(assigned) = recorded(args, key, &registration, record, shown)
    {
        return Ok(assigned);
    }
    let endpoint = Endpoint::parse(&args.provisioning_host).unwrap_or_else(|error| usage_error(error));
    let route = Route::new(args, &endpoint, &mut shown.tls).unwrap_or_else(|error| usage_error(error));
    for file in [&args.issued_out, &args.record].into_iter().flatten() {
        files::check(file).unwrap_or_else(|error| usage_error(error));
    }
    // The key is read last, so that nobody types a key if another argument is wrong.
    let keys = &mut shown.keys;
    let count = args.keys(key, &registration.registration_id(), keys).unwrap_or_else(|error| usage_error(error));
    let (attestation, mut no_key) =
        (if count == 0 { Attestation::x509() } else { Attestation::symmetric_key() }, NoKey);
    let signer: &mut dyn Sign = match count {
        0 => &mut no_key,
        1 => &mut keys[0],
        // The run tries the second key if the service rejects the first.
        _ => &mut *keys,
    };
    let url = route.url(&endpoint);
    let asked = Asked { endpoint: &url, is_lookup: args.status, keys: count };

    let reporter = Reporter::new(args.quiet || args.json);
    reporter.step(&format!("Connecting to {}", route.destination(&endpoint)));
    let too_small = |error: BufferTooSmall| Failure::new(error.into(), asked, None, None);
    // A different seed for each start, so that devices that start together do not retry together.
    let seed = RandomState::new().build_hasher().finish() as u32;
    let mut provisioning = match args.status {
        true => Provisioning::lookup(registration, attestation),
        false => Provisioning::new(registration, attestation),
    }
    .with_endpoint(endpoint)
    .with_retry_policy(RetryPolicy::new().with_timeout(args.timeout()).with_jitter_seed(seed));
    if let Some(version) = &args.api_version {
        provisioning = provisioning.with_api_version(version);
    }
    if let Some(record) = &record {
        // For half an hour after a registration, the service rejects the other key.
        provisioning = provisioning.with_first_key(record.key());
    }
    let mut buffer = vec![0; provisioning.sizes().with_returned_payload(RETURNED).http()];
    let cause = route.run(&mut provisioning, signer, &mut buffer, &mut |progress| reporter.progress(progress));
    let assignment = match provisioning.result(&buffer) {
        Ok(assignment) => assignment,
        // No request was sent.
        Err(Error::RequestTooLarge(error)) => usage_error(error),
        Err(error) => {
            let seen = match error {
                Error::Transport(_) | Error::Untrusted | Error::ProxyRefused => cause,
                _ => provisioning.refused_value(&buffer).map(|value| value.raw().chars().take(200).collect()),
            };
            return Err(Failure::new(error, asked, seen, provisioning.details(&buffer)));
        }
    };
    let mut assigned = Assigned::new(&assignment, &registration);
    assigned.endpoint = Some(url.clone());
    assigned.key = (count > 0).then(|| provisioning.key());
    let answer = str::from_utf8(provisioning.body(&buffer)).ok().and_then(|text| Object::parse(text).ok());
    assigned.operation_id = answer.and_then(|answer| answer.get("operationId")?.text()).map(|id| id.to_string());
    if args.connection_string {
        let key = keys[..count].get(provisioning.key() as usize);
        assigned.add_connection_string(&assignment.hub(), key).map_err(too_small)?;
    }
    if args.record.is_some() {
        // Writes the record in place, because the answer is no longer needed.
        let record = provisioning.write_record(&mut buffer);
        assigned.record = Some(record.map_err(|error| Failure::new(error, asked, None, None))?.to_vec());
    }
    Ok(assigned)
}

/// Returns the bytes of the record, if there is one.
fn read_record(file: &Path) -> Option<Bytes> {
    match file.try_exists() {
        Ok(false) => None,
        _ => Some(Input::RECORD.read_file(file).unwrap_or_else(|error| usage_error(error))),
    }
}

/// Returns the assignment in the record, unless the gateway must ask the service. Reads no key if no key is needed.
fn recorded(
    args: &Provision,
    key: &Key,
    registration: &Registration<'_>,
    record: &Record<'_>,
    shown: &mut Shown,
) -> Option<Assigned> {
    let file = args.record.as_ref()?.display();
    let assignment = record.assignment();
    let mut assigned = Assigned::new(&assignment, registration);
    assigned.from = "record";
    if args.reprovision {
        if assigned.has_certificate() && args.csr.is_none() {
            usage_error(format_args!(
                "{file}: this record has an issued certificate, and --reprovision without --csr would lose it: \
                 give --csr, or delete the file"
            ));
        }
        return None;
    }
    if let Some(Err(_)) = assigned.issued {
        eprintln!("warning: {file}: the record has no certificate for this csr: registering again");
        return None;
    }
    if args.connect && assigned.has_certificate() {
        usage_error(format_args!(
            "{file}: this record has an issued certificate, but --connect has no private key for it"
        ));
    }
    if args.connect {
        let tls = connector::connector(args.ca.as_deref(), args.certificate(), args.timeout());
        shown.tls = Some(Arc::clone(tls.unwrap_or_else(|error| usage_error(error)).client_config()));
    }
    if args.connection_string || args.connect {
        let count = match assigned.has_certificate() {
            false => args.keys(key, &registration.registration_id(), &mut shown.keys),
            true => Ok(0),
        };
        let count = count.unwrap_or_else(|error| usage_error(error));
        assigned.key = (count > 0).then(|| record.key());
        if count > 0 && record.key() as usize >= count {
            usage_error("the service accepted the secondary key: give it with --secondary-key-file");
        }
    }
    if args.connection_string {
        let key = assigned.key.map(|key| &shown.keys[key as usize]);
        let added = assigned.add_connection_string(&assignment.hub(), key);
        added.unwrap_or_else(|error| usage_error(error));
    }
    Some(assigned)
}

fn registration<'a>(
    args: &'a Provision,
    payload: Option<&'a str>,
    csr: Option<&'a [u8]>,
) -> Result<Registration<'a>, Error> {
    let mut registration =
        Registration::new(IdScope::new(&args.id_scope)?, RegistrationId::new(&args.registration_id)?);
    if let Some(payload) = payload {
        registration = registration.with_payload(payload)?;
    }
    if let Some(csr) = csr {
        registration = registration.with_csr(Csr::from_der(csr)?);
    }
    Ok(registration)
}

/// The transport to the service.
enum Route {
    /// minreq. It trusts this machine's roots. It supports no client certificate, no proxy and no IPv6 address.
    Minreq,
    /// The library's own connections, with or without TLS.
    Stream(Connector),
    Mqtt(Connector),
}

impl Route {
    /// Chooses the transport. Stores the TLS configuration for the hub in `hub_tls` if `--connect` needs it. Each file
    /// is read only once, because it may be a pipe.
    fn new(args: &Provision, endpoint: &Endpoint<'_>, hub_tls: &mut Option<Arc<ClientConfig>>) -> Result<Self, String> {
        let is_mqtt = args.transport == Transport::Mqtt;
        if args.status && is_mqtt {
            return Err("--status needs HTTP: the service does not offer it over MQTT".to_owned());
        }
        // If the service is used without TLS, --ca may be for the hub.
        let has_ca = args.ca.is_some() && (endpoint.is_https() || !args.connect);
        let needs_tls = has_ca || args.certificate().is_some() || is_mqtt;
        if needs_tls && !endpoint.is_https() {
            return Err("--ca, a certificate and --transport mqtt need TLS, but the endpoint is http".to_owned());
        }
        let needs_stream = needs_tls || endpoint.host().starts_with('[');
        let is_plain = !needs_stream && !endpoint.is_https();
        if is_plain && !args.connect {
            return Ok(Self::Minreq);
        }
        // Also created for minreq, because minreq does not report what is wrong with this machine's roots.
        let connector = connector::connector(args.ca.as_deref(), args.certificate(), args.timeout())?;
        *hub_tls = args.connect.then(|| Arc::clone(connector.client_config()));
        if is_plain || !needs_stream && tls::proxy_variable().is_none() {
            return Ok(Self::Minreq);
        }
        match (is_mqtt, connector.proxy(endpoint)) {
            (true, Some(proxy)) => Err(format!(
                "{} names the proxy {proxy}, but MQTT does not go through a proxy: use --transport http, or list {} in NO_PROXY",
                tls::proxy_variable().unwrap_or_default(),
                endpoint.host()
            )),
            (true, None) => Ok(Self::Mqtt(connector)),
            (false, _) => Ok(Self::Stream(connector)),
        }
    }

    /// Returns the destination as text for the user.
    fn destination(&self, endpoint: &Endpoint<'_>) -> String {
        let url = self.url(endpoint);
        match self {
            Self::Stream(connector) => match connector.proxy(endpoint) {
                Some(proxy) => format!("{url} through the proxy {proxy}"),
                None => url,
            },
            _ => url,
        }
    }

    /// Returns the URL of the destination.
    fn url(&self, endpoint: &Endpoint<'_>) -> String {
        match self {
            Self::Mqtt(_) => format!("mqtts://{}:{}", endpoint.host(), mqtt::port(endpoint)),
            _ => endpoint.to_string(),
        }
    }

    /// Runs a provisioning run to its end. Afterwards, `buffer` has the last answer. If the network or TLS failed,
    /// returns the error text.
    fn run(
        &self,
        provisioning: &mut Provisioning<'_>,
        signer: &mut dyn Sign,
        buffer: &mut [u8],
        observe: &mut dyn FnMut(Progress),
    ) -> Option<String> {
        // If the clock is before 1970, the token has expired, and the service rejects it.
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let endpoint = *provisioning.endpoint();
        let started = Instant::now();
        let clock = || started.elapsed();

        match self {
            Self::Mqtt(connector) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.unwrap_or_else(|error| usage_error(error));
                let mut cause = None;
                let mut lost = |error: &rumqttc::ConnectionError| cause = Some(tls::describe(error));
                let (tls, largest) = (connector.client_config(), buffer.len());
                let run = mqtt::provision(provisioning, signer, tls, largest, &mut lost, observe);
                let answer = runtime.block_on(run);
                // The record uses the rest of the buffer.
                buffer[..answer.len()].copy_from_slice(&answer);
                // A DNS query that is still running must not delay the end.
                runtime.shutdown_background();
                cause
            }
            Self::Stream(connector) => {
                let mut connect = |end: Duration| connector.connect(&endpoint, end.saturating_sub(started.elapsed()));
                provisioning.start(clock(), unix_time);
                let done = blocking::run(provisioning, signer, buffer, &mut connect, clock, thread::sleep, observe);
                done.err()?.source().map(tls::describe)
            }
            Self::Minreq => {
                provisioning.start(clock(), unix_time);
                let done = https::run(provisioning, signer, buffer, clock, thread::sleep, observe);
                done.err()?.source().map(tls::describe)
            }
        }
    }
}
