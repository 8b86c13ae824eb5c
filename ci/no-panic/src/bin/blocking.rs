//! `blocking::run`.

#![no_std]
#![no_main]

use azure_dps::{
    DeviceKey,
    blocking::{self, Connect, ConnectError},
};
use azure_dps_no_panic::*;
use core::time::Duration;
use embedded_io_v0_7::{ErrorKind, ErrorType, Read, Write};

links!(proof);

fn proof() {
    let key = &mut DeviceKey::new();
    used(key.read_base64(text()).is_ok());
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let mut buffer = [0; 512];
            let room = buffer.get_mut(..number()).unwrap_or_default();
            let (delay, observe) = (|wait| used(wait), |progress| used(progress));
            let run = blocking::run(provisioning, key, room, &mut Connector(number()), time, delay, observe);
            if let Err(error) = run {
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

    fn connect(&mut self, deadline: Duration) -> Result<Stream<'_>, ConnectError<ErrorKind>> {
        used(deadline);
        if self.0 > 0 { Err(ConnectError::Untrusted(ErrorKind::Other)) } else { Ok(Stream(&mut self.0)) }
    }
}

struct Stream<'s>(&'s mut usize);

impl ErrorType for Stream<'_> {
    type Error = ErrorKind;
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        *self.0 = number();
        Ok(*self.0)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        *self.0 = number();
        Ok(*self.0)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
