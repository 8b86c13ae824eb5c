//! A virtual clock, a scripted stream, and the documents that DPS sends.
#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use azure_dps::blocking::{self, ConnectError};
use azure_dps::{
    Assignment, Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId,
    identity::Sign,
    provisioning::{Answer, Progress, Step},
};
use embedded_io::ErrorKind;

pub const SCOPE: &str = "0ne00002193";
pub const TOASTER: &str = "breakroom499-contoso-tstrsd-007";
pub const TOASTER_KEY: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
pub const TOASTERS_HUB: &str = "contoso-toasters-hub-1098.azure-devices.net";
pub const HEAT_PUMP: &str = "mainbuilding167-contoso-hpsd-088";
pub const HEAT_PUMPS_HUB: &str = "contoso-heatpumps-hub-1098.azure-devices.net";
pub const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
pub const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
pub const OPERATION: &str = "4.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d";

pub const UNIX_TIME: u64 = 1_700_000_000;

pub const ASSIGNING: &str = include_str!("../vectors/operation-assigning.json");
pub const ASSIGNED: &str = include_str!("../vectors/operation-assigned.json");

pub fn registration(id: &'static str) -> Registration<'static> {
    Registration::new(IdScope::new(SCOPE).unwrap(), RegistrationId::new(id).unwrap())
}

/// Returns the assignment in a final answer, as a run reads it.
pub fn assigned<'b>(registration: &Registration<'b>, body: &'b str) -> Result<Assignment<'b>, Error> {
    // Leaked, because the assignment borrows from it.
    let provisioning = Box::leak(Box::new(Provisioning::new(*registration, Attestation::x509())));
    provisioning.start(Duration::ZERO, 0);
    provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body.as_bytes()));
    provisioning.result(body.as_bytes())
}

pub fn toaster() -> Provisioning<'static> {
    Provisioning::new(registration(TOASTER).with_payload(PAYLOAD).unwrap(), Attestation::symmetric_key())
}

pub fn toaster_key() -> DeviceKey {
    DeviceKey::from_base64(TOASTER_KEY).unwrap()
}

/// A clock that moves only during a wait.
#[derive(Clone, Copy)]
pub struct Clock(&'static Times);

#[derive(Default)]
struct Times {
    now: Cell<Duration>,
    /// The earliest time at which a sleeping future must be woken.
    alarm: Cell<Option<Duration>>,
    /// The number of readings before the clock jumps, and the length of the jump.
    jump: Cell<Option<(usize, Duration)>>,
    /// The time in milliseconds, for a server on another thread.
    mirror: RefCell<Arc<AtomicU64>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Box::leak(Box::default()))
    }
}

impl Clock {
    pub fn now(self) -> Duration {
        match self.0.jump.take() {
            Some((0, by)) => self.0.now.set(self.0.now.get().saturating_add(by)),
            Some((readings, by)) => self.0.jump.set(Some((readings - 1, by))),
            None => {}
        }
        self.0.now.get()
    }

    /// Makes the clock jump after this number of readings.
    pub fn jump(self, readings: usize, by: Duration) {
        self.0.jump.set(Some((readings, by)));
    }

    pub fn advance(self, by: Duration) {
        self.set(self.0.now.get().saturating_add(by));
    }

    fn set(self, now: Duration) {
        self.0.now.set(now);
        self.0.mirror.borrow().store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Stores the time in `millis` each time the clock moves.
    pub fn mirror(self, millis: Arc<AtomicU64>) {
        self.0.mirror.replace(millis);
    }

    pub async fn sleep(self, wait: Duration) {
        let until = self.now().saturating_add(wait);
        poll_fn(|_| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            self.alarm(until);
            Poll::Pending
        })
        .await
    }

    fn alarm(self, at: Duration) {
        self.0.alarm.set(Some(self.0.alarm.get().map_or(at, |other| other.min(at))));
    }

    /// Replaces the timers of a board for the session of the example `mqtt_embedded`.
    pub async fn until<T>(self, deadline: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (mut work, mut sleep) = (pin!(work), pin!(self.sleep(deadline.saturating_sub(self.now()))));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => {
                sleep.as_mut().poll(context).map(|()| Err(Error::Transport(azure_dps::error::TransportError::Stalled)))
            }
        })
        .await
    }

    /// Runs a future to its end. If the future waits, the clock moves to the next alarm.
    pub fn block_on<T>(self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            let alarm = self.0.alarm.take().expect("something wakes the future");
            self.set(self.0.now.get().max(alarm));
        }
    }
}

