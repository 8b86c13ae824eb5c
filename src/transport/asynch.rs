//! A transport over any byte stream with the async [`embedded_io_async`] 0.7 traits.
//!
//! Use it with embassy on bare metal, or with tokio through adapters. It works like the
//! [blocking transport](crate::blocking), and also limits the time of each call: if the stream or the signer is late,
//! its future is dropped.
//!
//! This crate contains no TLS for this transport. [`Connect::connect`] must return a TLS 1.2 stream, because DPS
//! supports TLS 1.2 only. It must also check that the server's certificate is for the endpoint's host name.
//!
//! ```
//! use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, asynch};
//! use azure_dps::{asynch::Connect, provisioning::Sizes};
//! use core::time::Duration;
//!
//! const SIZES: Sizes = Sizes::new("0ne00002193", "dev-1");
//!
//! /// `connect` opens the TLS stream. `clock` is the time since boot.
//! async fn provision<C: Connect>(
//!     key: &mut DeviceKey,
//!     connect: &mut C,
//!     unix_time: u64,
//!     clock: impl Fn() -> Duration,
//!     delay: impl AsyncFnMut(Duration),
//! ) -> Result<(), asynch::Error<C::Error, C::StreamError>> {
//!     let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
//!     let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
//!     let mut buffer = [0; SIZES.http()];
//!     provisioning.start(clock(), unix_time);
//!     asynch::run(&mut provisioning, key, &mut buffer, connect, clock, delay, |_| ()).await?;
//!     let assignment = provisioning.result(&buffer)?;
//!     let _hub = assignment.hub(); // connect to this hub
//!     Ok(())
//! }
//! ```
//!
//! # Cancellation
//!
//! You can drop the future of [`run`] at any time. This closes the connection. The [`Provisioning`] keeps the state of
//! the run. To continue, call [`run`] again, without [`Provisioning::start`]. The deadline of the run does not change.
//!
//! | dropped while | the service has received | the next call |
//! |---|---|---|
//! | signing | nothing | signs again |
//! | connecting, writing | nothing, or half a request | sends the request |
//! | flushing, reading | perhaps the request | sends the request again. If the service still processes the first one, it answers 409203, and the run tries again |
//! | waiting | the request, and has answered it | waits for the rest of the time, then polls the same operation |
//!
//! # Executors
//!
//! The future is `Send` if the signer, the connector and its streams are `Send`. You can spawn it on tokio's
//! multi-thread runtime if the connector is a struct, or a closure that owns its data. A closure that borrows a local
//! variable does not work there: the compiler reports that `Send` is not general enough. On a single-threaded executor,
//! such as embassy's, nothing needs to be `Send`: a secure element on a bus in a `RefCell` works, for example.
//!
//! The future has at most 800 bytes on a 64-bit target, without the streams and without the futures of the connector,
//! the signer and `delay`.
//!
//! [`embedded_io_async`]: https://docs.rs/embedded-io-async/0.7

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use embedded_io_async::{ErrorType, Read, Write};

pub use super::byte_stream::{ConnectError, Error};
use super::byte_stream::{Driver, report};
use crate::{
    error::TransportError,
    http::Action,
    identity::{KeyChoice, SignAsync, SignError, sas_token::Signature},
    provisioning::{Progress, Provisioning},
    total::between,
};

