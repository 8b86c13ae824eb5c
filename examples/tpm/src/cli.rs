//! The command line.

use std::path::PathBuf;

use azure_dps::{IdScope, RegistrationId, identity::InvalidIdentifier, provisioning::Endpoint};
use clap::Parser;
use tss_esapi::tcti_ldr::TctiNameConf;

/// Provisions this machine through the Azure IoT Hub Device Provisioning Service (DPS), to which
/// its TPM proves who it is, and prints the IoT hub that it belongs to.
#[derive(Parser)]
#[command(name = "azure-dps-tpm", after_long_help = LONG_HELP)]
pub struct Cli {
    /// The TPM: device:PATH, tabrmd, or a simulator such as swtpm:host=127.0.0.1,port=2321
    #[arg(long, env = "TPM2TOOLS_TCTI", default_value = "device:/dev/tpmrm0")]
    pub tcti: TctiNameConf,

    /// Print what the operator needs to enroll this machine, and do nothing else
    #[arg(long)]
    pub print_enrollment: bool,

    /// The DPS instance's ID scope, such as 0ne00002193
    #[arg(long, value_name = "SCOPE", value_parser = id_scope, required_unless_present = "print_enrollment")]
    pub id_scope: Option<String>,

    /// The name under which this machine is enrolled [default: made from the endorsement key]
    #[arg(long, value_name = "ID", value_parser = registration_id)]
    pub registration_id: Option<String>,

    /// The service: a host, host:port, or a URL
    #[arg(long, value_name = "HOST|URL", default_value = Endpoint::GLOBAL.host(), value_parser = endpoint)]
    pub endpoint: String,

    /// Trust these PEM certificates, and none of this machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// A JSON object for the allocation webhook
    #[arg(long, value_name = "JSON")]
    pub payload: Option<String>,
}

const LONG_HELP: &str = "\
The TPM keeps its endorsement key at 0x81010001 and its storage root key at 0x81000001, where they
are made if there are none; the key for the hub is put at 0x81000100, in the last one's place.

Exit codes:
  0  assigned, and the TPM has the hub's key
  1  anything that is not below
  2  usage: an option, the payload or the CA file is not acceptable
  3  refused: the service, its operator or the allocation webhook said no
  4  disabled: the operator has disabled the enrollment
  5  unauthorized: the service does not accept what the TPM signs (or this machine's clock is off)
  6  busy: the service is throttling or failing, or was assigning for too long
  7  unreachable: no connection, no trusted certificate, or no answer
  8  not DPS: something answered that is not the service
  9  TPM: there is none, or it refused a command";

fn id_scope(text: &str) -> Result<String, InvalidIdentifier> {
    IdScope::new(text).map(|_| text.to_owned())
}

fn registration_id(text: &str) -> Result<String, InvalidIdentifier> {
    RegistrationId::new(text).map(|_| text.to_owned())
}

fn endpoint(text: &str) -> Result<String, String> {
    match Endpoint::parse(text) {
        Ok(endpoint) if endpoint.is_https() => Ok(text.to_owned()),
        Ok(_) => Err("the service speaks https".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