/// Drives the state machine with answers instead of a network. It counts requests. Time passes only in its waits.
pub struct Bench<'p, 'a> {
    pub provisioning: &'p mut Provisioning<'a>,
    pub clock: Clock,
    /// The signer: the toaster's key unless a test sets another.
    pub signer: Box<dyn Sign>,
    pub sent: Vec<String>,
    pub waits: Vec<Duration>,
    pub progress: Vec<Progress>,
}

/// How the other side reacts to a request.
#[derive(Clone)]
pub enum Peer {
    Answers { status: u16, retry_after: Option<u32>, body: String },
    Fails(Error),
}

pub fn answers(status: u16, retry_after: Option<u32>, body: impl Into<String>) -> Peer {
    Peer::Answers { status, retry_after, body: body.into() }
}

impl<'p, 'a> Bench<'p, 'a> {
    pub fn start(provisioning: &'p mut Provisioning<'a>) -> Self {
        provisioning.start(Duration::ZERO, UNIX_TIME);
        let signer = Box::new(toaster_key());
        let (sent, waits, progress) = (Vec::new(), Vec::new(), Vec::new());
        Self { provisioning, clock: Clock::default(), signer, sent, waits, progress }
    }

    /// Signs with another signer.
    pub fn signed_by(mut self, signer: impl Sign + 'static) -> Self {
        self.signer = Box::new(signer);
        self
    }

    /// Runs to the end. The last peer answers all further requests. Returns hub and device ID.
    pub fn run(&mut self, peers: &[Peer]) -> Result<(String, String), Error> {
        let mut peers = peers.iter().chain(std::iter::repeat(peers.last().unwrap()));
        self.run_with(|| peers.next().unwrap().clone())
    }

    /// Runs to the end. `peer` returns the reaction of the other side to each request.
    pub fn run_with(&mut self, mut peer: impl FnMut() -> Peer) -> Result<(String, String), Error> {
        let mut buffer = [0; 2048];
        let mut last = Vec::new();
        loop {
            let step = self.provisioning.step(self.clock.now());
            self.progress.extend(self.provisioning.progress());
            match step {
                Step::Sign => {
                    if let Err(error) = self.provisioning.sign_with(&mut *self.signer, &mut buffer) {
                        self.provisioning.on_error(self.clock.now(), error);
                    }
                }
                Step::Activate => {
                    if let Err(error) = self.provisioning.activate_with(&mut *self.signer, &last) {
                        self.provisioning.on_error(self.clock.now(), error);
                    }
                }
                Step::Wait(wait) => {
                    self.waits.push(wait);
                    self.clock.advance(wait);
                }
                Step::Send => {
                    let now = self.clock.now();
                    let len = azure_dps::http::write_request(self.provisioning, now, &mut buffer).unwrap();
                    self.progress.extend(self.provisioning.progress());
                    self.sent.push(String::from_utf8(buffer[..len].to_vec()).unwrap());
                    match peer() {
                        Peer::Answers { status, retry_after, body } => {
                            last = body.into_bytes();
                            self.provisioning.on_answer(now, Answer::new(status, retry_after, &last));
                        }
                        Peer::Fails(error) => self.provisioning.on_error(now, error),
                    }
                }
                Step::Finished => break,
            }
        }
        let assignment = self.provisioning.result(&last)?;
        Ok((assignment.assigned_hub().to_string(), assignment.device_id().to_string()))
    }

    /// Returns method and last path segment of each request, without the query.
    pub fn requests(&self) -> Vec<&'static str> {
        let name = |request: &String| match request.split(['?']).next().unwrap() {
            path if path.starts_with("PUT ") && path.ends_with("/register") => "register",
            path if path.starts_with("GET ") && path.contains("/operations/") => "status",
            other => panic!("not a request of DPS: {other}"),
        };
        self.sent.iter().map(name).collect()
    }
}

/// What a scripted stream does at the next read or write.
#[derive(Clone, Debug)]
pub enum Act {
    /// These bytes, with at most this number in each read.
    Bytes(Vec<u8>, usize),
    /// These bytes again and again, each time after this delay.
    Endless(Vec<u8>, Duration),
    /// The connection is closed by the peer.
    Close,
    /// The read fails: the peer reset the connection.
    Fail,
    /// The read fails with this error.
    FailAs(ErrorKind),
    /// No bytes for this time.
    Pass(Duration),
    /// No more bytes.
    Stall,
    /// All further writes accept no byte.
    TakeNothing,
    /// A signal interrupts this call after this time.
    Interrupt(Call, Duration),
}

