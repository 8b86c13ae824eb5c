//! The command line: flags named as in `az iot device registration create`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use azure_dps::{
    DeviceKey, GroupKey, RegistrationId,
    after::Hub,
    identity::{Csr, InvalidIdentifier},
    provisioning::Endpoint,
};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    derive::DeriveKey,
    input::Input,
    values::{self, endpoint, id_scope, is_stdin, read_key, read_stdin},
};

const KEY_VARIABLE: &str = "AZURE_DPS_SYMMETRIC_KEY";
const SECONDARY_KEY_VARIABLE: &str = "AZURE_DPS_SECONDARY_KEY";

/// Provisions this machine through the Azure IoT Hub Device Provisioning Service (DPS) and
/// prints the IoT hub that it belongs to.
#[derive(Parser)]
#[command(name = "gateway", version, after_long_help = LONG_HELP)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub provision: Option<Provision>,
    // Not in `Provision`: clap takes an optional group that has another one in it for absent.
    #[command(flatten)]
    pub key: Key,
}

const LONG_HELP: &str = "\
The key: give it in the environment variable AZURE_DPS_SYMMETRIC_KEY, in a file, or on
standard input. The command line is the worst place for it: every user of this machine can
read it in the list of processes, and the shell keeps it in its history. An enrollment has a
secondary key too: it is tried where the service refuses the first.

What is pasted for a key may have quotes around it, line breaks in it or no padding at its
end, and may be a device's whole connection string (HostName=…;DeviceId=…;SharedAccessKey=…).

A certificate in the key's place: --certificate-file-path and --key-file-path. Keys in the
environment are ignored then.

Files: keys, certificates, the payload and the csr may come through a pipe, as of a shell's
<(command), which must end within 60 s. --record and --issued-out are regular files. All have
a largest size: 4 kB a key, 64 kB a private key or csr, 1 MB a payload or the device's
certificates, 4 MB a CA file.

The service's certificate: an https endpoint must have one that this machine's roots vouch
for, or those in the file that the environment variable SSL_CERT_FILE names, or those of --ca.

A proxy: HTTPS_PROXY, https_proxy, ALL_PROXY or all_proxy names one, as http://proxy:3128 or
http://user:password@proxy:3128, and NO_PROXY lists the hosts that are reached without it. MQTT
does not go through a proxy.

Examples, with the values of Microsoft's tutorial, against the emulator as started by
`dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 --ca-out ca.pem`:
  # The enrollment group's key, from which this device's is derived
  AZURE_DPS_SYMMETRIC_KEY=… gateway --id-scope 0ne00002193 --compute-key \\
      --registration-id breakroom499-contoso-tstrsd-007 --host http://127.0.0.1:8080

  # The device's own key, a payload for the allocation webhook, JSON for a script
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 --key-file device.key \\
      --payload '{\"MyDeviceFirmwareVersion\":\"12.0.2.5\"}' --json

  # The emulator over HTTPS, with the CA that it wrote
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 --key-file device.key \\
      --host https://localhost:8443 --ca ca.pem

  # The same over MQTT, where the emulator has `--mqtts 127.0.0.1:8883` too
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 --key-file device.key \\
      --transport mqtt --host localhost --ca ca.pem

  # A certificate and its private key, where an enrollment knows it or its CA
  gateway --scope 0ne00002193 --rid sn-008 --cp device.pem --kp device-key.pem \\
      --host https://localhost:8443 --ca ca.pem

  # A certificate for the hub, issued for a key pair of this machine's, where the enrollment
  # has a certificate policy
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=sn-007 \\
      -keyout hub-key.pem -out hub.csr
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key --csr hub.csr --issued-out hub.pem

  # At each boot: the service is asked once, and again when the hub refuses this device
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key --record /var/lib/gateway/record
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key --record /var/lib/gateway/record \\
      --reprovision

  # Does its hub let it in? The emulator's hubs are reached without a hosts file, where it has
  # `--mqtts 127.0.0.1:8883` too
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 --key-file device.key \\
      --host https://localhost:8443 --ca ca.pem --connect --hub-address localhost:8883

  # Where it was assigned, without registering it
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key --status

  # The device's own key, in the factory; and those of all devices in a list, a line each
  gateway derive-key --registration-id breakroom499-contoso-tstrsd-007 --key-file group.key
  gateway derive-key --ids-file ids.txt --key-file group.key

Exit codes:
  0  assigned
  1  anything that is not below
  2  usage: a flag, an ID, a file, the key, the payload or the endpoint is not acceptable
  3  refused: the service, its operator or the allocation webhook said no
  4  disabled: the operator has disabled the enrollment
  5  unauthorized: the service does not accept key or certificate (or this clock is off)
  6  busy: the service is throttling or failing, or the time-out passed while it was assigning
  7  unreachable: no connection, no trusted certificate, no answer, or the proxy refuses
  8  not DPS: something answered that is not the service, such as a captive portal
  9  unassigned: --status found no assignment, or none yet
  10 no certificate: assigned, and printed, but none was issued for --csr
  11 hub refuses: assigned, and printed, but for --connect the hub did not let this device in
  12 hub unreachable: the same, but there was no connection, no trusted certificate or no twin
