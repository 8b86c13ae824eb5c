//! A complete run over HTTP, with callbacks of C for the connection.

use core::{
    cell::Cell,
    ffi::{c_char, c_void},
    fmt,
    time::Duration,
};

use azure_dps::{
    Error,
    blocking::{self, Connect, ConnectError},
    error::BufferTooSmall,
    provisioning::{Endpoint, Progress},
};
use embedded_io::{ErrorKind, ErrorType, Read, Write};

use crate::{
    border::{Failure, buffer, copy, enter, outcome, structure},
    client::{Client, azure_dps_client, azure_dps_progress},
    clock::{Clock, millis},
    error::{
        AZURE_DPS_ERR_CLOSED, AZURE_DPS_ERR_PROXY_REFUSED, AZURE_DPS_ERR_STALLED, AZURE_DPS_ERR_UNTRUSTED,
        azure_dps_result,
    },
    signer::{Signer, azure_dps_signer},
};

/// Nothing yet. As in the header.
const AZURE_DPS_IO_AGAIN: i32 = -100;

type ConnectFn = unsafe extern "C" fn(*mut c_void, *const c_char, u16, u32) -> i32;
type ReadFn = unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> i32;
type WriteFn = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> i32;
type CloseFn = unsafe extern "C" fn(*mut c_void);
type ClockFn = unsafe extern "C" fn(*mut c_void) -> u32;
type DelayFn = unsafe extern "C" fn(*mut c_void, u32);
type ObserveFn = unsafe extern "C" fn(*mut c_void, *const azure_dps_progress);

/// Connection, clock and delay. See the header.
#[repr(C)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_io {
    pub ctx: *mut c_void,
    pub connect: Option<ConnectFn>,
    pub read: Option<ReadFn>,
    pub write: Option<WriteFn>,
    pub close: Option<CloseFn>,
    pub clock_ms: Option<ClockFn>,
    pub delay_ms: Option<DelayFn>,
    pub observe: Option<ObserveFn>,
}

/// An [`azure_dps_io`] whose required callbacks are not NULL. Only the last one is optional.
#[repr(C)]
struct Callbacks {
    ctx: *mut c_void,
    connect: ConnectFn,
    read: ReadFn,
    write: WriteFn,
    close: CloseFn,
    clock_ms: ClockFn,
    delay_ms: DelayFn,
    observe: Option<ObserveFn>,
}

impl azure_dps_io {
    /// Checks that the required callbacks are not NULL.
    fn callbacks(&self) -> Result<&Callbacks, Failure> {
        let Self { connect, read, write, close, clock_ms, delay_ms, .. } = self;
        let is_complete = connect.is_some()
            && read.is_some()
            && write.is_some()
            && close.is_some()
            && clock_ms.is_some()
            && delay_ms.is_some();
        if !is_complete {
            return Err(Failure::ARGUMENT);
        }
        // SAFETY: the two structures are the same, since an `Option` of a function pointer is that pointer or NULL.
        // No pointer is NULL that must not be.
        Ok(unsafe { &*(&raw const *self).cast() })
    }
}

/// The callbacks of a run.
///
/// They are safe to call, because [`azure_dps_run`] requires valid callbacks.
struct Io<'i> {
    callbacks: &'i Callbacks,
    clock: &'i Cell<Clock>,
    endpoint: Endpoint<'i>,
}

impl Io<'_> {
    fn now(&self) -> Duration {
        let mut clock = self.clock.get();
        // SAFETY: see `Io`.
        let now = clock.read(unsafe { (self.callbacks.clock_ms)(self.callbacks.ctx) });
        self.clock.set(clock);
        now
    }

    fn delay(&self, duration: Duration) {
        // SAFETY: see `Io`.
        unsafe { (self.callbacks.delay_ms)(self.callbacks.ctx, millis(duration)) };
    }

    fn observe(&self, progress: Progress) {
        if let Some(observe) = self.callbacks.observe {
            let progress = azure_dps_progress::from(progress);
            // SAFETY: see `Io`. The structure is valid during the call.
            unsafe { observe(self.callbacks.ctx, &raw const progress) };
        }
    }

    /// The host, without the brackets of an IPv6 address.
    fn host(&self) -> &str {
        host(&self.endpoint)
    }
}

fn host<'e>(endpoint: &Endpoint<'e>) -> &'e str {
    let host = endpoint.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The number that a callback returned.
#[derive(Debug)]
struct Broken(i32);

impl Broken {
    /// Converts the result of a read or a write: a number of bytes, or an error.
    fn check(returned: i32, at_most: usize) -> Result<usize, Self> {
        match usize::try_from(returned) {
            Ok(len) if len <= at_most => Ok(len),
            _ => Err(Self(returned)),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see io_error")
    }
}

impl core::error::Error for Broken {}

impl embedded_io::Error for Broken {
    fn kind(&self) -> ErrorKind {
        match self.0 {
            AZURE_DPS_IO_AGAIN => ErrorKind::Interrupted,
            AZURE_DPS_ERR_CLOSED => ErrorKind::ConnectionReset,
            AZURE_DPS_ERR_STALLED => ErrorKind::TimedOut,
            _ => ErrorKind::Other,
        }
    }
}

impl Connect for &Io<'_> {
    type Error = i32;
    type StreamError = Broken;
    type Stream<'s>
        = Stream<'s>
    where
        Self: 's;

