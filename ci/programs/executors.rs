//! A run on tokio's multi-thread runtime, and one that is not `Send` on a single thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use azure_dps::{
    DeviceKey, Error, Provisioning, asynch,
    asynch::Connect,
    identity::{SignAsync, SignError},
};
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;

/// A connector that owns its data.
pub struct Tcp {
    pub address: String,
}

impl Connect for Tcp {
    type Error = std::io::Error;
    type StreamError = std::io::Error;
    type Stream<'s> = FromTokio<TcpStream>;

    async fn connect(
        &mut self,
        _deadline: Duration,
    ) -> Result<FromTokio<TcpStream>, asynch::ConnectError<std::io::Error>> {
        Ok(FromTokio::new(TcpStream::connect(&self.address).await?))
    }
}

/// Runs on any thread of tokio.
pub fn spawn(
    mut provisioning: Provisioning<'static>,
    mut key: DeviceKey,
    mut tcp: Tcp,
) -> tokio::task::JoinHandle<Result<String, Error>> {
    tokio::spawn(async move {
        let started = Instant::now();
        let clock = move || started.elapsed();
        let mut buffer = [0; 1024];
        provisioning.start(clock(), 1_700_000_000);
        asynch::run(&mut provisioning, &mut key, &mut buffer, &mut tcp, clock, tokio::time::sleep, |_| ())
            .await
            .map_err(|error| error.kind())?;
        Ok(provisioning.result(&buffer)?.assigned_hub().to_string())
    })
}

/// A secure element on a shared bus.
pub struct Element {
    pub bus: Rc<RefCell<Vec<u8>>>,
}

impl SignAsync for Element {
    async fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        tokio::task::yield_now().await;
        self.bus.try_borrow_mut().map_err(|_| SignError::new("the bus is busy"))?.extend(message);
        signature.fill(7);
        Ok(())
    }
}

/// Runs on the calling thread. The element's bus and the report counter are not `Send`.
pub async fn on_this_thread(
    provisioning: &mut Provisioning<'_>,
    element: &mut Element,
    mut tcp: Tcp,
) -> Result<u32, Error> {
    let reports = Cell::new(0);
    let started = Instant::now();
    let clock = || started.elapsed();
    let mut buffer = [0; 1024];
    provisioning.start(clock(), 1_700_000_000);
    asynch::run(provisioning, element, &mut buffer, &mut tcp, clock, tokio::time::sleep, |_| {
        reports.set(reports.get() + 1);
    })
    .await
    .map_err(|error| error.kind())?;
    Ok(reports.get())
}