What may pass (6 and 7) is retried until the time-out, with pauses that grow: 10 to 60 s and up
to as much again when the service refuses, or longer if it asks for that; 5 to 80 s and up to
half as much again without an answer, which ends the run after 8 retries in a row. A run whose
next pause would outlast it ends at once. Not retried: a certificate that is not trusted, and
a proxy that wants a password or forbids the tunnel.";

#[derive(Subcommand)]
pub enum Command {
    /// Derive devices' own keys from an enrollment group's, and print them
    DeriveKey(DeriveKey),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// HTTPS, port 443
    Http,
    /// MQTT, port 8883
    Mqtt,
}

#[derive(Args)]
pub struct Provision {
    /// The DPS instance's ID scope, such as 0ne00002193
    #[arg(long, visible_alias = "scope", value_name = "SCOPE", value_parser = id_scope)]
    pub id_scope: String,

    /// The name under which this device is enrolled; use lower case
    #[arg(long, visible_alias = "rid", value_name = "ID", value_parser = registration_id)]
    pub registration_id: String,

    /// The key is the enrollment group's: derive this device's from it, and of the secondary too
    ///
    /// Whoever holds a group key can be any device of the group: derive the keys in the
    /// factory where you can (see derive-key).
    #[arg(long, visible_alias = "ck")]
    pub compute_key: bool,

    /// A file with the secondary key, tried where the service refuses the other; - is standard
    /// input [env: AZURE_DPS_SECONDARY_KEY]
    #[arg(long, value_name = "FILE")]
    secondary_key_file: Option<PathBuf>,

    /// The device's certificate instead of a key: PEM, then the certificates up to its CA; or DER
    #[arg(long, visible_alias = "cp", value_name = "FILE", requires = "key_file_path")]
    #[arg(conflicts_with_all = ["symmetric_key", "key_file", "compute_key", "secondary_key_file"])]
    certificate_file_path: Option<PathBuf>,

    /// The certificate's private key: PEM or DER, not encrypted
    #[arg(long, visible_alias = "kp", value_name = "FILE", requires = "certificate_file_path")]
    key_file_path: Option<PathBuf>,

    /// Have a certificate issued for the hub: a PKCS #10 request, PEM or DER
    ///
    /// Its subject's common name must be the registration ID, and the enrollment must have a
    /// certificate policy. With --json, issuedCertificateChain is what the service sent.
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,

    /// Write what is issued here: PEM, the device's own certificate first
    #[arg(long, value_name = "FILE", requires = "csr")]
    pub issued_out: Option<PathBuf>,

    /// Keep the assignment here, and print it from here at the next start, without asking the service
    ///
    /// A record that is not whole, or not this device's, is refused and written again; so is one
    /// without a certificate for --csr. It holds no key, but whatever the webhook returned.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Register although there is a record: the hub refuses this device, or the payload is another
    ///
    /// A record with a certificate that was issued needs --csr again: without it, the certificate would
    /// be lost.
    #[arg(long, requires = "record")]
    pub reprovision: bool,

    /// Ask where the device was assigned, and register nothing; over HTTP only
    #[arg(long, conflicts_with_all = ["payload", "csr", "record"])]
    pub status: bool,

    /// A JSON object for the allocation webhook, or the path of a file with one
    #[arg(long, value_name = "JSON|FILE")]
    payload: Option<String>,

    /// The service: a host, host:port, or a URL; https, or http to this machine only
    #[arg(long, visible_alias = "host", value_name = "HOST|URL", default_value = Endpoint::GLOBAL.host(), value_parser = endpoint)]
    pub provisioning_host: String,

    /// What is spoken with the service, over TLS
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,

    /// The version of the service's API [default: the one that the request needs]
    #[arg(long, value_name = "VERSION", value_parser = api_version)]
    pub api_version: Option<String>,

    /// Trust these certificates, PEM or DER, and none of this machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Give up after so long; counts from when key and files have been read
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Connect to the assigned hub over MQTT and download the twin: do hub and credential work?
    ///
    /// With the key that the service accepted, or the certificate, and --ca if it is given. With --json,
    /// hubConnection has the outcome. Not for a certificate that was issued: this program has no key for it.
    #[arg(long, conflicts_with = "csr")]
    pub connect: bool,

    /// Dial this host instead of the assigned hub's: a gateway's, or the emulator's; port 8883 without one
    #[arg(long, value_name = "HOST[:PORT]", requires = "connect", value_parser = hub_address)]
    pub hub_address: Option<(String, u16)>,

    /// Print the hub connection string too: it holds the device's key, so it is a secret
    ///
    /// With a certificate, the device's own or one that was issued, it ends in x509=true and
    /// holds no secret.
    #[arg(long)]
    pub connection_string: bool,

