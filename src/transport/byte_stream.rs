//! The common part of the blocking and the async transport: errors and the driver.

use core::{fmt, time::Duration};

#[cfg(feature = "embedded-io-v0_7")]
use embedded_io as io;
#[cfg(not(feature = "embedded-io-v0_7"))]
use embedded_io_async as io;
use io::ErrorKind;

use crate::{
    error::{BufferTooSmall, Fault, TransportError},
    http::Exchange,
    identity::{InvalidIdentifier, InvalidKey},
    provisioning::{Progress, Provisioning},
};

/// The error of a connector. The kind decides whether the run tries again.
///
/// `?` turns an error of the connector into [`Network`](Self::Network).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum ConnectError<C> {
    /// The network failed. The run tries again.
    Network(C),
    /// The server's certificate is not trusted. The run ends. A wrong clock can cause this error too.
    Untrusted(C),
    /// A proxy rejects this device, for example because a password is missing. The run ends.
    ProxyRefused(C),
}

impl<C> From<C> for ConnectError<C> {
    fn from(error: C) -> Self {
        ConnectError::Network(error)
    }
}

/// The error that ended a run over byte streams.
///
/// `C` is the error of the connector, `S` the error of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Error<C, S> {
    /// An error that does not come from the connector or the stream.
    Provisioning(crate::error::Error),
    /// The connection failed. This is the error of the last attempt.
    Connect(C),
    /// The server's certificate is not trusted.
    Untrusted(C),
    /// A proxy rejects this device.
    ProxyRefused(C),
    /// The stream failed to read or write. This is the error of the last attempt.
    Stream(S),
}

impl<C, S: io::Error> Error<C, S> {
    /// Returns the error without the cause from the connector or the stream. The [`ErrorKind`] of a stream's error
    /// becomes a [`TransportError`].
    pub fn kind(&self) -> crate::error::Error {
        match self {
            Error::Provisioning(error) => *error,
            Error::Connect(_) => crate::error::Error::Transport(TransportError::Connect),
            Error::Untrusted(_) => crate::error::Error::Untrusted,
            Error::ProxyRefused(_) => crate::error::Error::ProxyRefused,
            Error::Stream(error) => crate::error::Error::Transport(error.kind().into()),
        }
    }

    /// Returns who must act.
    pub fn fault(&self) -> Fault {
        self.kind().fault()
    }

    /// Returns `true` if a signal interrupted the call. Then the call is repeated until the deadline of the request.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Error::Stream(error) if error.kind() == ErrorKind::Interrupted)
    }
}

/// Converts the error of a stream:
///
/// | `ErrorKind` | fault |
/// |---|---|
/// | `TimedOut` | [`Stalled`](TransportError::Stalled) |
/// | `ConnectionReset`, `ConnectionAborted`, `BrokenPipe`, `NotConnected`, `WriteZero` | [`Closed`](TransportError::Closed) |
/// | `ConnectionRefused`, `AddrInUse`, `AddrNotAvailable` | [`Connect`](TransportError::Connect) |
/// | any other | [`Stream`](TransportError::Stream) |
///
/// A transport does not report `Interrupted` to the run. It calls the stream again.
impl From<ErrorKind> for TransportError {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::TimedOut => TransportError::Stalled,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::WriteZero => TransportError::Closed,
            ErrorKind::ConnectionRefused | ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => {
                TransportError::Connect
            }
            _ => TransportError::Stream,
        }
    }
}

/// The state of a transport during a run.
pub(super) struct Driver<'r, 'a, K: ?Sized, T, D, O, E> {
    pub(super) provisioning: &'r mut Provisioning<'a>,
    pub(super) signer: &'r mut K,
    pub(super) buffer: &'r mut [u8],
    pub(super) clock: T,
    pub(super) delay: D,
    pub(super) observe: O,
    pub(super) exchange: Exchange,
    /// The last error of the connector or the stream.
    pub(super) cause: Option<E>,
}

impl<'r, 'a, K: ?Sized, T, D, O, C, E> Driver<'r, 'a, K, T, D, O, Error<C, E>>
where
    T: FnMut() -> Duration,
    O: FnMut(Progress),
    E: io::Error,
{
    pub(super) const fn new(
        provisioning: &'r mut Provisioning<'a>,
        signer: &'r mut K,
        buffer: &'r mut [u8],
        clock: T,
        delay: D,
        observe: O,
    ) -> Self {
        Self { provisioning, signer, buffer, clock, delay, observe, exchange: Exchange::new(), cause: None }
    }

    pub(super) fn on_connected(&mut self) {
        self.exchange.on_connected(self.provisioning);
        report(self.provisioning, &mut self.observe);
    }

    pub(super) fn on_error(&mut self, error: Error<C, E>) {
        self.exchange.on_error(self.provisioning, (self.clock)(), error.kind());
        self.cause = Some(error);
    }

    /// Returns the outcome of the run. If the connector or the stream ended the run, the error has their cause.
    pub(super) fn outcome(self) -> Result<(), Error<C, E>> {
        self.provisioning.outcome().map_err(|error| match self.cause {
            Some(cause) if cause.kind() == error => cause,
            _ => Error::Provisioning(error),
        })
    }
}

pub(super) fn report(provisioning: &mut Provisioning<'_>, observe: &mut impl FnMut(Progress)) {
    if let Some(progress) = provisioning.progress() {
        observe(progress);
    }
}

impl<C, S> From<ConnectError<C>> for Error<C, S> {
    fn from(error: ConnectError<C>) -> Self {
        match error {
            ConnectError::Network(error) => Error::Connect(error),
            ConnectError::Untrusted(error) => Error::Untrusted(error),
            ConnectError::ProxyRefused(error) => Error::ProxyRefused(error),
        }
    }
}

impl<C, S> From<crate::error::Error> for Error<C, S> {
    fn from(error: crate::error::Error) -> Self {
        Error::Provisioning(error)
    }
}

impl<C, S> From<InvalidIdentifier> for Error<C, S> {
    fn from(error: InvalidIdentifier) -> Self {
        Error::Provisioning(error.into())
    }
}

impl<C, S> From<InvalidKey> for Error<C, S> {
    fn from(error: InvalidKey) -> Self {
        Error::Provisioning(error.into())
    }
}

impl<C, S> From<BufferTooSmall> for Error<C, S> {
    fn from(error: BufferTooSmall) -> Self {
        Error::Provisioning(error.into())
    }
}

impl<C: fmt::Display, S: io::Error> fmt::Display for Error<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)?;
        match self {
            Error::Provisioning(_) => Ok(()),
            Error::Connect(error) | Error::Untrusted(error) | Error::ProxyRefused(error) => write!(f, ": {error}"),
            Error::Stream(error) => write!(f, ": {error}"),
        }
    }
}

impl<C, S> core::error::Error for Error<C, S>
where
    C: core::error::Error + 'static,
    S: io::Error + 'static,
{
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Provisioning(_) => None,
            Error::Connect(error) | Error::Untrusted(error) | Error::ProxyRefused(error) => Some(error),
            Error::Stream(error) => Some(error),
        }
    }
}
