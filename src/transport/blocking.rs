//! A transport over any byte stream with the blocking [`embedded_io`] 0.7 traits.
//!
//! Examples of such streams are a TLS session on bare metal, a modem, or a `TcpStream` in an adapter. This crate
//! contains no TLS for this transport. [`Connect::connect`] must return a TLS 1.2 stream, because DPS supports
//! TLS 1.2 only. It must also check that the server's certificate is for the endpoint's host name.
//!
//! ```
//! use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, blocking};
//! use azure_dps::{blocking::Connect, provisioning::Sizes};
//! use core::time::Duration;
//!
//! const SIZES: Sizes = Sizes::new("0ne00002193", "dev-1");
//!
//! /// `connect` opens the TLS stream. `clock` is the time since boot.
//! fn provision<C: Connect>(
//!     key: &mut DeviceKey,
//!     connect: &mut C,
//!     unix_time: u64,
//!     clock: impl Fn() -> Duration,
//!     delay: impl FnMut(Duration),
//! ) -> Result<(), blocking::Error<C::Error, C::StreamError>> {
//!     let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
//!     let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
//!     let mut buffer = [0; SIZES.http()];
//!     provisioning.start(clock(), unix_time);
//!     blocking::run(&mut provisioning, key, &mut buffer, connect, clock, delay, |_| ())?;
//!     let assignment = provisioning.result(&buffer)?;
//!     let _hub = assignment.hub(); // connect to this hub
//!     Ok(())
//! }
//! ```
//!
//! [`embedded_io`]: https://docs.rs/embedded-io/0.7

use core::time::Duration;

use embedded_io::{ErrorType, Read, Write};

pub use super::byte_stream::{ConnectError, Error};
use super::byte_stream::{Driver, report};
use crate::{
    http::Action,
    identity::Sign,
    provisioning::{Progress, Provisioning},
};

/// Opens connections to the service.
///
/// A closure that returns a stream implements this trait. Implement the trait for a type if the stream borrows from
/// it. For example, a socket borrows its buffers:
///
/// ```
/// use azure_dps::blocking::{Connect, ConnectError};
/// use core::time::Duration;
/// # struct Socket<'s>(&'s mut [u8]);
/// # impl<'s> Socket<'s> { fn open(buffer: &'s mut [u8]) -> Result<Self, core::convert::Infallible> { Ok(Self(buffer)) } }
/// # impl embedded_io::ErrorType for Socket<'_> { type Error = core::convert::Infallible; }
/// # impl embedded_io::Read for Socket<'_> {
/// #     fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> { Ok(0) }
/// # }
/// # impl embedded_io::Write for Socket<'_> {
/// #     fn write(&mut self, buffer: &[u8]) -> Result<usize, Self::Error> { Ok(buffer.len()) }
/// #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
///
/// struct Modem {
///     buffer: [u8; 2048],
/// }
///
/// impl Connect for Modem {
///     type Error = core::convert::Infallible;
///     type StreamError = core::convert::Infallible;
///     type Stream<'s> = Socket<'s>;
///
///     fn connect(&mut self, _deadline: Duration) -> Result<Socket<'_>, ConnectError<Self::Error>> {
///         Ok(Socket::open(&mut self.buffer)?)
///     }
/// }
/// ```
pub trait Connect {
    /// The error if the connection fails.
    type Error;
    /// The error of the stream.
    type StreamError: embedded_io::Error;
    /// The TLS stream, which may borrow from `self`.
    type Stream<'s>: Read + Write + ErrorType<Error = Self::StreamError>
    where
        Self: 's;

    /// Opens a new TLS stream, and completes its handshake. Must return at `deadline`, a time on the clock of [`run`].
    ///
    /// # Errors
    /// - [`ConnectError::Network`] for a failure of the network: the run tries again. `?` returns this error;
    /// - [`ConnectError::Untrusted`] for a certificate that is not trusted: the run ends;
    /// - [`ConnectError::ProxyRefused`] for a proxy that rejects the device: the run ends.
    fn connect(&mut self, deadline: Duration) -> Result<Self::Stream<'_>, ConnectError<Self::Error>>;

    /// Opens a new stream as [`connect`](Self::connect) does, with memory to use during the call.
    ///
    /// [`run`] calls this function. `scratch` is its whole buffer, which is free until there is a stream. A connector
    /// can use it, for example, for a host name that ends with a zero byte. The default calls
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// See [`connect`](Self::connect).
    fn connect_with(
        &mut self,
        deadline: Duration,
        scratch: &mut [u8],
    ) -> Result<Self::Stream<'_>, ConnectError<Self::Error>> {
        let _ = scratch;
        self.connect(deadline)
    }
}

impl<F, S, C> Connect for F
where
    F: FnMut(Duration) -> Result<S, ConnectError<C>>,
    S: Read + Write,
{
    type Error = C;
    type StreamError = S::Error;
    type Stream<'s>
        = S
    where
        Self: 's;

    fn connect(&mut self, deadline: Duration) -> Result<S, ConnectError<C>> {
        self(deadline)
    }
}

