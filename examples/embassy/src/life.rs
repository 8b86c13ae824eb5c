//! One boot: reads the record from flash. Provisions if there is none, or if the operator wants it.

use core::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Provisioning, Registration, RetryPolicy,
    after::{Next, Pauses, Record, Reprovisioning, ReprovisioningPolicy},
    asynch,
    provisioning::{Endpoint, Progress},
};
use embassy_time::{Instant, Timer, with_timeout};
use embedded_storage_async::nor_flash::NorFlash;
use mbedtls_rs::SessionError;
use mps2_an385::{println, unix_time};
use sequential_storage::{
    self as storage,
    cache::{Cache, Uncached},
    map::MapStorage,
};

use crate::dps::{self, Service};

/// Two values in flash. The store spreads the wear over the sectors. After a loss of power it has the old value or the
/// new one.
pub type Storage<F> = MapStorage<u8, F, Cache<Uncached, Uncached, Uncached, u8>>;
const RECORD: u8 = 0;
/// How long the device must not ask DPS, and since when.
const PAUSES: u8 = 1;

/// The device, and how it asks.
pub struct Request<'a> {
    pub registration: Registration<'a>,
    pub endpoint: Endpoint<'a>,
    /// The longest run, and the longest pause before it.
    pub give_up_after: Duration,
    /// Asks DPS although there is a record: the operator's command.
    pub provision_again: bool,
    /// Drops the run after this time, as a product does when its link goes down. Then after twice this time, and so on.
    pub drop_after: Option<Duration>,
}

/// Why there is no hub.
pub enum Failure<E> {
    Provisioning(asynch::Error<dps::Error, SessionError>),
    /// The pause before the next run is longer than the device may wait.
    Pause(Duration),
    Flash(storage::Error<E>),
}

/// Returns the record that names this device's hub. It is read into `buffer`, of 1 KB or more.
pub async fn find_hub<'b, F: NorFlash>(
    request: &Request<'_>,
    key: &mut DeviceKey,
    service: &mut Service<'_>,
    storage: &mut Storage<F>,
    buffer: &'b mut [u8],
) -> Result<Record<'b>, Failure<F::Error>> {
    let registration = request.registration;
    // While no connection is open, the store may use its buffer.
    if !is_ours(storage, &mut service.received).await.unwrap_or(false) {
        storage.erase_all().await?;
    }
    let record = storage.fetch_item::<&[u8]>(&mut service.received, &RECORD).await?.unwrap_or_default();
    let record = Record::read(record, &registration);
    let mut life = Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new(), record);
    let pauses = storage.fetch_item(&mut service.received, &PAUSES).await?;
    if let Some(pauses) = pauses.and_then(pauses_left) {
        life = life.with_pauses(clock(), pauses);
    }
    if request.provision_again {
        life.provision_again();
    }
    loop {
        let first_key = match life.next(clock()) {
            Next::Hub(_) => break,
            Next::Wait(wait) if wait > request.give_up_after => return Err(Failure::Pause(wait)),
            Next::Wait(wait) => {
                delay(wait).await;
                continue;
            }
            Next::LookUp(key) | Next::Register(key) => key,
        };
        let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key())
            .with_first_key(first_key)
            .with_endpoint(request.endpoint)
            .with_retry_policy(RetryPolicy::new().with_timeout(request.give_up_after));
        let outcome = provision(&mut provisioning, key, buffer, service, request.drop_after).await;
        match &outcome {
            Ok(()) => {
                let is_news = life.on_assigned(clock(), &provisioning.result(buffer)?, provisioning.key());
                if is_news {
                    // In the place of the answer.
                    let record = provisioning.write_record(buffer)?;
                    storage.store_item(&mut service.received, &RECORD, &record).await?;
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
        storage.store_item(&mut service.received, &PAUSES, &pauses).await?;
        outcome?;
    }
    let record = storage.fetch_item(buffer, &RECORD).await?.unwrap_or_default();
    Ok(Record::read(record, &registration).map_err(azure_dps::Error::from)?)
}

/// Checks that the flash has one of the values. Else it is new, or has something else in it, which would fail each write.
async fn is_ours<F: NorFlash>(storage: &mut Storage<F>, scratch: &mut [u8]) -> Result<bool, storage::Error<F::Error>> {
    Ok(storage.fetch_item::<&[u8]>(scratch, &RECORD).await?.is_some()
        || storage.fetch_item::<[u64; 2]>(scratch, &PAUSES).await?.is_some())
}

/// Runs a provisioning to its end. If the run was dropped, goes on with it.
async fn provision(
    provisioning: &mut Provisioning<'_>,
    key: &mut DeviceKey,
    buffer: &mut [u8],
    service: &mut Service<'_>,
    mut drop_after: Option<Duration>,
) -> Result<(), asynch::Error<dps::Error, SessionError>> {
    provisioning.start(clock(), unix_time());
    loop {
        let observe = |progress| {
            if let Progress::Retrying { error, wait, .. } = progress {
                println!("trying again in {} s: {}", wait.as_secs(), error);
            }
        };
        let run = asynch::run(provisioning, key, buffer, service, clock, delay, observe);
        let Some(patience) = &mut drop_after else { return run.await };
        if let Ok(outcome) = with_timeout(embassy_time::Duration::from_micros(patience.as_micros() as u64), run).await {
            return outcome;
        }
        println!("dropped after {} ms", patience.as_millis());
        *patience *= 2;
    }
}

/// Returns the pauses without the time that has passed since they were stored.
fn pauses_left([pauses, since]: [u64; 2]) -> Option<Pauses> {
    let off = unix_time().saturating_sub(since);
    Pauses::from_bytes(&pauses.to_le_bytes()).map(|pauses| pauses.after(Duration::from_secs(off)))
}

fn clock() -> Duration {
    Duration::from_micros(Instant::now().as_micros())
}

async fn delay(duration: Duration) {
    Timer::after_micros(duration.as_micros() as u64).await;
}

impl<E> From<asynch::Error<dps::Error, SessionError>> for Failure<E> {
    fn from(error: asynch::Error<dps::Error, SessionError>) -> Self {
        Self::Provisioning(error)
    }
}

impl<E> From<azure_dps::Error> for Failure<E> {
    fn from(error: azure_dps::Error) -> Self {
        Self::Provisioning(error.into())
    }
}

impl<E> From<storage::Error<E>> for Failure<E> {
    fn from(error: storage::Error<E>) -> Self {
        Self::Flash(error)
    }
}
