//! One boot: reads the record from flash, provisions if there is none, connects to the hub, and reads the twin. If the
//! hub rejects the device, the device provisions again.

use core::{fmt, time::Duration};

use azure_dps::{
    Attestation, DeviceKey, Provisioning, Registration, RetryPolicy,
    after::{Hub, HubOutcome, Next, Pauses, Record, Reprovisioning, ReprovisioningPolicy, twin::Properties},
    asynch,
    identity::KeyChoice,
    provisioning::{Endpoint, Progress},
};
use embassy_time::{Timer, with_timeout};
use embedded_storage_async::nor_flash::NorFlash;
use heapless::String;
use mbedtls_rs::SessionError;
use mps2_an385::{println, unix_time};
use sequential_storage::{
    self as storage,
    cache::{Cache, Uncached},
    map::MapStorage,
};

use crate::{
    dps::Service,
    hub::{self, Change, Clock, Session},
    tls::{self, Connector},
};

/// A store with two values in flash. It spreads the wear over the sectors. After a loss of power, it has the old value or
/// the new one.
pub type Storage<F> = MapStorage<u8, F, Cache<Uncached, Uncached, Uncached, u8>>;
const RECORD: u8 = 0;
/// How long the device must not ask DPS, and the time at which this was stored.
const PAUSES: u8 = 1;
/// The longest name that DNS allows.
const MAX_HOST: usize = 253;
/// A session ends with its token.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// The properties that the device reports.
const REPORT: &str = r#"{"firmwareVersion":"12.0.2.5"}"#;

/// The device and the services.
pub struct Request<'a> {
    pub registration: Registration<'a>,
    pub endpoint: Endpoint<'a>,
    /// The service's IPv4 address, to use instead of DNS.
    pub address: Option<&'a str>,
    /// The hub's IPv4 address and port, to use instead of DNS and 8883.
    pub hub_address: Option<&'a str>,
    pub hub_port: Option<u16>,
    /// How long to stay at the hub for a change of the desired properties.
    pub stay: Option<Duration>,
    /// The longest time for a run with DPS. After this time, the boot ends instead of waiting.
    pub give_up_after: Duration,
    /// Asks DPS although there is a record: a command of the operator.
    pub provision_again: bool,
    /// Drops the run after this time, as a product does when its link goes down. The next times are twice as long each.
    pub drop_after: Option<Duration>,
}

/// Why the device did not reach its hub.
pub enum Failure<E> {
    Provisioning(asynch::Error<tls::Error, SessionError>),
    /// The pause before the next run is longer than the device may wait.
    Pause(Duration),
    Hub(hub::Error),
    Flash(storage::Error<E>),
}

/// Runs until the device has read its twin at the hub. `buffer` holds all messages and needs at least 1 KB.
pub async fn live<F: NorFlash>(
    request: &Request<'_>,
    key: &mut DeviceKey,
    connector: &mut Connector<'_>,
    storage: &mut Storage<F>,
    buffer: &mut [u8],
) -> Result<(), Failure<F::Error>> {
    let registration = request.registration;
    // The store uses the buffer of the connection while none is open.
    if !is_ours(storage, connector.received).await.unwrap_or(false) {
        storage.erase_all().await?;
    }
    let record = storage.fetch_item::<&[u8]>(connector.received, &RECORD).await?.unwrap_or_default();
    let record = Record::read(record, &registration);
    let mut has_hub = record.is_ok();
    let mut life = Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new(), record);
    let pauses = storage.fetch_item(connector.received, &PAUSES).await?;
    if let Some(pauses) = pauses.and_then(pauses_left) {
        life = life.with_pauses(clock(), pauses);
    }
    if request.provision_again {
        life.provision_again();
    }
    let end = clock().saturating_add(request.give_up_after);
    let mut last = None;
    loop {
        let failure = match life.next(clock()) {
            Next::Hub(_) => match visit_hub(request, key, connector, storage, buffer, &mut life).await {
                Err(Failure::Hub(error)) => {
                    println!("the hub: {}", error);
                    life.on_hub(clock(), error.outcome());
                    Failure::Hub(error)
                }
                end => return end,
            },
            Next::LookUp(first_key) | Next::Register(first_key) => {
                match ask_dps(request, key, first_key, connector, storage, buffer, &mut life).await {
                    Ok(()) => {
                        has_hub = true;
                        continue;
                    }
                    // `life` sends the device back to its hub after a wait.
                    Err(failure @ Failure::Provisioning(_)) if has_hub => failure,
                    Err(failure) => return Err(failure),
                }
            }
            Next::Wait(wait) if clock().saturating_add(wait) > end => return Err(last.unwrap_or(Failure::Pause(wait))),
            Next::Wait(wait) => {
                delay(wait).await;
                continue;
            }
        };
        last = Some(failure);
    }
}

