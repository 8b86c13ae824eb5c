//! What to copy into firmware: MQTT 3.1.1 packets over a secured stream, at QoS 0, without std and without an
//! allocator. `session.rs` uses it for DPS. The firmware in `../embassy` uses it for the hub.

use core::{mem::take, time::Duration};

use azure_dps::{
    Error,
    error::{BufferTooSmall, Malformed, TransportError},
};
use embedded_io_async::{Read, Write};
use mqttrs::{Packet, decode_slice, encode_slice};

use super::Clock;

pub const STALLED: Error = Error::Transport(TransportError::Stalled);
const STREAM: Error = Error::Transport(TransportError::Stream);
/// Bytes that are no packet, or a packet that does not come to such a session.
pub const UNEXPECTED: Error = Error::Malformed(Malformed::Invalid("MQTT packet"));

/// Packets over a stream.
pub struct Link<'b, S> {
    stream: S,
    clock: Clock,
    received: &'b mut [u8],
    /// How much of a packet is there.
    filled: usize,
    /// How long the last whole one was.
    length: usize,
}

impl<'b, S: Read + Write> Link<'b, S> {
    /// Creates a link that receives packets of at most the length of `received`.
    pub fn new(stream: S, clock: Clock, received: &'b mut [u8]) -> Self {
        Self { stream, clock, received, filled: 0, length: 0 }
    }

    /// Encodes a packet in `buffer` and sends it. A CONNECT leaves its password there.
    ///
    /// This is no `async fn`: its future would hold the packet, of more than 1 KB.
    pub fn send<'a>(
        &'a mut self,
        packet: Packet<'_>,
        buffer: &'a mut [u8],
        deadline: Duration,
    ) -> impl Future<Output = Result<(), Error>> + use<'a, 'b, S> {
        let length = encode_slice(&packet, buffer).map_err(|_| STREAM);
        async move { write(&mut self.stream, self.clock, &buffer[..length?], deadline).await }
    }

    /// Returns the next packet. What has come of a packet by the deadline stays for the next call.
    pub async fn receive(&mut self, deadline: Duration) -> Result<Packet<'_>, Error> {
        // A timer may let work that never waits go on for ever.
        if self.clock.now() >= deadline {
            return Err(STALLED);
        }
        let read = async {
            while decode_slice(&self.received[..self.filled]).map_err(|_| UNEXPECTED)?.is_none() {
                let too_small = BufferTooSmall::at_least(self.filled + 1);
                let byte = self.received.get_mut(self.filled..=self.filled).ok_or(too_small)?;
                match self.stream.read(byte).await.map_err(broken)? {
                    0 => return Err(Error::Transport(TransportError::Closed)),
                    _ => self.filled += 1,
                }
                // mqttrs relies on a packet's fixed part. CONNACK, SUBACK for one or two filters, PUBLISH and
                // PINGRESP are all that can come to a session of QoS 0.
                let head = &self.received[..self.filled];
                if head.len() == 2 && !matches!(head, [0x20, 2] | [0x90, 3 | 4] | [0x30, _] | [0xd0, 0]) {
                    return Err(UNEXPECTED);
                }
                if let Some(needed) = packet_length(head).filter(|&needed| needed > self.received.len()) {
                    return Err(BufferTooSmall::at_least(needed).into());
                }
            }
            Ok(())
        };
        self.clock.until(deadline, read).await?;
        self.length = take(&mut self.filled);
        decode_slice(&self.received[..self.length]).ok().flatten().ok_or(UNEXPECTED)
    }

    /// Returns the buffer, and the length of the last packet, which is at its start.
    pub fn received(&mut self) -> (&mut [u8], usize) {
        (self.received, self.length)
    }
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

/// How long the packet is that begins like this, once that is known.
///
/// Source: MQTT 3.1.1, 2.2.3, Remaining Length.
fn packet_length(head: &[u8]) -> Option<usize> {
    let digits = head.get(1..5.min(head.len()))?;
    let last = digits.iter().position(|digit| digit & 0x80 == 0)?;
    let rest = digits[..=last].iter().rev().fold(0, |rest, digit| rest << 7 | usize::from(digit & 0x7f));
    Some(1 + digits[..=last].len() + rest)
}
