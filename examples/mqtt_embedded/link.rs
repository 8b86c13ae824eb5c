//! MQTT 3.1.1 packets over a secured stream, received at QoS 0, without std and without an allocator. Copy this file into
//! firmware. `session.rs` uses it for DPS, and the firmware in `../embassy` for the hub.

use core::{mem::take, time::Duration};

use azure_dps::{
    Error,
    error::{BufferTooSmall, Malformed, TransportError},
};
use embedded_io_async::{Read, Write};
use mqttrs::{Packet, encode_slice};

use super::Clock;

pub const STALLED: Error = Error::Transport(TransportError::Stalled);
/// The bytes are not a packet, or not a packet that this session may receive.
pub const UNEXPECTED: Error = Error::Malformed(Malformed::Invalid("MQTT packet"));

/// The packet type, and a length of at most four bytes.
const MAX_FIXED_HEADER: usize = 5;

/// Packets over a stream.
pub struct Link<'b, S> {
    stream: S,
    clock: Clock,
    /// Starts with the last received packet.
    pub received: &'b mut [u8],
    /// The length of the last received packet.
    pub length: usize,
    /// The number of bytes of the next packet that have arrived.
    filled: usize,
}

impl<'b, S: Read + Write> Link<'b, S> {
    /// Creates a link that receives packets of at most the length of `received`.
    pub fn new(stream: S, clock: Clock, received: &'b mut [u8]) -> Self {
        Self { stream, clock, received, length: 0, filled: 0 }
    }

    /// Sends an encoded packet.
    pub async fn write(&mut self, packet: &[u8], deadline: Duration) -> Result<(), Error> {
        write(&mut self.stream, self.clock, packet, deadline).await
    }

    /// Receives the next packet. If only a part arrives by the deadline, the next call continues with this part.
    pub async fn receive(&mut self, deadline: Duration) -> Result<(), Error> {
        // A future that never waits could pass the deadline.
        if self.clock.now() >= deadline {
            return Err(STALLED);
        }
        let read = async {
            loop {
                let head = &self.received[..self.filled];
                // mqttrs does not check the length of a packet's fixed part. A session that subscribes with QoS 0 can only
                // receive CONNACK, PUBACK, SUBACK for one or two filters, PUBLISH and PINGRESP.
                if head.len() == 2 && !matches!(head, [0x20 | 0x40, 2] | [0x90, 3 | 4] | [0x30, _] | [0xd0, 0]) {
                    return Err(UNEXPECTED);
                }
                match packet_length(head) {
                    Some(length) if length == head.len() => return Ok(()),
                    Some(length) if length > self.received.len() => {
                        return Err(BufferTooSmall::at_least(length).into());
                    }
                    None if head.len() == MAX_FIXED_HEADER => return Err(UNEXPECTED),
                    _ => {}
                }
                let too_small = BufferTooSmall::at_least(self.filled + 1);
                let byte = self.received.get_mut(self.filled..=self.filled).ok_or(too_small)?;
                match self.stream.read(byte).await.map_err(broken)? {
                    0 => return Err(Error::Transport(TransportError::Closed)),
                    _ => self.filled += 1,
                }
            }
        };
        self.clock.until(deadline, read).await?;
        self.length = take(&mut self.filled);
        Ok(())
    }

    /// Returns the last received packet, which is complete, for `decode_slice`.
    pub fn packet(&self) -> &[u8] {
        &self.received[..self.length]
    }
}

/// Encodes a packet and returns its length. A `Packet` takes more than 1 KB. If memory is short, create it in a function
/// that is neither inlined nor `async`.
pub fn encode(packet: Packet<'_>, buffer: &mut [u8]) -> Result<usize, Error> {
    let too_small = BufferTooSmall::at_least(buffer.len() + 1);
    encode_slice(&packet, buffer).map_err(|_| too_small.into())
}

/// Sends an encoded packet.
pub async fn write(stream: &mut impl Write, clock: Clock, packet: &[u8], deadline: Duration) -> Result<(), Error> {
    let write = async {
        stream.write_all(packet).await.map_err(broken)?;
        stream.flush().await.map_err(broken)
    };
    clock.until(deadline, write).await
}

fn broken(error: impl embedded_io_async::Error) -> Error {
    Error::Transport(error.kind().into())
}

/// Returns the length of the packet that begins with `head`, if `head` is long enough to tell.
///
/// Source: MQTT 3.1.1, 2.2.3, Remaining Length.
fn packet_length(head: &[u8]) -> Option<usize> {
    let digits = head.get(1..MAX_FIXED_HEADER.min(head.len()))?;
    let last = digits.iter().position(|digit| digit & 0x80 == 0)?;
    let rest = digits[..=last].iter().rev().fold(0, |rest, digit| rest << 7 | usize::from(digit & 0x7f));
    Some(1 + digits[..=last].len() + rest)
}
