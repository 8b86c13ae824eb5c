//! DPS over any byte stream with the blocking [`embedded_io`] 0.7 traits: a TLS session on
//! bare metal, a modem, a `TcpStream` in an adapter.
//!
//! DPS speaks TLS 1.2 only. The stream that `connect` returns must already be secured, and
//! its server certificate checked for the endpoint's host name; this crate picks no TLS.
//!
//! [`embedded_io`]: https://docs.rs/embedded-io/0.7

use core::time::Duration;

use ::embedded_io::{Read, Write};

use super::byte_stream::outcome;
pub use super::byte_stream::{ConnectError, Error};
use crate::{
    Assignment, Provisioning,
    http::{Action, Exchange},
};

/// Runs a provisioning to its end, and again if it is called again.
///
/// - `unix_time`: the wall clock in seconds, for the token's expiry.
/// - `buffer`: for requests and answers; see the crate's [sizes](crate#sizes).
/// - `connect`: returns a new, secured stream, its handshake done, or gives up at the time
///   on `clock` that it is given. A stream is kept for as long as the service keeps it; when
///   it was closed between two polls, a new one is asked for. Errors are converted by `?` into [`ConnectError::Network`], which is retried; a
///   certificate that is not trusted should be [`ConnectError::Untrusted`], which is final.
/// - `clock`: a monotonic clock's reading, from any start. It must go on during `delay`, and
///   not wrap.
/// - `delay`: waits for so long, at least.
///
/// Wipe the buffer afterwards if others can read it: remains of the token may be in it.
///
/// The time for each request is checked between reads, so a peer that trickles is bounded.
/// A `read` that never returns can be bounded by the stream alone: give it a time-out, and for a
/// whole read where there is TLS. A record that trickles in is one read, of which each byte is in
/// time. The same goes for the handshake in `connect`, which is given its end.
///
/// # Errors
/// [`Error`] with whatever ended the run.
///
/// ```
/// # use azure_dps::*;
/// # use core::time::Duration;
/// # fn secured_stream() -> Result<&'static [u8], core::convert::Infallible> { Ok(&[]) }
/// # struct Stream(&'static [u8]);
/// # impl ::embedded_io::ErrorType for Stream { type Error = core::convert::Infallible; }
/// # impl ::embedded_io::Read for Stream {
/// #     fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> { ::embedded_io::Read::read(&mut self.0, buffer) }
/// # }
/// # impl ::embedded_io::Write for Stream {
/// #     fn write(&mut self, buffer: &[u8]) -> Result<usize, Self::Error> { Ok(buffer.len()) }
/// #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # let connect = |_deadline| Ok::<_, azure_dps::embedded_io::ConnectError<core::convert::Infallible>>(Stream(concat!("HTTP/1.1 200 OK\r\n\r\n",
/// #     r#"{"status":"assigned","registrationState":{"assignedHub":"hub.example","deviceId":"dev-1"}}"#).as_bytes()));
/// # let (unix_time, clock, delay) = (1_700_000_000, || Duration::ZERO, |_| ());
/// let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key));
///
/// let mut buffer = [0; 1024];
/// match azure_dps::embedded_io::provision(&mut provisioning, unix_time, &mut buffer, connect, clock, delay) {
///     Ok(assignment) => assert_eq!(assignment.assigned_hub(), "hub.example"),
///     Err(error) => panic!("{error}"),
/// }
/// # Ok::<(), azure_dps::Error>(())
/// ```
// Called once in a program, it would be inlined, and its stack be there for whatever else its
// caller does.
#[inline(never)]
pub fn provision<'b, S, C>(
    provisioning: &mut Provisioning<'_>,
    unix_time: u64,
    buffer: &'b mut [u8],
    mut connect: impl FnMut(Duration) -> Result<S, ConnectError<C>>,
    mut clock: impl FnMut() -> Duration,
    mut delay: impl FnMut(Duration),
) -> Result<Assignment<'b>, Error<C, S::Error>>
where
    S: Read + Write,
{
    let mut connection: Option<S> = None;
    let mut cause = None;
    let mut exchange = Exchange::new();
    provisioning.start(clock(), unix_time);
    loop {
        let action = exchange.next(provisioning, clock(), buffer);
        if !exchange.is_connected() {
            // Before there is another one: a modem has one socket, and a small device memory
            // for one session.
            connection = None;
        }
        let result = match (action, &mut connection) {
            (Action::Finished, _) => break,
            (Action::Wait(duration), _) => {
                delay(duration);
                Ok(())
            }
            (Action::Write(range), Some(stream)) => stream
                .write(buffer.get(range).unwrap_or_default())
                .map(|written| exchange.on_written(provisioning, clock(), written))
                .map_err(Error::Stream),
            (Action::Flush, Some(stream)) => stream.flush().map(|()| exchange.on_flushed()).map_err(Error::Stream),
            (Action::Read, Some(stream)) => stream
                .read(exchange.space(buffer))
                .map(|read| exchange.on_read(provisioning, clock(), buffer, read))
                .map_err(Error::Stream),
            (_, connection) => match connect(exchange.deadline()) {
                Ok(stream) => {
                    connection.get_or_insert(stream);
                    exchange.on_connected(provisioning);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
        };
        if let Err(error) = result {
            exchange.on_error(provisioning, clock(), error.kind());
            cause = Some(error);
        }
    }
    outcome(provisioning, buffer, cause)
}