    fn connect(&mut self, deadline: Duration) -> Result<Stream<'_>, ConnectError<i32>> {
        self.connect_with(deadline, &mut [])
    }

    /// Writes the host name and its zero byte into the run's buffer, which is free until there is a connection.
    fn connect_with(&mut self, deadline: Duration, scratch: &mut [u8]) -> Result<Stream<'_>, ConnectError<i32>> {
        let end = copy(self.host().as_bytes(), scratch);
        // `run` has checked that there is room.
        let Some(byte) = scratch.get_mut(end) else { return Err(ConnectError::Network(0)) };
        *byte = 0;
        let Callbacks { ctx, connect, .. } = *self.callbacks;
        // The clock of a run starts at 0, and a run ends within 30 days.
        let timeout = millis(deadline).saturating_sub(millis(self.now()));
        // Limited, because 0 or a negative `int` means "no time-out" in many network stacks.
        let timeout = timeout.clamp(1, i32::MAX as u32);
        // SAFETY: see `Io`. The name is in the buffer, with its zero byte.
        match unsafe { connect(ctx, scratch.as_ptr().cast(), self.endpoint.port(), timeout) } {
            0 => Ok(Stream(self.callbacks)),
            error @ AZURE_DPS_ERR_UNTRUSTED => Err(ConnectError::Untrusted(error)),
            error @ AZURE_DPS_ERR_PROXY_REFUSED => Err(ConnectError::ProxyRefused(error)),
            error => Err(ConnectError::Network(error)),
        }
    }
}

/// A connection. It is closed when this is dropped.
struct Stream<'i>(&'i Callbacks);

impl ErrorType for Stream<'_> {
    type Error = Broken;
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        // SAFETY: see `Io`. The buffer is as long as it says.
        let returned = unsafe { (self.0.read)(self.0.ctx, buffer.as_mut_ptr(), buffer.len()) };
        Broken::check(returned, buffer.len())
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        // SAFETY: see `Io`. The bytes are as many as it says.
        let returned = unsafe { (self.0.write)(self.0.ctx, bytes.as_ptr(), bytes.len()) };
        Broken::check(returned, bytes.len())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        // SAFETY: see `Io`.
        unsafe { (self.0.close)(self.0.ctx) };
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `signer` to an `azure_dps_signer`, `buffer` to `size` bytes, `io` to
/// an `azure_dps_io`. Callbacks do what the header says, and do not return by `longjmp` or an exception.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_run(
    dps: *mut azure_dps_client,
    unix_time: u64,
    signer: *const azure_dps_signer,
    buffer: *mut c_void,
    size: usize,
    io: *const azure_dps_io,
) -> azure_dps_result {
    // SAFETY: the caller's promise. While callbacks run, the client is refused to everybody else.
    outcome(|| unsafe {
        let callbacks = structure(io)?.callbacks()?;
        let mut signer = Signer::new(signer)?;
        let buffer = self::buffer(buffer, size)?;
        let client = &mut *enter::<Client>(dps)?;
        client.run(unix_time, &mut signer, buffer, callbacks)
    })
}

impl Client {
    fn run(
        &mut self,
        unix_time: u64,
        signer: &mut Signer,
        buffer: &mut [u8],
        callbacks: &Callbacks,
    ) -> Result<(), Failure> {
        // SAFETY: see `Io`.
        self.start(unsafe { (callbacks.clock_ms)(callbacks.ctx) }, unix_time);
        let endpoint = *self.provisioning.endpoint();
        let name = host(&endpoint).len().saturating_add(1);
        if buffer.len() < name {
            // The request needs more than the message.
            return Err(self.refuse_for_good(BufferTooSmall::at_least(name).into()));
        }
        let io = Io { callbacks, clock: Cell::from_mut(&mut self.clock), endpoint };
        let ended = blocking::run(
            &mut self.provisioning,
            signer,
            buffer,
            &mut &io,
            || io.now(),
            |duration| io.delay(duration),
            |progress| io.observe(progress),
        );
        let Err(error) = ended else { return Ok(()) };
        self.io_error = match error {
            blocking::Error::Provisioning(Error::Signer(_) | Error::Tpm(_)) => signer.io_error,
            blocking::Error::Connect(code)
            | blocking::Error::Untrusted(code)
            | blocking::Error::ProxyRefused(code)
            | blocking::Error::Stream(Broken(code)) => code,
            _ => 0,
        };
        Err(error.kind().into())
    }

    /// Ends the run.
    fn refuse_for_good(&mut self, error: Error) -> Failure {
        self.on_error(error);
        error.into()
    }
}