/// Opens connections to the service.
///
/// An async closure that returns a stream implements this trait. Implement the trait for a type if the stream borrows
/// from it. For example, the `TcpSocket` of embassy-net borrows its buffers. (The example has no TLS.)
///
/// ```
/// # mod embassy_net { // stands for the crate: `ci/programs/bare-metal` and `examples/embassy` have the real one
/// #     #[derive(Clone, Copy)]
/// #     pub struct Stack<'d>(pub &'d ());
/// #     pub type IpAddress = [u8; 4];
/// #     pub mod tcp {
/// #         pub type Error = core::convert::Infallible;
/// #         pub type ConnectError = core::convert::Infallible;
/// #         pub struct TcpSocket<'s>(&'s mut [u8]);
/// #         impl<'s> TcpSocket<'s> {
/// #             pub fn new(_: super::Stack<'s>, rx: &'s mut [u8], _: &'s mut [u8]) -> Self { Self(rx) }
/// #             pub async fn connect(&mut self, _: (super::IpAddress, u16)) -> Result<(), ConnectError> { Ok(()) }
/// #         }
/// #         impl embedded_io_async::ErrorType for TcpSocket<'_> { type Error = Error; }
/// #         impl embedded_io_async::Read for TcpSocket<'_> {
/// #             async fn read(&mut self, _: &mut [u8]) -> Result<usize, Error> { Ok(0) }
/// #         }
/// #         impl embedded_io_async::Write for TcpSocket<'_> {
/// #             async fn write(&mut self, buffer: &[u8]) -> Result<usize, Error> { Ok(buffer.len()) }
/// #             async fn flush(&mut self) -> Result<(), Error> { Ok(()) }
/// #         }
/// #     }
/// # }
/// use azure_dps::asynch::{Connect, ConnectError};
/// use core::time::Duration;
/// use embassy_net::{IpAddress, Stack, tcp::{self, TcpSocket}};
///
/// struct Tcp<'d> {
///     stack: Stack<'d>,
///     address: IpAddress,
///     rx: [u8; 1024],
///     tx: [u8; 1024],
/// }
///
/// impl Connect for Tcp<'_> {
///     type Error = tcp::ConnectError;
///     type StreamError = tcp::Error;
///     type Stream<'s> = TcpSocket<'s> where Self: 's;
///
///     async fn connect(&mut self, _: Duration) -> Result<TcpSocket<'_>, ConnectError<tcp::ConnectError>> {
///         let mut socket = TcpSocket::new(self.stack, &mut self.rx, &mut self.tx);
///         socket.connect((self.address, 443)).await?;
///         Ok(socket)
///     }
/// }
/// ```
// The futures are not `Send`, because embassy's sockets are not.
#[allow(async_fn_in_trait)]
pub trait Connect {
    /// The error if the connection fails.
    type Error;
    /// The error of the stream.
    type StreamError: embedded_io_async::Error;
    /// The TLS stream, which may borrow from `self`.
    type Stream<'s>: Read + Write + ErrorType<Error = Self::StreamError>
    where
        Self: 's;

    /// Opens a new TLS stream, and completes its handshake. The future is dropped at `deadline`, a time on the clock of
    /// [`run`].
    ///
    /// # Errors
    /// - [`ConnectError::Network`] for a failure of the network: the run tries again. `?` returns this error;
    /// - [`ConnectError::Untrusted`] for a certificate that is not trusted: the run ends;
    /// - [`ConnectError::ProxyRefused`] for a proxy that rejects the device: the run ends.
    async fn connect(&mut self, deadline: Duration) -> Result<Self::Stream<'_>, ConnectError<Self::Error>>;
}

impl<F, S, C> Connect for F
where
    F: AsyncFnMut(Duration) -> Result<S, ConnectError<C>>,
    S: Read + Write,
{
    type Error = C;
    type StreamError = S::Error;
    type Stream<'s>
        = S
    where
        Self: 's;

    async fn connect(&mut self, deadline: Duration) -> Result<S, ConnectError<C>> {
        self(deadline).await
    }
}