/// A call of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Flush,
    Read,
}

/// A blocking stream fails if no byte arrives for this time.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What the peer does after each piece of a request that was flushed.
pub type Responder = Rc<dyn Fn(&[u8]) -> Vec<Act>>;

/// Several connections' scripts, and what was written to each.
#[derive(Clone, Default)]
pub struct Script {
    pub connections: Rc<RefCell<VecDeque<Vec<Act>>>>,
    pub written: Rc<RefCell<Vec<Vec<u8>>>>,
    pub clock: Clock,
    pub peer: Option<Responder>,
    /// The number of reads, the number since the clock last moved, and the time of that move.
    pub reads: Rc<Cell<(usize, usize, Duration)>>,
    /// The most reads between two moves of the clock.
    pub most_reads: Rc<Cell<usize>>,
    /// What a run over the script reported.
    pub progress: Rc<RefCell<Vec<Progress>>>,
}

impl Script {
    pub fn new(connections: impl IntoIterator<Item = Vec<Act>>) -> Self {
        let connections = Rc::new(RefCell::new(connections.into_iter().collect()));
        Self { connections, ..Self::default() }
    }

    /// Creates a peer that accepts any number of connections, and sends nothing without a request.
    pub fn answering(peer: impl Fn(&[u8]) -> Vec<Act> + 'static) -> Self {
        Self { peer: Some(Rc::new(peer)), ..Self::default() }
    }

    /// Opens the next connection. Fails if the script has no more.
    pub fn connect(&self) -> Result<Stream, ConnectError<Refused>> {
        let acts = match &self.peer {
            Some(_) => Vec::new(),
            None => self.connections.borrow_mut().pop_front().ok_or(Refused)?,
        };
        self.written.borrow_mut().push(Vec::new());
        let index = self.written.borrow().len() - 1;
        Ok(Stream { acts: acts.into(), at: 0, flushed: 0, index, script: self.clone() })
    }

    /// Provisions over the script, on its clock, with the toaster's key.
    pub fn provision<'b>(
        &self,
        provisioning: &'b mut Provisioning<'_>,
        buffer: &'b mut [u8],
    ) -> Result<Assignment<'b>, blocking::Error<Refused, Broken>> {
        self.provision_with(&mut toaster_key(), provisioning, buffer)
    }

    /// Provisions over the script, on its clock.
    pub fn provision_with<'b>(
        &self,
        signer: &mut (impl Sign + ?Sized),
        provisioning: &'b mut Provisioning<'_>,
        buffer: &'b mut [u8],
    ) -> Result<Assignment<'b>, blocking::Error<Refused, Broken>> {
        provisioning.start(self.clock.now(), UNIX_TIME);
        let (mut connect, clock) = (|_| self.connect(), || self.clock.now());
        let delay = |wait| self.clock.advance(wait);
        blocking::run(provisioning, signer, buffer, &mut connect, clock, delay, self.observer())?;
        Ok(provisioning.result(buffer)?)
    }

    /// Returns an observer that stores the progress of a run.
    pub fn observer(&self) -> impl FnMut(Progress) {
        |progress| self.progress.borrow_mut().push(progress)
    }

    pub fn requests(&self) -> Vec<String> {
        self.written.borrow().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("connection refused")
    }
}

/// Why a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub ErrorKind);

pub const RESET: Broken = Broken(ErrorKind::ConnectionReset);

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the stream broke")
    }
}

impl core::error::Error for Broken {}

impl embedded_io::Error for Broken {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

pub struct Stream {
    acts: VecDeque<Act>,
    /// How much of the first act's bytes was read.
    at: usize,
    /// How much of what was written was flushed.
    flushed: usize,
    index: usize,
    script: Script,
}

/// The result of a read.
pub enum Event {
    Read(usize),
    Fails(ErrorKind),
    Pass(Duration),
    Stall,
}

impl Stream {
    pub fn event(&mut self, buffer: &mut [u8]) -> Event {
        self.count_read();
        loop {
            match self.acts.front() {
                None if self.script.peer.is_some() => return Event::Stall,
                None | Some(Act::Close) => return Event::Read(0),
                Some(Act::Fail) => return Event::Fails(RESET.0),
                Some(&Act::FailAs(kind)) => return Event::Fails(kind),
                Some(Act::Stall) => return Event::Stall,
                Some(&Act::Pass(by)) => {
                    self.acts.pop_front();
                    return Event::Pass(by);
                }
                Some(&Act::Interrupt(Call::Read, after)) => {
                    self.acts.pop_front();
                    self.script.clock.advance(after);
                    return Event::Fails(ErrorKind::Interrupted);
                }
                Some(Act::TakeNothing | Act::Interrupt(..)) => {}
                Some(Act::Bytes(bytes, at_once)) => {
                    let len = (bytes.len() - self.at).min(*at_once).min(buffer.len());
                    if len > 0 {
                        buffer[..len].copy_from_slice(&bytes[self.at..][..len]);
                        self.at += len;
                        return Event::Read(len);
                    }
                }
                Some(Act::Endless(bytes, pause)) => {
                    if self.at == bytes.len() {
                        self.at = 0;
                        self.script.clock.advance(*pause);
                    }
                    let len = (bytes.len() - self.at).min(buffer.len());
                    buffer[..len].copy_from_slice(&bytes[self.at..][..len]);
                    self.at += len;
                    return Event::Read(len);
                }
            }
            self.acts.pop_front();
            self.at = 0;
        }
    }

