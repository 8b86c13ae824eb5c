//! A device: its factory settings, its flash, and its boot.

use std::{
    error::Error,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Assignment, Attestation, DeviceKey, GroupKey, IdScope, Provisioning, Registration, RegistrationId,
    after::{HubOutcome, Next, Record, Reprovisioning, ReprovisioningPolicy, twin::Properties},
    blocking,
    error::{ErrorCode, RecordError},
    provisioning::{Endpoint, Progress, Sizes},
};
use embedded_io_adapters::std::FromStd;
use rumqttc::Transport;

use crate::hub::{Failed, Session};

pub const ID_SCOPE: &str = "0ne00002193";
const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
/// Large enough for each of the three devices.
const SIZES: Sizes =
    Sizes::new(ID_SCOPE, "mainbuilding167-contoso-hpsd-088").with_payload(PAYLOAD.len()).with_returned_payload(100);
/// If a device must wait longer than this, the program ends the run.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The addresses of the emulator, which replaces DPS and the hubs.
#[derive(Clone, Copy)]
pub struct Local<'a> {
    pub dps: Endpoint<'a>,
    pub hubs: SocketAddr,
}

pub struct Device {
    pub id: &'static str,
    registration: Registration<'static>,
    key: DeviceKey,
    /// The record of the assignment. It is empty until the first boot writes it.
    flash: Vec<u8>,
}

/// A step of a boot.
pub enum Step {
    Dps(Progress),
    Hub(HubOutcome),
}

/// Why a boot did not reach a hub: the service's error code, if there is one, and the full text.
pub struct Failure {
    pub code: Option<ErrorCode>,
    pub message: String,
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: None, message: error.to_string() }
    }
}

impl Device {
    /// Derives the device key from the group key. In production, the factory does this, and the device has only its own
    /// key.
    pub fn new(id: &'static str) -> Result<Self, azure_dps::Error> {
        let registration_id = RegistrationId::new(id)?;
        let (mut group_key, mut key) = (GroupKey::new(), DeviceKey::new());
        group_key.read_base64(GROUP_KEY)?;
        group_key.derive_into(&registration_id, &mut key)?;
        let registration = Registration::new(IdScope::new(ID_SCOPE)?, registration_id).with_payload(PAYLOAD)?;
        Ok(Self { id, registration, key, flash: Vec::new() })
    }

    /// Returns the stored assignment.
    pub fn assignment(&self) -> Result<Assignment<'_>, RecordError> {
        Record::read(&self.flash, &self.registration).map(|record| record.assignment())
    }

    /// Boots: connects to the hub in the record and downloads the twin. Asks DPS if there is no record, or if the hub
    /// rejects the device. Returns the desired properties.
    pub fn boot(&mut self, local: Local<'_>, say: impl Fn(Step)) -> Result<String, Failure> {
        let started = Instant::now();
        let clock = || started.elapsed();
        let record = Record::read(&self.flash, &self.registration);
        let mut life = Reprovisioning::new(self.registration.registration_id(), ReprovisioningPolicy::new(), record);
        loop {
            match life.next(clock()) {
                Next::Wait(wait) if wait > LONGEST_WAIT => {
                    let message = format!("the device must wait {wait:.0?} before it connects to the hub or to DPS");
                    return Err(Failure { code: None, message });
                }
                Next::Wait(wait) => thread::sleep(wait),
                Next::Hub(_) => match self.connect(local.hubs) {
                    Ok(desired) => {
                        say(Step::Hub(HubOutcome::Accepted));
                        return Ok(desired);
                    }
                    Err(Failed { outcome, .. }) => {
                        say(Step::Hub(outcome));
                        life.on_hub(clock(), outcome);
                    }
                },
                Next::Register(_) | Next::LookUp(_) => self.provision(local.dps, &mut life, &clock, &say)?,
            }
        }
    }

    /// Registers with DPS, and stores the assignment.
    fn provision(
        &mut self,
        dps: Endpoint<'_>,
        life: &mut Reprovisioning,
        clock: &impl Fn() -> Duration,
        say: &impl Fn(Step),
    ) -> Result<(), Failure> {
        let mut provisioning = Provisioning::new(self.registration, Attestation::symmetric_key()).with_endpoint(dps);
        let mut connect = |_| Ok(FromStd::new(TcpStream::connect((dps.host(), dps.port()))?));
        let delay = |duration| thread::sleep(duration);
        let observe = |progress| say(Step::Dps(progress));
        let mut buffer = [0; SIZES.http()];
        provisioning.start(clock(), unix_time());
        let done = blocking::run(&mut provisioning, &mut self.key, &mut buffer, &mut connect, clock, delay, observe);
        if let Err(error) = done {
            let words = provisioning.details(&buffer).and_then(|details| details.message());
            let words = words.map(|words| format!("\n    the service said  {words}")).unwrap_or_default();
            return Err(Failure { code: error.kind().code(), message: format!("{error}{words}") });
        }
        if life.on_assigned(clock(), &provisioning.result(&buffer)?, provisioning.key()) {
            self.flash = provisioning.write_record(&mut buffer)?.to_vec();
        }
        Ok(())
    }

    /// Connects to the hub in the record, downloads the twin, and disconnects.
    fn connect(&mut self, hubs: SocketAddr) -> Result<String, Failed> {
        let Self { registration, key, flash, .. } = self;
        let unusable = |seen: String| Failed { outcome: HubOutcome::Unreachable, seen };
        let record = Record::read(flash, registration).map_err(|error| unusable(error.to_string()))?;
        let hub = record.assignment().hub();
        let mut token = [0; 512];
        let token =
            hub.write_token(key, unix_time() + 3600, &mut token).map_err(|error| unusable(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // The user name contains the hub's name. With a real hub, a device connects to `hub.host()` over TLS.
        let host = hubs.ip().to_string();
        runtime.map_err(|error| unusable(error.to_string()))?.block_on(async {
            let mut session = Session::open(&hub, token, (&host, hubs.port()), Transport::Tcp).await?;
            let desired = session.twin(|twin| settings(&twin.desired)).await?;
            session.close().await;
            Ok(desired)
        })
    }
}

/// Returns the desired properties that the tutorial sets.
fn settings(desired: &Properties<'_>) -> String {
    let names = ["state", "darknessSetting", "temperatureSetting"];
    let found = names.iter().filter_map(|name| Some(format!("{name} {}", desired.get(name)?.raw())));
    found.collect::<Vec<_>>().join(", ")
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
