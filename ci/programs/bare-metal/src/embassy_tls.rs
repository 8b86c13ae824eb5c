//! embassy-net with TLS: the session borrows the socket's buffers and its own buffers. `connect` includes the
//! handshake. `Session` stands for the session of a TLS library. `examples/embassy` has a real one.

use core::time::Duration;

use azure_dps::asynch::{Connect, ConnectError};
use embassy_net::{IpAddress, Stack, tcp::TcpSocket};
use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};

pub struct Tls<'d> {
    pub stack: Stack<'d>,
    pub address: IpAddress,
    pub rx: [u8; 1024],
    pub tx: [u8; 1024],
    pub record: [u8; 4096],
}

#[derive(Debug, defmt::Format)]
pub enum TlsError {
    Network,
    Certificate,
}

impl core::fmt::Display for TlsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TLS failed")
    }
}

impl core::error::Error for TlsError {}

impl Error for TlsError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

pub struct Session<'s, S> {
    socket: S,
    _record: &'s mut [u8],
}

impl<'s, S: Read + Write> Session<'s, S> {
    async fn handshake(socket: S, record: &'s mut [u8]) -> Result<Self, TlsError> {
        Ok(Self { socket, _record: record })
    }
}

impl<S> ErrorType for Session<'_, S> {
    type Error = TlsError;
}

impl<S: Read> Read for Session<'_, S> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TlsError> {
        self.socket.read(buffer).await.map_err(|_| TlsError::Network)
    }
}

impl<S: Write> Write for Session<'_, S> {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, TlsError> {
        self.socket.write(buffer).await.map_err(|_| TlsError::Network)
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        self.socket.flush().await.map_err(|_| TlsError::Network)
    }
}

impl Connect for Tls<'_> {
    type Error = TlsError;
    type StreamError = TlsError;
    type Stream<'s>
        = Session<'s, TcpSocket<'s>>
    where
        Self: 's;

    async fn connect(&mut self, _deadline: Duration) -> Result<Self::Stream<'_>, ConnectError<TlsError>> {
        let mut socket = TcpSocket::new(self.stack, &mut self.rx, &mut self.tx);
        socket.connect((self.address, 443)).await.map_err(|_| TlsError::Network)?;
        Session::handshake(socket, &mut self.record).await.map_err(|error| match error {
            TlsError::Certificate => ConnectError::Untrusted(error),
            error => ConnectError::Network(error),
        })
    }
}
