//! embassy-net: the socket is created inside `connect`, and borrows the connector's buffers. embassy-net has no TLS, so
//! this program works only with the emulator.

use core::{cell::Cell, time::Duration};

use azure_dps::{
    DeviceKey, Provisioning,
    asynch::{self, Connect, ConnectError},
};
use embassy_net::{
    IpAddress, Stack,
    tcp::{self, TcpSocket},
};
use embassy_time::{Instant, Timer};

pub struct Tcp<'d> {
    pub stack: Stack<'d>,
    pub address: IpAddress,
    pub rx: [u8; 1024],
    pub tx: [u8; 1024],
}

impl Connect for Tcp<'_> {
    type Error = tcp::ConnectError;
    type StreamError = tcp::Error;
    type Stream<'s>
        = TcpSocket<'s>
    where
        Self: 's;

    async fn connect(&mut self, _deadline: Duration) -> Result<TcpSocket<'_>, ConnectError<tcp::ConnectError>> {
        let mut socket = TcpSocket::new(self.stack, &mut self.rx, &mut self.tx);
        socket.connect((self.address, 443)).await?;
        Ok(socket)
    }
}

/// Returns the number of progress reports. Logs the hub.
pub async fn provision(
    provisioning: &mut Provisioning<'_>,
    key: &mut DeviceKey,
    tcp: &mut Tcp<'_>,
    unix_time: u64,
) -> u32 {
    let reports = Cell::new(0);
    let clock = || Duration::from_micros(Instant::now().as_micros());
    let delay = async |wait: Duration| Timer::after_micros(wait.as_micros() as u64).await;
    let observe = |progress| {
        reports.set(reports.get() + 1);
        defmt::info!("{}", progress);
    };
    let mut buffer = [0; 1024];
    provisioning.start(clock(), unix_time);
    match asynch::run(provisioning, key, &mut buffer, tcp, clock, delay, observe).await {
        Ok(()) => match provisioning.result(&buffer) {
            Ok(assignment) => defmt::info!("{=str} {=str}", assignment.assigned_hub(), assignment.device_id()),
            Err(error) => defmt::warn!("{}", error),
        },
        Err(error) => defmt::warn!("{}: {}", error, provisioning.details(&buffer)),
    }
    reports.get()
}
