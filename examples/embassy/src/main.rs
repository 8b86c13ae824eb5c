//! Firmware on embassy for a Cortex-M3. At the first boot, it gets its hub from DPS over TLS 1.2 and stores the answer in
//! flash. At each boot, it reads its twin at the hub.
//!
//! ```text
//! tls.rs         connections over embassy-net and mbedTLS: copy this file
//! dps.rs         connections to DPS: copy this file
//! hub.rs         a session with the hub over MQTT, with ../mqtt_embedded/link.rs: copy both files
//! life.rs        one boot: reads the record, provisions if there is none, connects to the hub
//! ../board/      QEMU's mps2-an385, instead of a HAL for embassy
//! ```
//!
//! `run.sh` builds the firmware and boots it in QEMU against the emulator. `docs/embassy.md` explains it. It has the
//! inputs and exit codes of `../firmware/src/main.rs`, and these:
//!
//! | input | |
//! |---|---|
//! | `hub-address`, `hub-port` | the hub's IPv4 address and port, to use instead of DNS and 8883. The certificate must still be for the hub's name |
//! | `stay` | seconds to wait at the hub for a change of the twin |
//! | `provision-again` | the operator's command to ask DPS |
//! | `drop-after`, `power-loss` | for the test cases |
//!
//! | exit code | meaning |
//! |---|---|
//! | 2 | also: the twin does not fit the buffer |
//! | 3 | also: the hub rejects the device |
//! | 4 | the flash failed |
//! | 6 | also: the hub is unavailable, or the device must not ask DPS yet |
//! | 99 | the power failed, as `power-loss` demands |
#![no_std]
#![no_main]

mod dps;
mod hub;
mod life;
mod tls;

use core::{fmt, time::Duration};

use azure_dps::{
    DeviceKey, Error, IdScope, Registration, RegistrationId,
    asynch::{self, ConnectError},
    error::Fault,
    provisioning::Endpoint,
};
use cortex_m::singleton;
use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_executor::Spawner;
use embassy_net::{DhcpConfig, Runner, Stack, StackResources};
use embassy_time::with_timeout;
use life::{Request, Storage};
use mps2_an385::{self as board, Flash, FlashError, Inputs, USAGE, mbedtls::Problems, memory, println};
use sequential_storage::{cache::Cache, map::MapConfig};
use tls::Connector;
use zeroize::Zeroizing;

const MORE_USAGE: &str = "  hub-address=IPv4 hub-port=PORT      the hub's address and port [default: from DNS, 8883]
  stay=SECONDS                        waits at the hub for a change of the twin
  provision-again=1                   asks DPS although there is a record
  drop-after=MILLISECONDS             drops the run after this time, then after twice this time, and so on
  power-loss=N                        the power fails after N changes of the flash";

/// Sent to the operator's webhook.
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;

