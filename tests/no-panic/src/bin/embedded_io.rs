//! `embedded_io::provision`.

#![no_std]
#![no_main]

use azure_dps::blocking::{self, ConnectError};
use azure_dps_no_panic::*;
use embedded_io_v0_7::{ErrorKind, ErrorType, Read, Write};

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let mut buffer = [0; 512];
            let room = buffer.get_mut(..number()).unwrap_or_default();
            let connect = |_| if number() > 0 { Err(ConnectError::Untrusted(ErrorKind::Other)) } else { Ok(Stream) };
            let delay = |wait| used(wait);
            if let Err(error) = embedded_io::provision(provisioning, number() as u64, room, connect, time, delay) {
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
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        Ok(number())
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, ErrorKind> {
        used(buffer);
        Ok(number())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
