//! `embedded_io_async::provision`.

#![no_std]
#![no_main]

use azure_dps::asynch::{self, ConnectError};
use azure_dps_no_panic::*;
use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};
use embedded_io_async_v0_7::{ErrorKind, ErrorType, Read, Write};

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let mut buffer = [0; 512];
            let room = buffer.get_mut(..number()).unwrap_or_default();
            let connect =
                async |_| if number() > 0 { Err(ConnectError::Untrusted(ErrorKind::Other)) } else { Ok(Stream) };
            let delay = async |wait| used(wait);
            let run = embedded_io_async::provision(provisioning, number() as u64, room, connect, time, delay);
            if let Poll::Ready(Err(error)) = pin!(run).poll(&mut Context::from_waker(Waker::noop())) {
                shown(error);
            }
        },
    );
}

struct Stream;

impl ErrorType for Stream {
    type Error = ErrorKind;
}

impl Read for Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        Ok(number())
    }
}

impl Write for Stream {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        Ok(number())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
