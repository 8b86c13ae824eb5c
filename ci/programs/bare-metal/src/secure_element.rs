//! A secure element on a bus that it shares with other chips: blocking with a `RefCell` of embedded-hal-bus, async with
//! embassy's mutex. Neither is `Send`.

use core::{cell::RefCell, time::Duration};

use azure_dps::{
    Provisioning,
    asynch::{self, Connect},
    blocking,
    identity::{Sign, SignAsync, SignError},
};
use embassy_embedded_hal::shared_bus::asynch::i2c::I2cDevice;
use embassy_sync::{blocking_mutex::raw::NoopRawMutex, mutex::Mutex};
use embassy_time::{Instant, Timer};
use embedded_hal_bus::i2c::RefCellDevice;

const ADDRESS: u8 = 0x60;
const BUSY: SignError = SignError::new("the secure element did not answer");

/// On a bus of embedded-hal-bus, or on any other blocking bus.
pub struct Element<I>(pub I);

impl<I: embedded_hal::i2c::I2c> Sign for Element<I> {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        self.0.write_read(ADDRESS, message, signature).map_err(|_| BUSY)
    }
}

/// On embassy's async bus.
pub struct AsyncElement<I>(pub I);

impl<I: embedded_hal_async::i2c::I2c> SignAsync for AsyncElement<I> {
    async fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        self.0.write_read(ADDRESS, message, signature).await.map_err(|_| BUSY)
    }
}

/// A blocking run with the element and a `RefCell`.
pub fn blocking_run<B: embedded_hal::i2c::I2c, C: blocking::Connect>(
    provisioning: &mut Provisioning<'_>,
    bus: &RefCell<B>,
    connect: &mut C,
    buffer: &mut [u8],
    clock: impl FnMut() -> Duration,
    delay: impl FnMut(Duration),
) -> bool {
    let mut element = Element(RefCellDevice::new(bus));
    blocking::run(provisioning, &mut element, buffer, connect, clock, delay, |_| ()).is_ok()
}

/// An async run with a blocking element: every `Sign` is a `SignAsync`.
pub async fn async_run_that_blocks_to_sign<B: embedded_hal::i2c::I2c, C: Connect>(
    provisioning: &mut Provisioning<'_>,
    bus: &RefCell<B>,
    connect: &mut C,
    buffer: &mut [u8],
) -> bool {
    let mut element = Element(RefCellDevice::new(bus));
    asynch::run(provisioning, &mut element, buffer, connect, now, sleep, |_| ()).await.is_ok()
}

/// An async run with the element and embassy's bus.
pub async fn async_run<B: embedded_hal_async::i2c::I2c, C: Connect>(
    provisioning: &mut Provisioning<'_>,
    bus: &Mutex<NoopRawMutex, B>,
    connect: &mut C,
    buffer: &mut [u8],
) -> bool {
    let mut element = AsyncElement(I2cDevice::new(bus));
    asynch::run(provisioning, &mut element, buffer, connect, now, sleep, |_| ()).await.is_ok()
}

fn now() -> Duration {
    Duration::from_micros(Instant::now().as_micros())
}

async fn sleep(wait: Duration) {
    Timer::after_micros(wait.as_micros() as u64).await;
}
