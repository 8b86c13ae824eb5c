//! The command line. Options have the same names as in the example `gateway`.

use std::{path::PathBuf, rc::Rc, time::Duration};

use azure_dps::{GroupKey, RegistrationId, provisioning::Endpoint};
use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};

use crate::{
    hub::HubAddress,
    ids,
    values::{self, endpoint, id_scope, is_stdin},
};

const KEY_VARIABLE: &str = "AZURE_DPS_SYMMETRIC_KEY";

/// The quota in the documentation: "Device registrations: 1000/min/service".
const REGISTRATIONS_PER_MINUTE: u32 = 1000;

/// Provisions many simulated devices of an enrollment group at the same time, through the Azure IoT Hub Device
/// Provisioning Service (DPS), and reports the outcome of each.
///
/// Each device has its own key and its own connection, and waits as the service asks.
#[derive(Parser)]
#[command(name = "fleet", version, max_term_width = 80, after_long_help = LONG_HELP, arg_required_else_help = true)]
pub struct Cli {
    /// The DPS instance's ID scope, such as 0ne00002193
    #[arg(long, visible_alias = "scope", value_name = "SCOPE", value_parser = id_scope)]
    pub id_scope: String,

    /// The registration IDs: {} stands for the number of a device
    #[arg(long, visible_alias = "rid", value_name = "PATTERN", default_value = "fleet-{}", value_parser = pattern)]
    registration_id: String,

    /// How many devices there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=ids::MAX_IDS as i64))]
    #[arg(required_unless_present = "ids_file")]
    devices: Option<u32>,

    /// The number of the first device
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u32,

    /// A file with the registration IDs, one a line; - is standard input
    ///
    /// White space around an ID, blank lines and lines that begin with # are ignored. A list has at most 100000 IDs. No
    /// ID may occur twice, in upper or lower case.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["registration_id", "devices", "first"])]
    ids_file: Option<PathBuf>,

    /// How many devices are provisioned at a time [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,

    /// How many devices start in a minute [default: 1000, the service's quota; all at once for a service on this machine]
    ///
    /// The starts are spread evenly. A device that gets status 429 tries again after growing pauses, until its
    /// --timeout.
    #[arg(long, value_name = "PER_MINUTE", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// A file with the group's key; - is standard input [env: AZURE_DPS_SYMMETRIC_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// A JSON object for the allocation webhook, or the path of a file with one
    #[arg(long, value_name = "JSON|FILE")]
    payload: Option<String>,

    /// The service: a host, host:port, or a URL. https, or http to this machine only
    #[arg(long, visible_alias = "host", value_name = "HOST|URL", default_value = Endpoint::GLOBAL.host(), value_parser = endpoint)]
    pub provisioning_host: String,

    /// The protocol
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,

    /// Trust only these certificates, PEM or DER, and not this machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Each device gives up after this time, counted from its own start
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Afterwards look up each assigned device and compare the hub and the device ID; over HTTP only
    ///
    /// A look-up registers nothing and is not billed, but counts against the quota of operations.
    #[arg(long)]
    pub verify: bool,

    /// Then connect each assigned device to its hub over MQTT, and keep all connected at the same time
    ///
    /// Each device reads its twin, follows its desired properties, and regularly reports a property and sends
    /// telemetry. It connects again if its connection breaks.
    #[arg(long)]
    pub connect: bool,

    /// How long the devices stay connected after the last of them has connected
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "connect")]
    hold: u64,

    /// How often a connected device reports and sends telemetry
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "connect")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,

    /// Connect to this address instead of the assigned hubs: a host, host:port, or a URL. mqtts, or mqtt to this machine
    /// only [default: each hub's own, port 8883]
    #[arg(long, value_name = "HOST|URL", requires = "connect")]
    hub_address: Option<String>,

    /// Divide the devices' waits by this factor; to this machine only
    #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub time_scale: u32,

    /// Print one JSON object on standard output, with a result for each device; show no progress
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

const LONG_HELP: &str = "\
The key is the enrollment group's. Each device's own key is derived from it.
Give it in the environment variable AZURE_DPS_SYMMETRIC_KEY, in a file, or on
standard input. Every user of this machine can read a command line, so there is
no flag for the key.

The default --rate keeps within the quota of registrations: 1000 a minute for
each DPS instance. The library keeps within the quota of polls, 5 in 10 s for
each device: it polls when the service asks for it, or else every 3 s. Register
requests are billed, also those of simulated devices. The look-ups of --verify
are not billed. The devices stay in their hubs until you delete them there.

Examples. The emulator runs as
`dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 --ca-out ca.pem`:
  # 2000 toasters of the tutorial at once, over TLS, each looked up afterwards
  AZURE_DPS_SYMMETRIC_KEY=… fleet --id-scope 0ne00002193 --devices 2000 \\
      --registration-id 'fleet-{}-contoso-tstrsd-007' --verify \\
      --host https://localhost:8443 --ca ca.pem

  # The same for a script, without TLS, 50 at a time
  fleet --scope 0ne00002193 --rid 'fleet-{}-contoso-tstrsd-007' \\
      --devices 2000 --concurrency 50 --key-file group.key --json \\
      --host http://127.0.0.1:8080

  # The same devices, each connected to its hub for a minute. The emulator
  # needs `--mqtts 127.0.0.1:8883` too
  AZURE_DPS_SYMMETRIC_KEY=… fleet --id-scope 0ne00002193 --devices 2000 \\
      --registration-id 'fleet-{}-contoso-tstrsd-007' --connect --hold 60 \\
      --host https://localhost:8443 --ca ca.pem --hub-address localhost

  # The devices of a list, at a real DPS: 1000 a minute
  fleet --scope 0ne00002193 --ids-file ids.txt --key-file group.key --verify

