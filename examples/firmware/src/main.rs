//! Firmware for a Cortex-M3 that gets its hub from DPS over TLS 1.2.
//!
//! ```text
//! provision.rs   provisions the device: copy this file
//! tls.rs         TLS with mbedTLS: checks the certificate's chain, name and dates
//! key.rs         with the feature `mbedtls-hmac`: a key with which mbedTLS signs
//! store.rs       keeps the record in flash for later boots
//! net.rs         a blocking TCP stream over smoltcp, with DHCP and DNS
//! ../board/      QEMU's mps2-an385: memory, Ethernet, clocks, random numbers, console, inputs, flash.
//!                Replace this crate for another board.
//! ```
//!
//! `run.sh` builds the firmware and runs it against the emulator. `docs/firmware.md` explains it. To run it by hand
//! against the real service:
//!
//! ```text
//! qemu-system-arm -M mps2-an385 -nic user,model=lan9118 -display none -kernel FIRMWARE -semihosting-config \
//!     enable=on,target=native,arg=firmware,arg=id-scope=…,arg=registration-id=…,arg=key-file=…,arg=ca=…
//! ```
//!
//! The inputs are words of QEMU's command line, so that one image serves every device. Keys and roots are files on the
//! host, because the list of processes would show them. A product has all of this in flash, from the factory.
//!
//! | input | |
//! |---|---|
//! | `id-scope`, `registration-id` | identify the device |
//! | `key-file` | the device key in base64, not the group key |
//! | `ca` | the trusted roots, in PEM |
//! | `host` | `host[:port]` of the service; by default `global.azure-devices-provisioning.net` |
//! | `address` | an IPv4 address to use instead of DNS. The certificate must still be for `host` |
//! | `flash` | a file with the content of the flash. `blank_flash` in `../board/cases.sh` makes one |
//! | `timeout` | seconds for the whole run (120) |
//! | `time` | the clock at the start, in seconds since 1970 (the host's) |
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | assigned: hub, device ID and payload are printed |
//! | 2 | wrong inputs, or the heap is too small |
//! | 3 | the webhook or the enrollment rejects the device: the operator must act |
//! | 5 | 401: check the key and the clock |
//! | 6 | the service is busy |
//! | 7 | the network failed |
//! | 8 | the server is not the service |
//! | 101, 102 | a panic, a CPU fault |
#![no_std]
#![no_main]

#[cfg(feature = "mbedtls-hmac")]
mod key;
mod net;
mod provision;
mod store;
mod tls;

use core::{fmt, time::Duration};

#[cfg(not(feature = "mbedtls-hmac"))]
use azure_dps::DeviceKey;
use azure_dps::{error::Fault, provisioning::Endpoint};
use cortex_m_rt::entry;
#[cfg(feature = "mbedtls-hmac")]
use key::DeviceKey;
use mps2_an385::{self as board, Flash, Inputs, USAGE, memory, println};
use provision::{Request, SIZES};
use store::Store;
use zeroize::Zeroizing;

#[entry]
fn main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(failure) => {
            let (code, who) = failure.fault();
            println!("failed: {}", failure);
            println!("at fault: {}", who);
            code
        }
    };
    println!("peak: {}", memory::Peak::now());
    board::exit(code)
}

fn run() -> Result<(), Failure> {
    let ethernet = board::start().ok_or(Failure::Board)?;

    let mut line = [0; 1024];
    let inputs = Inputs::read(&mut line)?;
    if let Some(time) = inputs.number("time")? {
        board::set_unix_time(time);
    }
    let request = Request {
        id_scope: inputs.text("id-scope")?,
        registration_id: inputs.text("registration-id")?,
        endpoint: inputs.find("host").unwrap_or(Endpoint::GLOBAL.host()),
        address: inputs.find("address"),
        give_up_after: Duration::from_secs(inputs.number("timeout")?.unwrap_or(120).into()),
    };
    let flash = Flash::open(inputs.text("flash")?, None).ok_or("flash")?;
    let mut store = Store(flash);
    let mut key = DeviceKey::new();
    read_key(&mut key, &inputs)?;
    let tls = tls::Client { tls: board::mbedtls::start(), roots: board::mbedtls::roots(&inputs)? };

    let network = net::Network::start(ethernet).map_err(tls::Error::from).map_err(provision::Failure::Connect)?;
    // Wiped on drop, because parts of the token stay in it.
    let mut buffer = Zeroizing::new([0; SIZES.http()]);
    let record = provision::find_hub(&request, &mut key, &network, &tls, &mut store, &mut *buffer)?;
    let assignment = record.assignment();
    println!("hub: {}", assignment.assigned_hub());
    println!("device ID: {}", assignment.device_id());
    println!("payload: {}", assignment.payload().map_or("none", |payload| payload.raw()));
    Ok(())
}

fn read_key(key: &mut DeviceKey, inputs: &Inputs<'_>) -> Result<(), Failure> {
    let mut text = Zeroizing::new([0; 128]);
    let text = inputs.file("key-file", &mut *text)?;
    Ok(key.read_base64(text.trim())?)
}

/// Why the device has no hub.
enum Failure {
    /// The board is not an mps2-an385.
    Board,
    /// This input is missing or invalid.
    Input(&'static str),
    Provisioning(provision::Failure),
}

impl From<&'static str> for Failure {
    fn from(input: &'static str) -> Self {
        Self::Input(input)
    }
}

#[cfg(not(feature = "mbedtls-hmac"))]
impl From<azure_dps::identity::InvalidKey> for Failure {
    fn from(error: azure_dps::identity::InvalidKey) -> Self {
        Self::Provisioning(error.into())
    }
}

impl From<provision::Failure> for Failure {
    fn from(failure: provision::Failure) -> Self {
        Self::Provisioning(failure)
    }
}

impl From<azure_dps::Error> for Failure {
    fn from(error: azure_dps::Error) -> Self {
        Self::Provisioning(error.into())
    }
}

impl Failure {
    /// Returns the exit code, and what is at fault.
    fn fault(&self) -> (u8, &'static str) {
        let fault = match self {
            Self::Board | Self::Input(_) => Fault::Caller,
            // A heap that is too small stays too small, although the library counts this as a network failure.
            Self::Provisioning(provision::Failure::Connect(tls::Error::OutOfMemory)) => Fault::Caller,
            Self::Provisioning(failure) => failure.fault(),
        };
        board::exit_code(fault)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board => f.write_str("no LAN9118 found: this board is not an mps2-an385"),
            Self::Input(name) => write!(f, "{name} is missing or invalid\n{USAGE}"),
            Self::Provisioning(failure) => failure.fmt(f),
        }
    }
}