/// Runs a started [`Provisioning`] to its end.
///
/// Then read the result from `buffer`: with [`Provisioning::result`], or after a failure with
/// [`Provisioning::details`].
///
/// - `signer` has the key. An array of two signers is a primary and a secondary key. For X.509 attestation, pass
///   [`NoKey`](crate::identity::NoKey).
/// - `buffer` holds requests and answers. [`Sizes::http`](crate::provisioning::Sizes::http) returns its size.
/// - `connect` opens connections. A run uses a stream until the service closes it, then opens a new one.
/// - `clock` returns the time of the monotonic clock of [`Provisioning::start`]. It must not stop during `delay`, and
///   must not wrap.
/// - `delay` waits for at least the given time.
/// - `observe` is called with each [`Progress`]. Pass `|_| ()` if you do not need it.
///
/// The buffer may contain parts of the token afterwards. Wipe it if other code can read it.
///
/// # Time-outs
///
/// A run checks the deadline of a request between two calls of the stream, so it ends a server that sends slowly. It
/// cannot end a single call that never returns. So set a time-out in the stream. With TLS, the time-out must be for the
/// whole read, because a read waits for a complete TLS record, and the record may arrive byte by byte. The same is true
/// for the handshake in `connect`.
///
/// If a read, write or flush returns `ErrorKind::Interrupted`, the run calls the stream again, until the deadline of the
/// request. A stream that cannot wait may return this error if there are no bytes yet.
///
/// # Errors
/// - [`Error`] with the reason of the failure;
/// - [`NotStarted`](crate::Error::NotStarted) if [`Provisioning::start`] was not called for this run.
///
/// # Example
///
/// ```
/// use azure_dps::*;
///
/// # use core::time::Duration;
/// # struct Stream(&'static [u8]);
/// # impl embedded_io::ErrorType for Stream { type Error = core::convert::Infallible; }
/// # impl embedded_io::Read for Stream {
/// #     fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> { embedded_io::Read::read(&mut self.0, buffer) }
/// # }
/// # impl embedded_io::Write for Stream {
/// #     fn write(&mut self, buffer: &[u8]) -> Result<usize, Self::Error> { Ok(buffer.len()) }
/// #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # let mut connect = |_deadline| Ok::<_, blocking::ConnectError<core::convert::Infallible>>(Stream(concat!("HTTP/1.1 200 OK\r\n\r\n",
/// #     r#"{"status":"assigned","registrationState":{"assignedHub":"hub.example","deviceId":"dev-1"}}"#).as_bytes()));
/// # let (unix_time, clock, delay) = (1_700_000_000, || Duration::ZERO, |_| ());
/// let mut key = DeviceKey::new();
/// key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
///
/// let mut buffer = [0; 1024];
/// provisioning.start(clock(), unix_time);
/// match blocking::run(&mut provisioning, &mut key, &mut buffer, &mut connect, clock, delay, |_| ()) {
///     Ok(()) => assert_eq!(provisioning.result(&buffer)?.assigned_hub(), "hub.example"),
///     Err(error) => panic!("{error}: {:?}", provisioning.details(&buffer)),
/// }
/// # Ok::<(), azure_dps::Error>(())
/// ```
// Not inlined, so that its stack is in use only during the call.
#[inline(never)]
pub fn run<C: Connect + ?Sized>(
    provisioning: &mut Provisioning<'_>,
    signer: &mut (impl Sign + ?Sized),
    buffer: &mut [u8],
    connect: &mut C,
    clock: impl FnMut() -> Duration,
    delay: impl FnMut(Duration),
    observe: impl FnMut(Progress),
) -> Result<(), Error<C::Error, C::StreamError>> {
    provisioning.check_started()?;
    let mut driver = Driver::new(provisioning, signer, buffer, clock, delay, observe);
    while serve(&mut driver, None::<&mut C::Stream<'_>>) {
        match connect.connect_with(driver.exchange.deadline(), driver.buffer) {
            Ok(mut stream) => {
                driver.on_connected();
                if !serve(&mut driver, Some(&mut stream)) {
                    break;
                }
            }
            Err(error) => driver.on_error(error.into()),
        }
    }
    driver.outcome()
}

/// Continues the run with this stream, or without one. Returns `true` if a new connection is needed, `false` if the
/// run is over.
fn serve<S, K, T, D, O, C, E>(driver: &mut Driver<'_, '_, K, T, D, O, Error<C, E>>, mut stream: Option<&mut S>) -> bool
where
    S: Read + Write + ErrorType<Error = E>,
    K: Sign + ?Sized,
    T: FnMut() -> Duration,
    D: FnMut(Duration),
    O: FnMut(Progress),
    E: embedded_io::Error,
{
    let Driver { provisioning, signer, buffer, clock, delay, observe, exchange, cause } = driver;
    loop {
        // Reported before and after: if the wait is already over, `next` replaces the event of the last answer.
        report(provisioning, observe);
        let action = exchange.next(provisioning, clock(), buffer);
        report(provisioning, observe);
        if stream.is_some() && !exchange.is_connected() && action != Action::Finished {
            // The stream is dropped before a new one is opened: a modem may have only one socket, and a small device
            // has memory for one session only.
            return true;
        }
        let result = match (action, &mut stream) {
            (Action::Finished, _) => return false,
            (Action::Wait(duration), _) => {
                delay(duration);
                Ok(())
            }
            (Action::Sign, _) => {
                let signed = provisioning.sign_with(*signer, buffer);
                signed.map_err(|error| exchange.signature_error(provisioning, error).into())
            }
            (Action::Activate, _) => provisioning.activate_with(*signer, buffer).map_err(Error::Provisioning),
            (Action::Write(range), Some(stream)) => stream
                .write(buffer.get(range).unwrap_or_default())
                .map(|written| exchange.on_written(provisioning, clock(), written))
                .map_err(Error::Stream),
            (Action::Flush, Some(stream)) => stream.flush().map(|()| exchange.on_flushed()).map_err(Error::Stream),
            (Action::Read, Some(stream)) => stream
                .read(exchange.space(buffer))
                .map(|read| exchange.on_read(provisioning, clock(), buffer, read))
                .map_err(Error::Stream),
            _ => return true,
        };
        if let Err(error) = result
            && !error.is_interrupted()
        {
            exchange.on_error(provisioning, clock(), error.kind());
            *cause = Some(error);
        }
    }
}