/// Provisions the device and stores the record. This and [`visit_hub`] are two functions, so that their states share
/// memory.
async fn ask_dps<F: NorFlash>(
    request: &Request<'_>,
    key: &mut DeviceKey,
    first_key: KeyChoice,
    connector: &mut Connector<'_>,
    storage: &mut Storage<F>,
    buffer: &mut [u8],
    life: &mut Reprovisioning,
) -> Result<(), Failure<F::Error>> {
    let mut provisioning = Provisioning::new(request.registration, Attestation::symmetric_key())
        .with_first_key(first_key)
        .with_endpoint(request.endpoint)
        .with_retry_policy(RetryPolicy::new().with_timeout(request.give_up_after));
    let outcome = provision(request, &mut provisioning, key, connector, buffer).await;
    match &outcome {
        Ok(()) => {
            let is_new = life.on_assigned(clock(), &provisioning.result(buffer)?, provisioning.key());
            if is_new {
                // The record replaces the answer in the buffer.
                let record = provisioning.write_record(buffer)?;
                storage.store_item(connector.received, &RECORD, &record).await?;
            }
        }
        Err(_) => {
            if let Some(message) = provisioning.details(buffer).and_then(|details| details.message()) {
                println!("the service says: {}", message);
            }
            life.on_failed(clock(), &provisioning);
        }
    }
    let pauses = [u64::from_le_bytes(life.pauses(clock()).to_bytes()), unix_time()];
    storage.store_item(connector.received, &PAUSES, &pauses).await?;
    Ok(outcome?)
}

/// Connects to the hub of the record, and does the device's work there. The connection to DPS is closed, so the session
/// with the hub uses its buffers.
async fn visit_hub<F: NorFlash>(
    request: &Request<'_>,
    key: &mut DeviceKey,
    connector: &mut Connector<'_>,
    storage: &mut Storage<F>,
    buffer: &mut [u8],
    life: &mut Reprovisioning,
) -> Result<(), Failure<F::Error>> {
    let mut session = {
        let (host, port, connect_len) = prepare(request, key, connector, storage, buffer).await?;
        let address = request.hub_address.unwrap_or(&host);
        Session::open(connector, (&host, address, port), buffer, connect_len).await?
    };
    life.on_hub(clock(), HubOutcome::Accepted);
    let twin = session.twin().await?;
    println!("twin:{}", Settings(twin.desired));
    println!("reported: {}", twin.reported.object().raw());
    session.report(REPORT).await?;
    println!("reported now: {}", REPORT);
    if let Some(stay) = request.stay {
        match session.change(clock().saturating_add(stay)).await? {
            Change::Next(change) => println!("change:{}", Settings(change)),
            Change::Gap => println!("twin again:{}", Settings(session.twin().await?.desired)),
            Change::None => println!("no change"),
        }
    }
    session.close().await?;
    life.on_hub(clock(), HubOutcome::Closed);
    Ok(())
}