    /// Print one JSON object on standard output, for success and failure alike
    ///
    /// Success has assignedHub, deviceId, registrationId and what else the service said, from
    /// (service or record), and endpoint if the service was asked; failure has error. No progress is
    /// shown. Usage errors (exit code 2) stay plain text.
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct Key {
    /// The symmetric key, base64; - reads it from standard input [env: AZURE_DPS_SYMMETRIC_KEY]
    #[arg(long, visible_alias = "key", value_name = "KEY", value_parser = secret, conflicts_with = "key_file")]
    symmetric_key: Option<Zeroizing<String>>,

    /// A file with the key; - is standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Provision {
    /// Reads the primary key and the secondary key into their places, and returns how many there are: none if
    /// there is a certificate.
    pub fn keys(
        &self,
        key: &Key,
        registration_id: &RegistrationId<'_>,
        [primary, secondary]: &mut [DeviceKey; 2],
    ) -> Result<usize, String> {
        if self.certificate_file_path.is_some() {
            return Ok(0);
        }
        if key.is_on_stdin() && self.secondary_key_file.as_deref().is_some_and(is_stdin) {
            return Err("one of the two keys can come from standard input, not both".to_owned());
        }
        self.read_key(&key.read()?, registration_id, primary)?;
        let Some(text) = read_key(self.secondary_key_file.as_deref(), SECONDARY_KEY_VARIABLE)? else { return Ok(1) };
        let read = self.read_key(&text, registration_id, secondary);
        read.map(|()| 2).map_err(|error| format!("the secondary key: {error}"))
    }

    /// Reads the key with which this device signs into its place.
    fn read_key(&self, text: &str, registration_id: &RegistrationId<'_>, key: &mut DeviceKey) -> Result<(), String> {
        if !self.compute_key {
            return values::read_device_key(text, key);
        }
        let mut group_key = GroupKey::new();
        values::read_group_key(text, &mut group_key)?;
        group_key.derive_into(registration_id, key).map_err(|error| error.to_string())
    }

    /// The files of the device's certificate and of its private key.
    pub fn certificate(&self) -> Option<(&Path, &Path)> {
        self.certificate_file_path.as_deref().zip(self.key_file_path.as_deref())
    }

    /// The text of the payload, which nobody has checked yet.
    pub fn payload(&self) -> Result<Option<String>, String> {
        let Some(payload) = &self.payload else { return Ok(None) };
        values::payload(payload).map(Some)
    }

    /// The request for a certificate, as DER.
    pub fn csr(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(file) = &self.csr else { return Ok(None) };
        let contents = Input::CSR.read(file)?;
        let der = CertificateSigningRequestDer::from_pem_slice(&contents);
        let der = der.map_or_else(|_| contents.to_vec(), |der| der.to_vec());
        match Csr::from_der(&der) {
            Ok(_) => Ok(Some(der)),
            Err(_) => Err(format!("{} is no request for a certificate: PKCS #10, PEM or DER", file.display())),
        }
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

impl Key {
    pub fn read_group_key(&self, key: &mut GroupKey) -> Result<(), String> {
        values::read_group_key(&self.read()?, key)
    }

    pub fn is_on_stdin(&self) -> bool {
        self.symmetric_key.as_ref().is_some_and(|key| key.as_str() == "-")
            || self.key_file.as_deref().is_some_and(is_stdin)
    }

    fn read(&self) -> Result<Zeroizing<String>, String> {
        match &self.symmetric_key {
            Some(key) if key.as_str() == "-" => read_stdin(),
            Some(key) => Ok(key.clone()),
            None => read_key(self.key_file.as_deref(), KEY_VARIABLE)?.ok_or_else(|| {
                format!(
                    "no key: set {KEY_VARIABLE}, or give --key-file, --symmetric-key or, in its place, --certificate-file-path"
                )
            }),
        }
    }
}

/// Ends the program as clap does when it is given something unusable.
pub fn usage_error(message: impl std::fmt::Display) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, message).exit()
}

fn api_version(text: &str) -> Result<String, &'static str> {
    let is_version = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_version.then(|| text.to_owned()).ok_or("a version is a date, such as 2021-06-01 or 2025-07-01-preview")
}

fn hub_address(text: &str) -> Result<(String, u16), String> {
    if text.contains("://") {
        return Err("it is a host, or host:port, without a scheme".to_owned());
    }
    endpoint(text)?;
    let endpoint = Endpoint::parse(text).map_err(|error| error.to_string())?;
    // Without a port, an endpoint has that of HTTPS.
    let port = if endpoint.port() == Endpoint::GLOBAL.port() { Hub::MQTT_PORT } else { endpoint.port() };
    Ok((endpoint.host().to_owned(), port))
}

pub fn registration_id(text: &str) -> Result<String, InvalidIdentifier> {
    RegistrationId::new(text).map(|_| text.to_owned())
}

// Checked later: an error here would have clap print the key.
fn secret(text: &str) -> Result<Zeroizing<String>, std::convert::Infallible> {
    Ok(Zeroizing::new(text.to_owned()))
}
