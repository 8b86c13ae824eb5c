//! A transport over any byte stream with the blocking [`embedded_io`] 0.7 traits: a TLS session on
//! bare metal, a modem, a `TcpStream` in an adapter.
//!
//! DPS speaks TLS 1.2 only. The stream that [`Connect::connect`] returns must already be secured, and
//! its server certificate checked for the endpoint's host name. This crate picks no TLS.
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

/// Makes connections to the service.
///
/// A closure that returns a stream is one. Write a type of your own if the stream borrows from what
/// makes it, such as a socket that borrows its buffers:
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
    /// Why there is no connection.
    type Error;
    /// The error of the stream.
    type StreamError: embedded_io::Error;
    /// A secured stream, which may borrow from `self`.
    type Stream<'s>: Read + Write + ErrorType<Error = Self::StreamError>
    where
        Self: 's;

    /// Makes a new, secured stream, its handshake done. Gives up at `deadline`, a time on the clock
    /// that [`run`] is given.
    ///
    /// # Errors
    /// `?` makes [`ConnectError::Network`] of the connector's own errors; it is retried. Return
    /// [`ConnectError::Untrusted`] for a certificate that is not trusted; it is final. So is
    /// [`ConnectError::ProxyRefused`].
    fn connect(&mut self, deadline: Duration) -> Result<Self::Stream<'_>, ConnectError<Self::Error>>;

    /// Does what [`connect`](Self::connect) does. [`run`] calls it with its whole buffer, in which nothing is needed
    /// until there is a stream. A connector that needs memory for a while uses it, for a host name that ends with a
    /// zero byte, for example.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
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

/// Runs a started [`Provisioning`] to its end. The outcome is read with [`Provisioning::result`] or
/// [`Provisioning::details`], from `buffer`.
///
/// - `signer`: holds the key. An array of two signers is a primary and a secondary key. A device with
///   a certificate has [`NoKey`](crate::identity::NoKey).
/// - `buffer`: for requests and answers; see [`Sizes`](crate::provisioning::Sizes).
/// - `connect`: makes connections. A stream is kept for as long as the service keeps it. If it was
///   closed between two polls, `run` makes a new one.
/// - `clock`: a monotonic clock's reading: the clock of [`Provisioning::start`]. It must go on during
///   `delay`, and not wrap.
/// - `delay`: waits for at least this long.
/// - `observe`: called with each [`Progress`]; `|_| ()` if you do not need it.
///
/// Wipe the buffer afterwards if others can read it: remains of the token may be in it.
///
/// The time for each request is checked between reads, so a peer that trickles is bounded.
/// Only the stream can bound a `read` that never returns: set a time-out, and set it for a
/// whole read if there is TLS. A TLS record that trickles in is one read, although each of its
/// bytes is in time. The same goes for the handshake in `connect`, which is given its end.
///
/// A read, write or flush that fails with `ErrorKind::Interrupted` is called again until the time for the request is
/// over, as the standard library does after a signal. A stream that cannot wait for bytes may use it to say that there
/// are none yet.
///
/// # Errors
/// [`Error`] with what ended the run. [`NotStarted`](crate::Error::NotStarted) if the run was not
/// started, or not started again after its end.
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
// Called once in a program, it would be inlined, and its stack be there for whatever else its
// caller does.
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

/// Goes on for as long as it can with this stream, or without one. Returns `true` if a connection
/// is needed, `false` if the run is over.
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
        // Before and after, since the clock may have passed a wait that begins with the last answer.
        report(provisioning, observe);
        let action = exchange.next(provisioning, clock(), buffer);
        report(provisioning, observe);
        if stream.is_some() && !exchange.is_connected() && action != Action::Finished {
            // It is dropped before there is another one: a modem has one socket, and a small device
            // memory for one session.
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
