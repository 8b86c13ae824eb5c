//! DPS over any byte stream with the async [`embedded_io_async`] 0.7 traits: embassy on bare
//! metal, tokio through adapters.
//!
//! What is said and when is that of the [blocking transport](crate::embedded_io): both drive the
//! same exchange. Beyond it, every wait here is bounded: whatever the stream does not do in time
//! is raced against the caller's delay.
//!
//! # Cancellation
//!
//! The futures can be dropped at any time. The connection goes with them, and the run stays in
//! the [`Provisioning`]: [`resume`] goes on with it, on a new connection and within the time
//! that the run has left. What is lost depends on where the future was dropped:
//!
//! | while | the service has | [`resume`] |
//! |---|---|---|
//! | connecting, writing | nothing, or half a request | sends the request |
//! | flushing, reading | perhaps the request | sends it again; a registration that still runs is answered with 409203, and repeated |
//! | waiting | answered | waits for the rest, then polls the same operation |
//!
//! DPS speaks TLS 1.2 only. The stream that `connect` returns must already be secured, and its
//! server certificate checked for the endpoint's host name; this crate picks no TLS.
//!
//! [`embedded_io_async`]: https://docs.rs/embedded-io-async/0.7

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use ::embedded_io_async::{Read, Write};

use super::byte_stream::outcome;
pub use super::byte_stream::{ConnectError, Error};
use crate::{
    Assignment, Provisioning, TransportFault,
    http::{Action, Exchange},
    retry::between,
};

/// Runs a provisioning to its end, and again if it is called again.
///
/// - `unix_time`: the wall clock in seconds, for the token's expiry.
/// - `buffer`: for requests and answers; see the crate's [sizes](crate#sizes).
/// - `connect`: returns a new, secured stream, its handshake done. It is dropped at the time on
///   `clock` that it is given. A stream is kept for as long as the service keeps it; when it was
///   closed between two polls, a new one is asked for. Errors are converted by `?` into
///   [`ConnectError::Network`], which is retried; a certificate that is not trusted should be
///   [`ConnectError::Untrusted`], which is final.
/// - `clock`: a monotonic clock's reading, from any start. It must go on during `delay`, and not
///   wrap.
/// - `delay`: waits for so long, at least. It is also what bounds the other waits.
///
/// Wipe the buffer afterwards if others can read it: remains of the token may be in it.
///
/// # Errors
/// [`Error`] with whatever ended the run.
///
/// ```
/// # use azure_dps::*;
/// # use core::time::Duration;
/// # struct Stream(&'static [u8]);
/// # impl ::embedded_io_async::ErrorType for Stream { type Error = core::convert::Infallible; }
/// # impl ::embedded_io_async::Read for Stream {
/// #     async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> { ::embedded_io_async::Read::read(&mut self.0, buffer).await }
/// # }
/// # impl ::embedded_io_async::Write for Stream {
/// #     async fn write(&mut self, buffer: &[u8]) -> Result<usize, Self::Error> { Ok(buffer.len()) }
/// #     async fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # let connect = async |_deadline| Ok::<_, azure_dps::embedded_io_async::ConnectError<core::convert::Infallible>>(Stream(concat!("HTTP/1.1 200 OK\r\n\r\n",
/// #     r#"{"status":"assigned","registrationState":{"assignedHub":"hub.example","deviceId":"dev-1"}}"#).as_bytes()));
/// # let (unix_time, clock, delay) = (1_700_000_000, || Duration::ZERO, async |_| core::future::pending().await);
/// # let run = async {
/// let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key));
///
/// let mut buffer = [0; 1024];
/// let assignment =
///     azure_dps::embedded_io_async::provision(&mut provisioning, unix_time, &mut buffer, connect, clock, delay).await;
/// match assignment {
///     Ok(assignment) => assert_eq!(assignment.assigned_hub(), "hub.example"),
///     Err(error) => panic!("{error}"),
/// }
/// # Ok::<(), azure_dps::Error>(())
/// # };
/// # let mut context = core::task::Context::from_waker(core::task::Waker::noop());
/// # assert!(core::pin::pin!(run).poll(&mut context).is_ready());
/// # use core::future::Future;
/// ```
pub async fn provision<'b, S, C>(
    provisioning: &mut Provisioning<'_>,
    unix_time: u64,
    buffer: &'b mut [u8],
    connect: impl AsyncFnMut(Duration) -> Result<S, ConnectError<C>>,
    mut clock: impl FnMut() -> Duration,
    delay: impl AsyncFnMut(Duration),
) -> Result<Assignment<'b>, Error<C, S::Error>>
where
    S: Read + Write,
{
    provisioning.start(clock(), unix_time);
    resume(provisioning, buffer, connect, clock, delay).await
}

/// Goes on with a run whose future was dropped; see [cancellation](self#cancellation). The
/// parameters are those of [`provision`], and `clock` must be the same clock.
///
/// # Errors
/// [`Error`] with whatever ended the run; [`NotStarted`](crate::Error::NotStarted) if there is none.
pub async fn resume<'b, S, C>(
    provisioning: &mut Provisioning<'_>,
    buffer: &'b mut [u8],
    mut connect: impl AsyncFnMut(Duration) -> Result<S, ConnectError<C>>,
    mut clock: impl FnMut() -> Duration,
    mut delay: impl AsyncFnMut(Duration),
) -> Result<Assignment<'b>, Error<C, S::Error>>
where
    S: Read + Write,
{
    let mut connection: Option<S> = None;
    let mut cause = None;
    let mut exchange = Exchange::new();
    loop {
        let action = exchange.next(provisioning, clock(), buffer);
        if !exchange.is_connected() {
            // Before there is another one: a small device has memory for one session.
            connection = None;
        }
        let now = clock();
        let left = if now < exchange.deadline() { between(now, exchange.deadline()) } else { Duration::ZERO };
        let result = match (action, &mut connection) {
            (Action::Finished, _) => break,
            (Action::Wait(duration), _) => {
                delay(duration).await;
                Ok(())
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
            (_, connection) => match first(connect(exchange.deadline()), delay(left)).await {
                Some(Ok(stream)) => {
                    *connection = Some(stream);
                    exchange.on_connected(provisioning);
                    Ok(())
                }
                Some(Err(error)) => Err(error.into()),
                None => Err(stalled()),
            },
        };
        if let Err(error) = result {
            exchange.on_error(provisioning, clock(), error.kind());
            cause = Some(error);
        }
    }
    outcome(provisioning, buffer, cause)
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
    Error::Provisioning(crate::Error::Transport(TransportFault::Stalled))
}