/// Writes the CONNECT packet for the hub of the record into `packet`. Returns the hub's host and port, and the length of
/// the packet.
async fn prepare<F: NorFlash>(
    request: &Request<'_>,
    key: &mut DeviceKey,
    Connector { received, to_send, .. }: &mut Connector<'_>,
    storage: &mut Storage<F>,
    packet: &mut [u8],
) -> Result<(String<MAX_HOST>, u16, usize), Failure<F::Error>> {
    let record = storage.fetch_item::<&[u8]>(received, &RECORD).await?.unwrap_or_default();
    let record = Record::read(record, &request.registration).map_err(azure_dps::Error::from)?;
    let assignment = record.assignment();
    println!("hub: {}", assignment.assigned_hub());
    println!("device ID: {}", assignment.device_id());
    println!("payload: {}", assignment.payload().map_or("none", |payload| payload.raw()));
    let hub = assignment.hub();
    let connect_len = hub::write_connect(&hub, key, unix_time() + TOKEN_LIFETIME.as_secs(), to_send, packet)?;
    let port = request.hub_port.or(hub.port()).unwrap_or(Hub::MQTT_PORT);
    Ok((String::try_from(hub.host()).unwrap_or_default(), port, connect_len))
}

/// Prints the desired properties without their version.
struct Settings<'b>(Properties<'b>);

impl fmt::Display for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in ["state", "darknessSetting", "temperatureSetting"] {
            if let Some(value) = self.0.get(name) {
                write!(f, " {name}={}", value.raw().trim_matches('"'))?;
            }
        }
        Ok(())
    }
}

/// Returns `true` if the flash has one of the values. If not, the flash is new or has other content, which would make each
/// write fail.
async fn is_ours<F: NorFlash>(storage: &mut Storage<F>, scratch: &mut [u8]) -> Result<bool, storage::Error<F::Error>> {
    Ok(storage.fetch_item::<&[u8]>(scratch, &RECORD).await?.is_some()
        || storage.fetch_item::<[u64; 2]>(scratch, &PAUSES).await?.is_some())
}

/// Runs a provisioning to its end. Continues a run that was dropped.
async fn provision(
    request: &Request<'_>,
    provisioning: &mut Provisioning<'_>,
    key: &mut DeviceKey,
    connector: &mut Connector<'_>,
    buffer: &mut [u8],
) -> Result<(), asynch::Error<tls::Error, SessionError>> {
    let (host, port) = (request.endpoint.host(), request.endpoint.port());
    let mut dps = Service { connector, host, address: request.address.unwrap_or(host), port };
    let mut drop_after = request.drop_after;
    provisioning.start(clock(), unix_time());
    loop {
        let observe = |progress| {
            if let Progress::Retrying { error, wait, .. } = progress {
                println!("trying again in {} s: {}", wait.as_secs(), error);
            }
        };
        let run = asynch::run(provisioning, key, buffer, &mut dps, clock, delay, observe);
        let Some(patience) = &mut drop_after else { return run.await };
        if let Ok(outcome) = with_timeout(embassy_time::Duration::from_micros(patience.as_micros() as u64), run).await {
            return outcome;
        }
        println!("dropped after {} ms", patience.as_millis() as u64);
        *patience *= 2;
    }
}

/// Returns what is left of the pauses since they were stored.
fn pauses_left([pauses, since]: [u64; 2]) -> Option<Pauses> {
    let off = unix_time().saturating_sub(since);
    Pauses::from_bytes(&pauses.to_le_bytes()).map(|pauses| pauses.after(Duration::from_secs(off)))
}

fn clock() -> Duration {
    Clock.now()
}

async fn delay(duration: Duration) {
    Timer::after_micros(duration.as_micros() as u64).await;
}

impl<E> From<asynch::Error<tls::Error, SessionError>> for Failure<E> {
    fn from(error: asynch::Error<tls::Error, SessionError>) -> Self {
        Self::Provisioning(error)
    }
}

impl<E> From<azure_dps::Error> for Failure<E> {
    fn from(error: azure_dps::Error) -> Self {
        Self::Provisioning(error.into())
    }
}

impl<E> From<hub::Error> for Failure<E> {
    fn from(error: hub::Error) -> Self {
        Self::Hub(error)
    }
}

impl<E> From<storage::Error<E>> for Failure<E> {
    fn from(error: storage::Error<E>) -> Self {
        Self::Flash(error)
    }
}
