//! A transport over any byte stream with the async [`embedded_io_async`] 0.7 traits: embassy on bare
//! metal, tokio through adapters.
//!
//! It does what the [blocking transport](crate::blocking) does: both drive the same exchange. Here every
//! wait is bounded as well: whatever the stream or the signer does not do in time is dropped.
//!
//! # Cancellation
//!
//! The future of [`run`] can be dropped at any time. The connection goes with it, and the run stays in
//! the [`Provisioning`]. To go on, call [`run`] again, without [`Provisioning::start`]. It makes a new
//! connection, and the run has the time that is left. What is lost depends on where the future was
//! dropped:
//!
//! | while | the service has | the next call |
//! |---|---|---|
//! | signing | nothing | signs again |
//! | connecting, writing | nothing, or half a request | sends the request |
//! | flushing, reading | perhaps the request | sends it again. A registration that still runs is answered with 409203, and repeated |
//! | waiting | answered | waits for the rest, then polls the same operation |
//!
//! # Executors
//!
//! The future is `Send` if the signer, the connector and its streams are. Connectors that are structs, and
//! closures that own what they use, can be spawned on tokio's multi-thread runtime. A closure that borrows
//! a local variable cannot: the compiler says that `Send` is not general enough. On a single-threaded
//! executor, such as embassy's, anything goes: a secure element on a bus in a `RefCell`, for example.
//!
//! The future takes at most 800 bytes on a 64-bit target, besides the streams, and the futures of the
//! connector, the signer and `delay`.
//!
//! DPS speaks TLS 1.2 only. The stream that [`Connect::connect`] returns must already be secured, and its
//! server certificate checked for the endpoint's host name. This crate picks no TLS.
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

/// Makes connections to the service.
///
/// An async closure that returns a stream is one. Write a type of your own if the stream borrows from
/// what makes it, as embassy-net's `TcpSocket` borrows its buffers:
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
// The futures need not be `Send`: embassy's sockets are not.
#[allow(async_fn_in_trait)]
pub trait Connect {
    /// Why there is no connection.
    type Error;
    /// The error of the stream.
    type StreamError: embedded_io_async::Error;
    /// A secured stream, which may borrow from `self`.
    type Stream<'s>: Read + Write + ErrorType<Error = Self::StreamError>
    where
        Self: 's;

    /// Makes a new, secured stream, its handshake done. The future is dropped at `deadline`, a time on
    /// the clock that [`run`] is given.
    ///
    /// # Errors
    /// `?` makes [`ConnectError::Network`] of the connector's own errors; it is retried. Return
    /// [`ConnectError::Untrusted`] for a certificate that is not trusted; it is final. So is
    /// [`ConnectError::ProxyRefused`].
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

/// Runs a started [`Provisioning`] to its end, or goes on with one whose future was dropped
/// ([cancellation](self#cancellation)). The outcome is read with [`Provisioning::result`] or
/// [`Provisioning::details`], from `buffer`.
///
/// - `signer`: holds the key. An array of two signers is a primary and a secondary key. A device with
///   a certificate has [`NoKey`](crate::identity::NoKey).
/// - `buffer`: for requests and answers; see [`Sizes`](crate::provisioning::Sizes).
/// - `connect`: makes connections. A stream is kept for as long as the service keeps it. If it was
///   closed between two polls, `run` makes a new one.
/// - `clock`: a monotonic clock's reading: the clock of [`Provisioning::start`]. It must go on during
///   `delay`, and not wrap.
/// - `delay`: waits for at least this long. It also bounds the other waits.
/// - `observe`: called with each [`Progress`]; `|_| ()` if you do not need it.
///
/// A read, write or flush that fails with `ErrorKind::Interrupted` is called again until the time for the request is
/// over.
///
/// Wipe the buffer afterwards if others can read it: remains of the token may be in it.
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

/// Goes on for as long as it can with this stream, or without one. Returns `true` if a connection
/// is needed, `false` if the run is over.
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
        // Before and after, since the clock may have passed a wait that begins with the last answer.
        report(provisioning, observe);
        let action = exchange.next(provisioning, clock(), buffer);
        report(provisioning, observe);
        if stream.is_some() && !exchange.is_connected() && action != Action::Finished {
            // It is dropped before there is another one: a small device has memory for one session.
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

/// What [`Provisioning::sign_with`] and [`Provisioning::activate_with`] do.
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
    // Not in its place: where this future is dropped, there is no signature.
    let mut signature = Signature::EMPTY;
    match provisioning.key() {
        KeyChoice::Primary => signer.sign(message, &mut signature.0).await?,
        KeyChoice::Secondary => signer.sign_with_secondary_key(message, &mut signature.0).await?,
    }
    provisioning.on_signature(&signature.0);
    Ok(())
}

/// Zero if the deadline has passed.
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

/// The work's output, if it comes before the delay is over.
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
