//! `asynch::run`.

#![no_std]
#![no_main]

use azure_dps::{
    DeviceKey,
    asynch::{self, Connect, ConnectError},
};
use azure_dps_no_panic::*;
use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use embedded_io_async_v0_7::{ErrorKind, ErrorType, Read, Write};

links!(proof);

fn proof() {
    let key = &mut DeviceKey::new();
    used(key.read_base64(text()).is_ok());
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let mut buffer = [0; 512];
            let room = buffer.get_mut(..number()).unwrap_or_default();
            let (delay, observe) = (async |wait| used(wait), |progress| used(progress));
            let connect = &mut Connector(number());
            let run = asynch::run(provisioning, key, room, connect, time, delay, observe);
            if let Poll::Ready(Err(error)) = pin!(run).poll(&mut Context::from_waker(Waker::noop())) {
                shown(error);
            }
        },
    );
}

struct Connector(usize);

impl Connect for Connector {
    type Error = ErrorKind;
    type StreamError = ErrorKind;
    type Stream<'s> = Stream<'s>;

    // Not an `async fn`: the proof is about the ones of the library.
    fn connect(&mut self, deadline: Duration) -> impl Future<Output = Result<Stream<'_>, ConnectError<ErrorKind>>> {
        used(deadline);
        let refuses = self.0 > 0;
        let mut place = Some(&mut self.0);
        poll_fn(move |_| match place.take() {
            Some(_) if refuses => Poll::Ready(Err(ConnectError::Untrusted(ErrorKind::Other))),
            Some(place) => Poll::Ready(Ok(Stream(place))),
            None => Poll::Pending,
        })
    }
}

struct Stream<'s>(&'s mut usize);

impl ErrorType for Stream<'_> {
    type Error = ErrorKind;
}

impl Read for Stream<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        *self.0 = number();
        Ok(*self.0)
    }
}

impl Write for Stream<'_> {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        *self.0 = number();
        Ok(*self.0)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