/// Runs a started [`Provisioning`] to its end.
///
/// Then read the result from `buffer`: with [`Provisioning::result`], or after a failure with
/// [`Provisioning::details`]. If an earlier future was dropped, this call continues its run: see
/// [cancellation](self#cancellation).
///
/// - `signer` has the key. An array of two signers is a primary and a secondary key. For X.509 attestation, pass
///   [`NoKey`](crate::identity::NoKey).
/// - `buffer` holds requests and answers. [`Sizes::http`](crate::provisioning::Sizes::http) returns its size.
/// - `connect` opens connections. A run uses a stream until the service closes it, then opens a new one.
/// - `clock` returns the time of the monotonic clock of [`Provisioning::start`]. It must not stop during `delay`, and
///   must not wrap.
/// - `delay` waits for at least the given time. The run also uses it to limit the time of the stream and the signer.
/// - `observe` is called with each [`Progress`]. Pass `|_| ()` if you do not need it.
///
/// If a read, write or flush returns `ErrorKind::Interrupted`, the run calls the stream again, until the deadline of the
/// request.
///
/// The buffer may contain parts of the token afterwards. Wipe it if other code can read it.
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
/// # impl embedded_io_async::ErrorType for Stream { type Error = core::convert::Infallible; }
/// # impl embedded_io_async::Read for Stream {
/// #     async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> { embedded_io_async::Read::read(&mut self.0, buffer).await }
/// # }
/// # impl embedded_io_async::Write for Stream {
/// #     async fn write(&mut self, buffer: &[u8]) -> Result<usize, Self::Error> { Ok(buffer.len()) }
/// #     async fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # let mut connect = async |_deadline| Ok::<_, asynch::ConnectError<core::convert::Infallible>>(Stream(concat!("HTTP/1.1 200 OK\r\n\r\n",
/// #     r#"{"status":"assigned","registrationState":{"assignedHub":"hub.example","deviceId":"dev-1"}}"#).as_bytes()));
/// # let (unix_time, clock, delay) = (1_700_000_000, || Duration::ZERO, async |_| core::future::pending().await);
/// # let run = async {
/// let mut key = DeviceKey::new();
/// key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
///
/// let mut buffer = [0; 1024];
/// provisioning.start(clock(), unix_time);
/// match asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, clock, delay, |_| ()).await {
///     Ok(()) => assert_eq!(provisioning.result(&buffer)?.assigned_hub(), "hub.example"),
///     Err(error) => panic!("{error}: {:?}", provisioning.details(&buffer)),
/// }
/// # Ok::<(), azure_dps::Error>(())
/// # };
/// # let mut context = core::task::Context::from_waker(core::task::Waker::noop());
/// # assert!(core::pin::pin!(run).poll(&mut context).is_ready());
/// # use core::future::Future;
/// ```
pub async fn run<C: Connect + ?Sized>(
    provisioning: &mut Provisioning<'_>,
    signer: &mut (impl SignAsync + ?Sized),
    buffer: &mut [u8],
    connect: &mut C,
    clock: impl FnMut() -> Duration,
    delay: impl AsyncFnMut(Duration),
    observe: impl FnMut(Progress),
) -> Result<(), Error<C::Error, C::StreamError>> {
    provisioning.check_started()?;
    let mut driver = Driver::new(provisioning, signer, buffer, clock, delay, observe);
    while serve(&mut driver, None::<&mut C::Stream<'_>>).await {
        let deadline = driver.exchange.deadline();
        let left = time_left((driver.clock)(), deadline);
        match first(connect.connect(deadline), (driver.delay)(left)).await {
            Some(Ok(mut stream)) => {
                driver.on_connected();
                if !serve(&mut driver, Some(&mut stream)).await {
                    break;
                }
            }
            Some(Err(error)) => driver.on_error(error.into()),
            None => driver.on_error(stalled()),
        }
    }
    driver.outcome()
}

