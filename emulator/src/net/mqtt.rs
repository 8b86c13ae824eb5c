//! Packets of MQTT 3.1.1 on a stream. The codec is `mqtt-proto`.

use std::io;

use mqtt_proto::{
    Error, Pid, decode_raw_header_async,
    v3::{Packet, Suback, SubscribeReturnCode},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Duration, Instant, timeout, timeout_at},
};

use super::{
    fault::{Fault, Faulty},
    protocol::{Broken, Stream},
};

/// The limit for a packet: a message to a hub of "256 KB" with a long topic. Registrations are much shorter.
pub(crate) const MAX_PACKET: usize = 320 * 1024;

/// The size of a read, and the memory that a session keeps between packets.
const READ: usize = 4096;

/// Packets on a stream.
pub(crate) struct Link<S> {
    stream: Faulty<S>,
    pub(crate) fault: Fault,
    received: Vec<u8>,
    /// How long the CONNECT and each write may take.
    pub(crate) patience: Duration,
}

pub(crate) enum LinkError {
    /// The connection ended.
    Io(io::Error),
    /// The client uses another version of MQTT.
    OtherProtocol,
    /// The client violated the protocol.
    Protocol(String),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for LinkError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidProtocol(..) | Error::UnexpectedProtocol(_) => Self::OtherProtocol,
            error => Self::Protocol(error.to_string()),
        }
    }
}

impl From<LinkError> for Broken {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Io(error) => error.into(),
            LinkError::OtherProtocol => "the client uses another protocol".into(),
            LinkError::Protocol(why) => why.into(),
        }
    }
}

impl<S: Stream> Link<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        let fault = Fault::default();
        Self { stream: Faulty::new(stream, fault.clone()), fault, received: Vec::new(), patience }
    }

    /// Receives the next packet. Cancelling this call loses no bytes.
    async fn receive(&mut self) -> Result<Packet, LinkError> {
        loop {
            if let Some(length) = next_length(&self.received).await? {
                // The codec gets only this packet, so that it cannot read into the next one.
                let packet = Packet::decode(&self.received[..length])?
                    .ok_or_else(|| LinkError::Protocol("a packet that is shorter than its content".to_owned()))?;
                self.received.drain(..length);
                self.received.shrink_to(READ);
                return Ok(packet);
            }
            // Without this line, `read_buf` would reserve only 64 bytes.
            self.received.reserve(READ);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    pub(crate) async fn receive_until(&mut self, deadline: Option<Instant>) -> Result<Packet, LinkError> {
        match deadline {
            Some(deadline) => timeout_at(deadline, self.receive()).await.unwrap_or_else(|_| {
                Err(LinkError::Protocol("no packet within the allowed time, not even a ping".to_owned()))
            }),
            None => self.receive().await,
        }
    }

    pub(crate) async fn send(&mut self, packet: impl Into<Packet>) -> Result<(), LinkError> {
        self.write(packet.into().encode()?.as_ref()).await
    }

    /// Sends SUBACK. `mqtt-proto` 0.4 writes a rejected subscription as 3, but MQTT requires 0x80.
    pub(crate) async fn send_suback(&mut self, pid: Pid, codes: Vec<SubscribeReturnCode>) -> Result<(), LinkError> {
        let mut packet = Packet::from(Suback::new(pid, codes.clone())).encode()?.as_ref().to_vec();
        for (byte, code) in packet.iter_mut().rev().zip(codes.iter().rev()) {
            if *code == SubscribeReturnCode::Failure {
                *byte = 0x80;
            }
        }
        self.write(&packet).await
    }

    /// Closes the connection, over TLS with `close_notify`. Errors are ignored.
    pub(crate) async fn close(&mut self) {
        let _ = timeout(self.patience, self.stream.shutdown()).await;
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), LinkError> {
        let write = async {
            self.stream.write_all(packet).await?;
            self.stream.flush().await
        };
        match timeout(self.patience, write).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(LinkError::Protocol("the client does not read".to_owned())),
        }
    }
}

/// Returns the length of the next packet, if the packet is complete.
async fn next_length(received: &[u8]) -> Result<Option<usize>, LinkError> {
    let (remaining, prefix) = match decode_raw_header_async(&mut &*received).await {
        Err(error) if error.is_eof() => return Ok(None),
        header => header.map(|(_, remaining, length_bytes)| (remaining, 1 + length_bytes))?,
    };
    match usize::try_from(remaining) {
        Ok(remaining) if prefix + remaining <= MAX_PACKET => {
            Ok(Some(prefix + remaining).filter(|&length| length <= received.len()))
        }
        _ => Err(LinkError::Protocol(format!("a packet of more than {MAX_PACKET} bytes"))),
    }
}