/// The longest wait for an address from DHCP.
const DHCP_PATIENCE: embassy_time::Duration = embassy_time::Duration::from_secs(10);

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let code = match boot(spawner).await {
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

async fn boot(spawner: Spawner) -> Result<(), Failure> {
    let ethernet = board::start().ok_or(Failure::Board)?;
    let mut line = [0; 512];
    let inputs = Inputs::read(&mut line)?;
    if let Some(time) = inputs.number("time")? {
        board::set_unix_time(time);
    }
    let id_scope = IdScope::new(inputs.text("id-scope")?).map_err(Error::from)?;
    let registration_id = RegistrationId::new(inputs.text("registration-id")?).map_err(Error::from)?;
    let request = Request {
        registration: Registration::new(id_scope, registration_id).with_payload(PAYLOAD)?,
        endpoint: Endpoint::parse(inputs.find("host").unwrap_or(Endpoint::GLOBAL.host()))?,
        address: inputs.find("address"),
        hub_address: inputs.find("hub-address"),
        hub_port: inputs.number("hub-port")?.map(|port| port.try_into().map_err(|_| "hub-port")).transpose()?,
        stay: inputs.number("stay")?.map(|stay| Duration::from_secs(stay.into())),
        give_up_after: Duration::from_secs(inputs.number("timeout")?.unwrap_or(120).into()),
        provision_again: inputs.find("provision-again").is_some(),
        drop_after: inputs.number("drop-after")?.map(|after| Duration::from_millis(after.into())),
    };
    let mut key = DeviceKey::new();
    read_key(&inputs, &mut key)?;
    let flash = Flash::open(inputs.text("flash")?, inputs.number("power-loss")?).ok_or(Failure::Input("flash"))?;
    let mut storage =
        Storage::new(BlockingAsync::new(flash), const { MapConfig::new(0..Flash::SIZE as u32) }, Cache::new_uncached());
    let tls = board::mbedtls::start();
    let roots = board::mbedtls::roots(&inputs)?;

    let stack = start_network(spawner, ethernet)?;
    with_timeout(DHCP_PATIENCE, stack.wait_config_up()).await.map_err(|_| Failure::NoAddress)?;
    let mut received = [0; 2048];
    let mut to_send = [0; 1536];
    let mut connector = Connector { stack, tls: &tls, roots, received: &mut received, to_send: &mut to_send };
    // Wiped on drop, because parts of the token stay in it.
    let mut buffer = Zeroizing::new([0; 1024]);
    Ok(life::live(&request, &mut key, &mut connector, &mut storage, &mut *buffer).await?)
}

/// Starts the network. Not inlined, so that its stack is free for the TLS handshake.
#[inline(never)]
fn start_network(spawner: Spawner, ethernet: board::Ethernet) -> Result<Stack<'static>, Failure> {
    #[embassy_executor::task]
    async fn run(mut runner: Runner<'static, board::Ethernet>) -> ! {
        runner.run().await
    }

    let mut seed = [0; 8];
    board::random(&mut seed);
    let config = embassy_net::Config::dhcpv4(DhcpConfig::default());
    // DHCP, DNS, and a connection.
    let resources = singleton!(: StackResources<3> = StackResources::new()).ok_or(Failure::Board)?;
    let (stack, runner) = embassy_net::new(ethernet, config, resources, u64::from_le_bytes(seed));
    spawner.spawn(run(runner).map_err(|_| Failure::Board)?);
    Ok(stack)
}

fn read_key(inputs: &Inputs<'_>, key: &mut DeviceKey) -> Result<(), Failure> {
    let mut text = Zeroizing::new([0; 128]);
    let text = inputs.file("key-file", &mut *text)?;
    Ok(key.read_base64(text.trim()).map_err(Error::from)?)
}

/// Why the device did not reach its hub.
enum Failure {
    /// The board is not an mps2-an385.
    Board,
    /// This input is missing or invalid.
    Input(&'static str),
    NoAddress,
    Life(life::Failure<FlashError>),
}

impl From<&'static str> for Failure {
    fn from(input: &'static str) -> Self {
        Self::Input(input)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Life(error.into())
    }
}

impl From<life::Failure<FlashError>> for Failure {
    fn from(failure: life::Failure<FlashError>) -> Self {
        Self::Life(failure)
    }
}

impl Failure {
    /// Returns the exit code, and what is at fault.
    fn fault(&self) -> (u8, &'static str) {
        let fault = match self {
            // mbedTLS has many codes for a full heap.
            _ if memory::is_exhausted() => Fault::Caller,
            Self::Board | Self::Input(_) => Fault::Caller,
            Self::NoAddress => Fault::Transport,
            Self::Life(life::Failure::Provisioning(error)) => error.fault(),
            Self::Life(life::Failure::Pause(_)) => Fault::Busy,
            Self::Life(life::Failure::Hub(error)) => error.fault(),
            Self::Life(life::Failure::Flash(_)) => return (4, "the flash"),
        };
        board::exit_code(fault)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if memory::is_exhausted() {
            return f.write_str("the heap is too small for a TLS handshake");
        }
        match self {
            Self::Board => f.write_str("no LAN9118 found: this board is not an mps2-an385"),
            Self::Input(name) => write!(f, "{name} is missing or invalid\n{USAGE}\n{MORE_USAGE}"),
            Self::NoAddress => f.write_str("no address from DHCP"),
            Self::Life(life::Failure::Provisioning(asynch::Error::Untrusted(tls::Error::Certificate(flags)))) => {
                Problems(*flags).fmt(f)
            }
            Self::Life(life::Failure::Hub(hub::Error::Connect(ConnectError::Untrusted(tls::Error::Certificate(
                flags,
            ))))) => {
                write!(f, "the hub: {}", Problems(*flags))
            }
            Self::Life(life::Failure::Hub(error)) => write!(f, "the hub: {error}"),
            Self::Life(life::Failure::Provisioning(error)) => error.fmt(f),
            Self::Life(life::Failure::Pause(wait)) => write!(f, "the device must not ask DPS for {} s", wait.as_secs()),
            Self::Life(life::Failure::Flash(error)) => write!(f, "the flash: {error:?}"),
        }
    }
}