/// Continues the run with this stream, or without one. Returns `true` if a new connection is needed, `false` if the
/// run is over.
async fn serve<S, K, T, D, O, C, E>(
    driver: &mut Driver<'_, '_, K, T, D, O, Error<C, E>>,
    mut stream: Option<&mut S>,
) -> bool
where
    S: Read + Write + ErrorType<Error = E>,
    K: SignAsync + ?Sized,
    T: FnMut() -> Duration,
    D: AsyncFnMut(Duration),
    O: FnMut(Progress),
    E: embedded_io_async::Error,
{
    let Driver { provisioning, signer, buffer, clock, delay, observe, exchange, cause } = driver;
    loop {
        // Reported before and after: if the wait is already over, `next` replaces the event of the last answer.
        report(provisioning, observe);
        let action = exchange.next(provisioning, clock(), buffer);
        report(provisioning, observe);
        if stream.is_some() && !exchange.is_connected() && action != Action::Finished {
            // The stream is dropped before a new one is opened: a small device has memory for one session only.
            return true;
        }
        let left = time_left(clock(), exchange.deadline());
        let result = match (action, &mut stream) {
            (Action::Finished, _) => return false,
            (Action::Wait(duration), _) => {
                delay(duration).await;
                Ok(())
            }
            (action @ (Action::Sign | Action::Activate), _) => {
                let now = clock();
                let left = time_left(now, provisioning.request_deadline(now));
                let work = ask_signer(provisioning, *signer, buffer, action);
                match first(work, delay(left)).await {
                    Some(done) => done.map_err(|error| exchange.signature_error(provisioning, error).into()),
                    None => Err(crate::error::Error::Signer(SignError::new("it did not answer in time")).into()),
                }
            }
            (Action::Write(range), Some(stream)) => {
                in_time(stream.write(buffer.get(range).unwrap_or_default()), delay(left))
                    .await
                    .map(|written| exchange.on_written(provisioning, clock(), written))
            }
            (Action::Flush, Some(stream)) => in_time(stream.flush(), delay(left)).await.map(|()| exchange.on_flushed()),
            (Action::Read, Some(stream)) => in_time(stream.read(exchange.space(buffer)), delay(left))
                .await
                .map(|read| exchange.on_read(provisioning, clock(), buffer, read)),
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

/// Signs or activates, as [`Provisioning::sign_with`] and [`Provisioning::activate_with`] do.
async fn ask_signer(
    provisioning: &mut Provisioning<'_>,
    signer: &mut (impl SignAsync + ?Sized),
    buffer: &mut [u8],
    action: Action,
) -> Result<(), crate::error::Error> {
    if action == Action::Activate {
        let challenge = provisioning.challenge(buffer).ok_or(crate::error::Error::WrongBuffer)?;
        signer.activate(challenge).await?;
        provisioning.on_activated();
        return Ok(());
    }
    provisioning.begin_signature(signer.has_secondary_key())?;
    let message = provisioning.write_message(buffer)?;
    // A local variable: if this future is dropped, the run must have no signature.
    let mut signature = Signature::EMPTY;
    match provisioning.key() {
        KeyChoice::Primary => signer.sign(message, &mut signature.0).await?,
        KeyChoice::Secondary => signer.sign_with_secondary_key(message, &mut signature.0).await?,
    }
    provisioning.on_signature(&signature.0);
    Ok(())
}

/// Returns the time until the deadline. Returns zero if the deadline has passed.
fn time_left(now: Duration, deadline: Duration) -> Duration {
    if now < deadline { between(now, deadline) } else { Duration::ZERO }
}

async fn in_time<T, C, S>(
    work: impl Future<Output = Result<T, S>>,
    delay: impl Future<Output = ()>,
) -> Result<T, Error<C, S>> {
    match first(work, delay).await {
        Some(result) => result.map_err(Error::Stream),
        None => Err(stalled()),
    }
}

/// Returns the output of `work`, or `None` if `delay` ends first.
async fn first<T>(work: impl Future<Output = T>, delay: impl Future<Output = ()>) -> Option<T> {
    let (mut work, mut delay) = (pin!(work), pin!(delay));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => delay.as_mut().poll(context).map(|()| None),
    })
    .await
}

fn stalled<C, S>() -> Error<C, S> {
    Error::Provisioning(crate::error::Error::Transport(TransportError::Stalled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_left_after_the_deadline() {
        let time_left =
            |now, deadline| time_left(Duration::from_millis(now), Duration::from_millis(deadline)).as_millis();
        for (now, deadline, left) in [(1_000, 3_500, 2_500), (3_000, 3_000, 0), (5_100, 4_900, 0), (5_900, 4_100, 0)] {
            assert_eq!(time_left(now, deadline), left, "{now} to {deadline}");
        }
    }
}