    fn count_read(&self) {
        let now = self.script.clock.0.now.get();
        let (all, since, moved) = self.script.reads.get();
        let since = if moved == now { since + 1 } else { 1 };
        self.script.reads.set((all + 1, since, now));
        self.script.most_reads.set(self.script.most_reads.get().max(since));
        assert!(all < 5_000_000, "it reads without end");
    }

    fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        self.interrupted(Call::Write)?;
        Ok(match self.acts.front() {
            Some(Act::TakeNothing) => 0,
            _ => {
                // In two pieces, as a TCP stack may.
                let len = buffer.len().div_ceil(2);
                self.script.written.borrow_mut()[self.index].extend(&buffer[..len]);
                len
            }
        })
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.interrupted(Call::Flush)?;
        let Some(peer) = &self.script.peer else { return Ok(()) };
        let written = self.script.written.borrow();
        let request = &written[self.index][self.flushed..];
        self.flushed += request.len();
        self.acts.extend(peer(request));
        Ok(())
    }

    fn interrupted(&mut self, call: Call) -> Result<(), Broken> {
        match self.acts.front() {
            Some(&Act::Interrupt(interrupted, after)) if interrupted == call => {
                self.acts.pop_front();
                self.script.clock.advance(after);
                Err(Broken(ErrorKind::Interrupted))
            }
            _ => Ok(()),
        }
    }
}

impl embedded_io::ErrorType for Stream {
    type Error = Broken;
}

impl embedded_io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        loop {
            match self.event(buffer) {
                Event::Read(len) => return Ok(len),
                Event::Fails(kind) => return Err(Broken(kind)),
                Event::Pass(by) if by <= READ_TIMEOUT => self.script.clock.advance(by),
                Event::Pass(_) | Event::Stall => {
                    self.script.clock.advance(READ_TIMEOUT);
                    return Err(Broken(ErrorKind::TimedOut));
                }
            }
        }
    }
}

impl embedded_io::Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        Stream::write(self, buffer)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        Stream::flush(self)
    }
}

/// The same stream for async code. It is not pending while it has bytes.
pub struct AsyncStream(pub Stream);

impl embedded_io_async::ErrorType for AsyncStream {
    type Error = Broken;
}

impl embedded_io_async::Read for AsyncStream {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        loop {
            match self.0.event(buffer) {
                Event::Read(len) => return Ok(len),
                Event::Fails(kind) => return Err(Broken(kind)),
                Event::Pass(by) => self.0.script.clock.sleep(by).await,
                Event::Stall => pending().await,
            }
        }
    }
}

impl embedded_io_async::Write for AsyncStream {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        self.0.write(buffer)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        self.0.flush()
    }
}

/// Returns an answer as the service frames it, with its documented headers.
pub fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nDate: Wed, 03 Aug 2022 20:34:41 GMT\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n{headers}\
         x-ms-request-id: 12950752-6d75-4f41-844b-c253a6653d4f\r\n\
         Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Returns the answer in chunks of a few bytes.
pub fn http_chunked(status: &str, headers: &str, body: &str, chunk: usize) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nDate: Wed, 03 Aug 2022 20:34:41 GMT\r\n\
         Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n{headers}\
         x-ms-request-id: 12950752-6d75-4f41-844b-c253a6653d4f\r\n\
         Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\r\n"
    )
    .into_bytes();
    for piece in body.as_bytes().chunks(chunk) {
        answer.extend(format!("{:x}\r\n", piece.len()).bytes());
        answer.extend(piece);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    answer
}