JSON, for all devices together:
  devices, assigned, failed, unfinished, interrupted
  seconds, devicesPerSecond
  latencySeconds    p50, p90, p99 and max of the assigned devices; each counts
                    from the start of its device
  hubs, errors, retries    names, and how often each occurred
  requests, registerRequests, refusedCalls, connections
                    sums over the devices; see below
  sharedIdentities  devices that got the hub and device ID of another device
  verification      null without --verify; same, different (the service names
                    another hub or device ID), failed (names and counts)
  connection        null without --connect; connected, failed and breaks
                    (names and counts), seconds (until the last device was
                    connected), devicesPerSecond, latencySeconds, and sums over
                    the devices; see `stay`
  results           one object for each device, in the order of the IDs

JSON, each of results:
  registrationId
  outcome           assigned, failed or unfinished; an unfinished device has no
                    other member
  assignedHub, deviceId    if assigned
  seconds           from the start of this device
  requests          requests sent, including polls
  registerRequests  register requests among them, which are billed
  refusedCalls      requests among them that were answered with status 429
  retries           failed attempts that were repeated
  connections       attempts to connect
  error             null, or why the device or its look-up failed: kind (the
                    name in errors), code, httpStatus, trackingId, seen (text)
  verification      null, same, different or failed
  stay              null without --connect; what the device did at its hub:
                    seconds (until its first report was accepted),
                    connections, sessions, resumedSessions (the hub had kept
                    the subscriptions), breaks, longestBreakSeconds,
                    desiredVersion, changes, reports (that the hub accepted),
                    lastReport, reportedVersion, telemetry (that the hub
                    acknowledged), and error: null, or why the device was not
                    connected at the end
  sharesIdentityWith    null, or the first device with the same hub and
                    device ID

The text names at most 20 devices that failed, that --verify found different,
or that share an identity. JSON names all.

Exit codes:
  0    every device is assigned, and --verify, if given, found the same
  1    another failure, such as a result that cannot be written
  2    usage: a flag, ID, file, key, payload or endpoint is not acceptable
  3    a device is not assigned
  4    every device is assigned, but --verify found a difference, or two
       devices share an identity
  5    every device is assigned, but one was not connected to its hub at the end
  130  interrupted by Ctrl-C: the output has the results until then";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// HTTPS, port 443; or HTTP to this machine
    Http,
    /// MQTT over TLS, port 8883; or without TLS to this machine, if --host is an http URL
    Mqtt,
}

impl Cli {
    /// Returns the registration IDs. Reads standard input if the IDs come from there.
    pub fn registration_ids(&self) -> Result<Vec<Rc<str>>, String> {
        if let Some(file) = &self.ids_file {
            if is_stdin(file) && self.key_file.as_deref().is_some_and(is_stdin) {
                return Err("only one of key and IDs can come from standard input".to_owned());
            }
            return Ok(ids::read(file)?.into_iter().map(Rc::from).collect());
        }
        let numbers = (u64::from(self.first)..).take(self.devices.unwrap_or_default() as usize);
        Ok(numbers.map(|number| self.registration_id.replace("{}", &number.to_string()).into()).collect())
    }

    /// Returns how many devices are provisioned at the same time. `None` means all.
    pub fn concurrency(&self) -> Option<usize> {
        self.concurrency.map(|devices| devices as usize)
    }

    /// Returns how many devices start in a minute. `None` means that all start at once.
    pub fn rate(&self) -> Option<u32> {
        self.rate.or((!self.is_local()).then_some(REGISTRATIONS_PER_MINUTE))
    }

    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.hold)
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }

    pub fn hub_address(&self) -> Result<Option<HubAddress>, String> {
        self.hub_address.as_deref().map(HubAddress::parse).transpose()
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Returns `true` if the service is an emulator on this machine.
    pub fn is_local(&self) -> bool {
        let host = Endpoint::parse(&self.provisioning_host).map_or("", |endpoint| endpoint.host());
        let host = host.trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Returns the text of the payload. The text is not checked yet.
    pub fn payload(&self) -> Result<Option<String>, String> {
        let Some(payload) = &self.payload else { return Ok(None) };
        values::payload(payload).map(Some)
    }

    pub fn read_group_key(&self, group_key: &mut GroupKey) -> Result<(), String> {
        let key = values::read_key(self.key_file.as_deref(), KEY_VARIABLE)?;
        let key = key.ok_or_else(|| format!("no key: set {KEY_VARIABLE}, or give --key-file"))?;
        values::read_group_key(&key, group_key)
    }
}

/// Ends the program as clap does after an invalid argument.
pub fn usage_error(message: impl std::fmt::Display) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, message).exit()
}

/// Checks the pattern with the longest number.
fn pattern(text: &str) -> Result<String, String> {
    if text.matches("{}").count() != 1 {
        return Err("the pattern must contain {} once, for the number".to_owned());
    }
    let longest = text.replace("{}", &(u64::from(u32::MAX) + 100_000).to_string());
    RegistrationId::new(&longest).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
