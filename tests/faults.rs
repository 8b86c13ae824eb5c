//! Runs every fault over every transport, with a server that misbehaves in one way. Each row of the table in
//! `docs/evidence/faults.md` is a row here, and the test compares the table with the results.
//! `AZURE_DPS_BLESS=1 cargo test --test faults` writes the table.
//!
//! Each row runs in all its variants: at each kind of request, in each framing, in pieces and byte by byte, with a
//! permanent fault and with a single fault. In all rows, every run must
//!
//! - end in the same error if the fault is permanent; if the error allows a retry, end in the correct hub after the
//!   fault has ended;
//! - never end in a hub that was not assigned in a complete answer;
//! - end within the time that its `RetryPolicy` promises;
//! - wait after each exchange, read at most a few buffers between two moves of the clock, and connect at most twice for
//!   each wait.

#[path = "support/network.rs"]
mod network;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use azure_dps::{
    DeviceKey, Error, Provisioning, RetryPolicy, asynch, blocking,
    error::{Malformed, TransportError},
    https,
    provisioning::{Endpoint, Progress, Step},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use support::*;

#[path = "../examples/mqtt_embedded/session.rs"]
#[allow(clippy::duplicate_mod, reason = "here on the virtual clock, in `network` on the real one")]
mod session;

#[path = "faults/records.rs"]
mod records;

const SECOND: Duration = Duration::from_secs(1);
/// The hub that the faulty peer assigns. It is wrong unless the row says that the run succeeds.
const ODD_HUB: &str = "odd-hub.azure-devices.net";
/// Larger than any read, so the bytes arrive in one piece.
const WHOLE: usize = usize::MAX - 1;
/// No peer of the table sends this byte.
const UNTOUCHED: u8 = 0xee;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Blocking,
    Async,
    Minreq,
    Mqtt,
}

use Column::*;
const COLUMNS: [Column; 4] = [Blocking, Async, Minreq, Mqtt];

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum At {
    Connect,
    Subscribe,
    Register,
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
    Mqtt,
}

/// A request, and the form of its answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: At,
    /// The request number, over MQTT.
    id: u16,
    framing: Framing,
}

impl Asked {
    /// `None` if the service does not answer.
    fn read(request: &[u8], framing: Framing) -> Option<Self> {
        let text = String::from_utf8_lossy(request);
        let (at, id) = match request.first()? {
            0x10 => (At::Connect, 0),
            0x82 => (At::Subscribe, 0),
            0x30 => {
                let (_, id) = text.split_once("$rid=")?;
                let id = id.split(|character: char| !character.is_ascii_digit()).next()?.parse().unwrap();
                (if text.contains("/PUT/") { At::Register } else { At::Poll }, id)
            }
            b'P' => (At::Register, 0),
            b'G' => (At::Poll, 0),
            _ => return None,
        };
        Some(Self { at, id, framing })
    }

    /// Returns the answer of a service that assigns this hub at the first poll.
    fn honest(&self, hub: &str) -> Vec<u8> {
        match self.at {
            At::Connect => vec![0x20, 2, 0, 0],
            At::Subscribe => vec![0x90, 3, 0, 1, 0],
            At::Register => self.answer("202 Accepted", "3", ASSIGNING.as_bytes()),
            At::Poll => self.answer("200 OK", "", ASSIGNED.replace(TOASTERS_HUB, hub).as_bytes()),
        }
    }

    fn answer(&self, status: &str, retry_after: &str, body: &[u8]) -> Vec<u8> {
        let header = if retry_after.is_empty() { String::new() } else { format!("Retry-After: {retry_after}\r\n") };
        let mut answer = match self.framing {
            Framing::Length => format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{header}\r\n", body.len()),
            Framing::Chunked => format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n{header}\r\n"),
            Framing::UntilClose => format!("HTTP/1.1 {status}\r\nServer: x\r\n{header}\r\n"),
            Framing::Mqtt => {
                let retry_after = header.trim_end().to_lowercase().replace(": ", "=").replace("retry", "&retry");
                let topic = format!("$dps/registrations/res/{}/?$rid={}{retry_after}", &status[..3], self.id);
                return publish(0x30, topic.as_bytes(), body);
            }
        }
        .into_bytes();
        match self.framing {
            Framing::Chunked => {
                for chunk in body.chunks(body.len().div_ceil(9).max(1)) {
                    answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    answer.extend([chunk, b"\r\n"].concat());
                }
                answer.extend(b"0\r\n\r\n");
            }
            _ => answer.extend(body),
        }
        answer
    }
}

/// Returns an MQTT packet with a correct length.
fn packet(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut rest = content.len();
    loop {
        let more = if rest > 127 { 0x80 } else { 0 };
        packet.push((rest % 128) as u8 | more);
        rest /= 128;
        if more == 0 {
            break;
        }
    }
    packet.extend(content);
    packet
}

fn publish(kind: u8, topic: &[u8], body: &[u8]) -> Vec<u8> {
    packet(kind, &[&(topic.len() as u16).to_be_bytes()[..], topic, body].concat())
}

/// What the peer does wrong, in all variants of the row.
#[derive(Clone)]
enum Fault {
    /// Changes the bytes of an honest answer. The number selects the variant; `None` ends the list.
    Line(fn(Vec<u8>, usize) -> Option<Vec<Act>>),
    /// These answers with correct framing: status, `Retry-After`, bodies.
    Says(&'static str, &'static str, Vec<Vec<u8>>),
    /// These bytes, over HTTP only, and possibly the end of the connection.
    Http(Vec<Vec<Act>>),
    /// The same over MQTT, in answer to this kind of request and its number.
    Mqtt(At, fn(u16) -> Vec<Vec<Act>>),
}

struct Row {
    name: &'static str,
    fault: Fault,
    /// The outcomes in the columns, and the outcome over minreq if it differs.
    outcome: &'static str,
    others: Vec<(Column, &'static str)>,
    buffer: usize,
}

/// One variant of a row.
#[derive(Clone)]
struct Variant {
    fault: Fault,
    at: At,
    framing: Framing,
    number: usize,
    piece: usize,
    lasting: bool,
}

impl std::fmt::Debug for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, framing, number, piece, .. } = self;
        write!(f, "way {number} at {at:?}, {framing:?}, pieces of {piece}")
    }
}

impl Variant {
    /// Returns what the peer does after this number of faults. Returns `None` if the variant does not exist.
    fn acts(&self, asked: &Asked, faults: usize) -> Option<Vec<Act>> {
        // A permanent fault also affects all later requests.
        if asked.at < self.at || (faults > 0 && !self.lasting) {
            return Some(whole(asked, asked.honest(TOASTERS_HUB)));
        }
        match &self.fault {
            Fault::Line(line) => Some(finish(asked, line(asked.honest(ODD_HUB), self.number)?)),
            Fault::Says(status, retry_after, bodies) => {
                let answer = asked.answer(status, retry_after, bodies.get(self.number)?);
                Some(finish(asked, vec![Act::Bytes(answer, self.piece)]))
            }
            Fault::Http(ways) => Some(in_pieces(ways.get(self.number)?.clone(), self.piece)),
            Fault::Mqtt(_, ways) => Some(in_pieces(ways(asked.id).get(self.number)?.clone(), self.piece)),
        }
    }
}

/// Returns the acts for a correct answer in one piece.
fn whole(asked: &Asked, answer: Vec<u8>) -> Vec<Act> {
    finish(asked, vec![Act::Bytes(answer, usize::MAX)])
}

fn finish(asked: &Asked, mut acts: Vec<Act>) -> Vec<Act> {
    if asked.framing == Framing::UntilClose {
        acts.push(Act::Close);
    }
    acts
}

fn in_pieces(acts: Vec<Act>, piece: usize) -> Vec<Act> {
    let cut = |act| match act {
        Act::Bytes(bytes, usize::MAX) => Act::Bytes(bytes, piece),
        other => other,
    };
    acts.into_iter().map(cut).collect()
}

impl Row {
    fn variants(&self, column: Column) -> Vec<Variant> {
        let mqtt = column == Mqtt;
        let (framings, places): (&[Framing], &[At]) = match (&self.fault, mqtt) {
            (Fault::Http(_), true) | (Fault::Mqtt(..), false) => return Vec::new(),
            (Fault::Mqtt(at, _), true) => (&[Framing::Mqtt], std::slice::from_ref(at)),
            (Fault::Line(_), true) => (&[Framing::Mqtt], &[At::Connect, At::Subscribe, At::Register, At::Poll]),
            (Fault::Says(..), true) => (&[Framing::Mqtt], &[At::Register, At::Poll]),
            (Fault::Http(_), false) => (&[Framing::Length], &[At::Register, At::Poll]),
            _ => (&[Framing::Length, Framing::Chunked, Framing::UntilClose], &[At::Register, At::Poll]),
        };
        let pieces: &[usize] = match self.fault {
            Fault::Line(_) => &[usize::MAX],
            _ if self.is_large() => &[1000],
            _ => &[usize::MAX, 1],
        };
        let mut variants = Vec::new();
        for (&framing, &at, &piece) in framings
            .iter()
            .flat_map(|framing| places.iter().map(move |at| (framing, at)))
            .flat_map(|(framing, at)| pieces.iter().map(move |piece| (framing, at, piece)))
        {
            let asked = Asked { at, id: 1, framing };
            for number in 0.. {
                let variant = Variant { fault: self.fault.clone(), at, framing, number, piece, lasting: true };
                let Some(acts) = variant.acts(&asked, 0) else { break };
                // Variants that take real time are not tried at every byte.
                let slow = acts.iter().any(|act| matches!(act, Act::Pass(_) | Act::Stall | Act::Endless(..)));
                if column == Minreq && slow && number % 150 > 0 {
                    continue;
                }
                variants.push(variant);
            }
        }
        variants
    }

    fn is_large(&self) -> bool {
        matches!(&self.fault, Fault::Says(_, _, bodies) if bodies.iter().any(|body| body.len() > 5000))
    }

    fn expected(&self, column: Column) -> &'static str {
        match (&self.fault, column) {
            (Fault::Http(_), Mqtt) | (Fault::Mqtt(..), Blocking | Async | Minreq) => "–",
            _ => self.others.iter().find(|(other, _)| *other == column).map_or(self.outcome, |(_, outcome)| outcome),
        }
    }

    fn but(mut self, column: Column, outcome: &'static str) -> Self {
        self.others.push((column, outcome));
        self
    }

    fn buffer(mut self, size: usize) -> Self {
        self.buffer = size;
        self
    }
}

fn row(name: &'static str, fault: Fault, outcome: &'static str) -> Row {
    Row { name, fault, outcome, others: Vec::new(), buffer: 1024 }
}

/// The outcome of a run, and what it used.
struct Run {
    outcome: Result<String, Error>,
    time: Duration,
    buffer: usize,
    connections: usize,
    waits: usize,
    most_reads: usize,
    /// A hash of what was sent, and when.
    hash: u64,
}

fn run(column: Column, size: usize, variant: &Variant) -> Run {
    let mut buffer = vec![UNTOUCHED; size];
    let listener = (column == Minreq).then(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let url = listener.as_ref().map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let mut provisioning = toaster();
    if let Some(url) = &url {
        // minreq counts whole seconds of the system clock.
        let policy = RetryPolicy::new().with_request_timeout(SECOND).with_max_retries(1);
        provisioning = provisioning.with_endpoint(Endpoint::parse(url).unwrap()).with_retry_policy(policy);
    }
    let (connections, faults) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let answer = {
        let (variant, faults) = (variant.clone(), faults.clone());
        move |request: &[u8]| {
            let Some(asked) = Asked::read(request, variant.framing) else { return Vec::new() };
            let acts = variant.acts(&asked, faults.load(Ordering::Relaxed)).unwrap();
            faults.fetch_add(usize::from(asked.at >= variant.at), Ordering::Relaxed);
            acts
        }
    };
    let mut script = Script::default();
    let outcome = match &listener {
        Some(listener) => over_minreq(&mut provisioning, &mut buffer, &script, listener, &answer, &connections),
        None => {
            script = Script::answering(answer);
            over(column, &mut provisioning, UNIX_TIME, &mut buffer, &script)
        }
    };
    let outcome = outcome.and_then(|()| Ok(provisioning.result(&buffer)?.assigned_hub().to_string()));
    assert!(faults.load(Ordering::Relaxed) > 0, "the peer had no chance to misbehave");
    let waits = |progress: &&Progress| matches!(progress, Progress::Assigning | Progress::Retrying { .. });
    let requests = script.requests();
    Run {
        outcome,
        time: script.clock.now(),
        buffer: buffer.iter().rposition(|&byte| byte != UNTOUCHED).map_or(0, |last| last + 1),
        connections: requests.len() + connections.load(Ordering::Relaxed),
        waits: script.progress.borrow().iter().filter(waits).count(),
        most_reads: script.most_reads.get(),
        hash: BuildHasherDefault::<DefaultHasher>::new().hash_one((&requests, script.clock.now())),
    }
}

/// Runs over scripted streams, on the script's clock.
fn over(
    column: Column,
    provisioning: &mut Provisioning<'_>,
    unix_time: u64,
    buffer: &mut [u8],
    script: &Script,
) -> Result<(), Error> {
    let clock = script.clock;
    let now = || clock.now();
    let mut key = toaster_key();
    provisioning.start(now(), unix_time);
    let run = match column {
        Blocking => {
            let (mut connect, delay) = (|_| script.connect(), |wait| clock.advance(wait));
            blocking::run(provisioning, &mut key, buffer, &mut connect, now, delay, script.observer())
        }
        Async => {
            let delay = async |wait| clock.sleep(wait).await;
            let mut connect = async |_| script.connect().map(AsyncStream);
            let observe = script.observer();
            clock.block_on(asynch::run(provisioning, &mut key, buffer, &mut connect, now, delay, observe))
        }
        _ => {
            let connect = async || Ok(AsyncStream(script.connect().unwrap()));
            clock.block_on(over_mqtt(provisioning, &mut key, buffer, script, connect));
            return Ok(());
        }
    };
    run.map_err(|error| error.kind())
}

/// Opens a new session for each signature, as the example `mqtt_embedded` does.
async fn over_mqtt<S: embedded_io_async::Read + embedded_io_async::Write>(
    provisioning: &mut Provisioning<'_>,
    key: &mut DeviceKey,
    buffer: &mut [u8],
    script: &Script,
    connect: impl AsyncFn() -> Result<S, Error>,
) {
    let clock = script.clock;
    let mut observe = script.observer();
    loop {
        let step = provisioning.step(clock.now());
        provisioning.progress().into_iter().for_each(&mut observe);
        let done = match step {
            Step::Finished => break,
            Step::Sign => provisioning.sign_with(key, buffer),
            Step::Activate => unreachable!("there is no TPM"),
            Step::Wait(wait) => {
                clock.sleep(wait).await;
                Ok(())
            }
            Step::Send => match clock.until(provisioning.request_deadline(clock.now()), connect()).await {
                Ok(stream) => session::session(provisioning, clock, stream, buffer, &mut observe).await,
                Err(error) => Err(error),
            },
        };
        done.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
    }
}

/// minreq opens its sockets itself.
fn over_minreq(
    provisioning: &mut Provisioning<'_>,
    buffer: &mut [u8],
    script: &Script,
    listener: &TcpListener,
    answer: &(dyn Fn(&[u8]) -> Vec<Act> + Sync),
    connections: &AtomicUsize,
) -> Result<(), Error> {
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let outcome = thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                // The client may close the connection at any time.
                let _ = serve(socket, answer);
            }
        });
        let clock = script.clock;
        let delay = |wait| clock.advance(wait);
        provisioning.start(clock.now(), UNIX_TIME);
        let outcome = https::run(provisioning, &mut toaster_key(), buffer, || clock.now(), delay, script.observer());
        over.store(true, Ordering::Relaxed);
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        outcome.map_err(|error| error.kind())
    });
    // A second for each connection, and a margin for a busy machine.
    let promised = SECOND * connections.load(Ordering::Relaxed) as u32 + 20 * SECOND;
    assert!(begun.elapsed() <= promised, "{:?}", begun.elapsed());
    outcome
}

/// Reads one request completely, so that no byte is left when the socket closes. Then performs the acts of the server.
fn serve(mut socket: TcpStream, answer: &dyn Fn(&[u8]) -> Vec<Act>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !is_complete(&request) {
        match socket.read(&mut piece)? {
            0 => return Ok(()),
            len => request.extend(&piece[..len]),
        }
    }
    for act in answer(&request) {
        if !perform(&mut socket, act)? {
            break;
        }
    }
    Ok(())
}

/// Returns `true` if the connection stays open.
fn perform(socket: &mut TcpStream, act: Act) -> std::io::Result<bool> {
    match act {
        Act::Bytes(bytes, at_once) => bytes.chunks(at_once).try_for_each(|piece| socket.write_all(piece))?,
        Act::Endless(bytes, _) => {
            // As fast as a network, not as fast as memory.
            let many = bytes.repeat(16_384 / bytes.len() + 1);
            loop {
                socket.write_all(&many)?;
                wait(socket, Duration::from_millis(5))?;
            }
        }
        // minreq's time-out is a second here, the others' a minute.
        Act::Pass(by) => wait(socket, by / 60)?,
        Act::Stall => wait(socket, 60 * SECOND)?,
        Act::Close => return Ok(false),
        // Closing a socket with SO_LINGER 0 resets the connection.
        Act::Fail => {
            socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO))?;
            return Ok(false);
        }
        Act::FailAs(_) | Act::TakeNothing | Act::Interrupt(..) => unreachable!("not over a socket"),
    }
    Ok(true)
}

/// Waits for this time, or until the client closes the connection.
fn wait(socket: &mut TcpStream, time: Duration) -> std::io::Result<()> {
    socket.set_read_timeout(Some(time))?;
    match socket.read(&mut [0]) {
        Ok(_) => Err(std::io::ErrorKind::ConnectionReset.into()),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// Returns the name of the error in the table.
fn name(error: Error) -> String {
    match error {
        Error::Malformed(Malformed::Json(error)) => format!("Malformed(Json({:?}))", error.problem),
        Error::BufferTooSmall(_) => "BufferTooSmall".into(),
        Error::Refused(refusal) => format!("Refused({})", refusal.http_status),
        Error::Failed(_) => "Failed".into(),
        Error::OperationLost(_) => "OperationLost".into(),
        other => format!("{other:?}"),
    }
}

/// Returns the assignment to the wrong hub, with this payload.
fn odd(payload: &str) -> String {
    let payload = if payload.is_empty() { r#""x":0"# } else { payload };
    ASSIGNED.replace(TOASTERS_HUB, ODD_HUB).replace(r#""property1":"value1""#, payload)
}

/// Returns the assignment to the wrong hub, with a part replaced.
fn odd_but(part: &str, other: &str) -> Vec<u8> {
    let odd = odd("");
    assert!(odd.contains(part), "{part}");
    odd.replacen(part, other, 1).into_bytes()
}

fn says(
    status: &'static str,
    retry_after: &'static str,
    bodies: impl IntoIterator<Item = impl Into<Vec<u8>>>,
) -> Fault {
    Fault::Says(status, retry_after, bodies.into_iter().map(Into::into).collect())
}

fn ok(bodies: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Fault {
    says("200 OK", "", bodies)
}

/// This head, then the assignment to the wrong hub, then the end of the connection.
fn heads(heads: impl IntoIterator<Item = impl AsRef<str>>) -> Fault {
    http(
        heads
            .into_iter()
            .map(|head| head.as_ref().replace("LENGTH", &odd("").len().to_string()) + "\r\n\r\n" + &odd("")),
    )
}

/// Returns the fault: these answers, then the end of the connection.
fn http(answers: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Fault {
    Fault::Http(answers.into_iter().map(|answer| vec![Act::Bytes(answer.into(), usize::MAX), Act::Close]).collect())
}

fn then(start: &str, act: Act) -> Fault {
    Fault::Http(vec![vec![Act::Bytes(start.into(), usize::MAX), act]])
}

fn endless(start: &str, rest: &str) -> Fault {
    then(start, Act::Endless(rest.into(), Duration::ZERO))
}

fn bytes(bytes: impl Into<Vec<u8>>) -> Act {
    Act::Bytes(bytes.into(), usize::MAX)
}

const CLOSED: &str = "Transport(Closed)";
const STREAM: &str = "Transport(Stream)";
const STALLED: &str = "Transport(Stalled)";
const HEAD: &str = "Malformed(HttpHead)";
const CHUNK: &str = "Malformed(HttpChunk)";
const SYNTAX: &str = "Malformed(Json(Syntax))";
const PACKET: &str = "Malformed(Invalid(\"MQTT packet\"))";
const TOO_SMALL: &str = "BufferTooSmall";
const OK_CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const LARGE: usize = 1 << 20;

fn rows() -> Vec<Row> {
    let mut rows = line_rows();
    rows.extend(document_rows());
    rows.extend(head_rows());
    rows.extend(body_rows());
    rows.extend(packet_rows());
    rows
}

/// Answers over lines that break, stall or trickle.
fn line_rows() -> Vec<Row> {
    let line = Fault::Line;
    vec![
        row("behaves correctly", line(|answer, way| (way == 0).then(|| vec![bytes(answer)])), "assigned"),
        row(
            "sends one byte at a time",
            line(|answer, way| (way == 0).then(|| vec![Act::Bytes(answer, 1)])),
            "assigned",
        ),
        row(
            "closes the connection after any byte",
            line(|answer, at| (at < answer.len()).then(|| vec![bytes(&answer[..at]), Act::Close])),
            CLOSED,
        )
        .but(Minreq, "Malformed(HttpHead), Transport(Closed), assigned"),
        row(
            "resets the connection after any byte",
            line(|answer, at| (at < answer.len()).then(|| vec![bytes(&answer[..at]), Act::Fail])),
            CLOSED,
        ),
        row(
            "answers, then resets the connection",
            // Over a socket too: Linux delivers the bytes that came before the reset.
            line(|answer, way| (way == 0).then(|| vec![bytes(answer), Act::Fail])),
            "Transport(Closed), assigned",
        ),
        row(
            "stays silent after any byte",
            line(|answer, at| (at < answer.len()).then(|| vec![bytes(&answer[..at]), Act::Stall])),
            STALLED,
        ),
        row(
            "is silent for five seconds after any byte",
            line(|answer, at| {
                let (start, rest) = answer.split_at_checked(at).filter(|(_, rest)| !rest.is_empty())?;
                Some(vec![bytes(start), Act::Pass(5 * SECOND), bytes(rest)])
            }),
            "assigned",
        ),
        row(
            "sends one byte every ten seconds",
            line(|answer, way| {
                let trickle = |byte| [Act::Pass(10 * SECOND), bytes([byte])];
                (way == 0).then(|| answer.into_iter().flat_map(trickle).collect())
            }),
            STALLED,
        ),
        row(
            "answers with SSH",
            line(|_, way| (way == 0).then(|| vec![bytes("SSH-2.0-OpenSSH_9.2\r\n"), Act::Close])),
            HEAD,
        )
        .but(Minreq, CLOSED)
        .but(Mqtt, PACKET),
        row("sends only zeros", line(|_, way| (way == 0).then(|| vec![bytes([0; 2000]), Act::Close])), HEAD)
            .but(Minreq, CLOSED)
            .but(Mqtt, PACKET),
    ]
}

/// Faults in the content of answers.
fn document_rows() -> Vec<Row> {
    let deep = |brackets: &str, end: &str| odd(&format!("\"x\":{}0{}", brackets.repeat(10_000), end.repeat(10_000)));
    let number = |number: &str| odd(&format!("\"x\":{number}"));
    let long = odd(&format!("\"x\":\"{}\"", "x".repeat(LARGE)));
    let invalid = |bytes: &[u8]| {
        let odd = odd("\"x\":\"!!!\"");
        let at = odd.find("!!!").unwrap();
        [&odd.as_bytes()[..at], bytes, &odd.as_bytes()[at + 3..]].concat()
    };
    vec![
        row("JSON 10 000 deep", ok([deep("[", "]"), deep("{\"x\":", "}")]), "Malformed(Json(Depth))").buffer(1 << 17),
        row("a string of 1 MB", ok([long.clone()]), TOO_SMALL),
        row("a string of 1 MB, and a large enough buffer", ok([long]), "assigned").buffer(LARGE + 2000),
        row(
            "invalid UTF-8",
            ok([&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"].map(invalid)),
            "Malformed(Json(Utf8))",
        ),
        row(
            "half a surrogate pair, unknown escapes",
            ok([&b"\\ud800"[..], b"\\udc00x", b"\\x00", b"\n"].map(invalid)),
            SYNTAX,
        ),
        row(
            "the hub twice",
            ok([odd_but("\"assignedHub\":", "\"assignedHub\":\"x\",\"assignedHub\":")]),
            "Malformed(Duplicate(\"assignedHub\"))",
        ),
        row(
            "the status twice, one of them escaped",
            ok([odd_but("\"status\":", "\"st\\u0061tus\":\"failed\",\"status\":")]),
            "Malformed(Duplicate(\"status\"))",
        ),
        row(
            "the registration state twice",
            ok([odd_but("\"registrationState\":", "\"registrationState\":{},\"registrationState\":")]),
            "Malformed(Duplicate(\"registrationState\"))",
        ),
        row("a member of the payload twice", ok([odd("\"x\":1,\"x\":2,\"assignedHub\":\"x\"")]), "assigned"),
        row("odd numbers", ok(["-0", "1e999", "-1E-999", "0.0e+0", &"9".repeat(100)].map(number)), "assigned"),
        row("an invalid number", ok(["01", "+1", ".5", "1.", "0x1", "1e", "NaN", "-", "Infinity"].map(number)), SYNTAX),
        row(
            "a hub that is not a host name",
            ok(["\"\"", "\"hub/path\"", "\"hub\\r\\nX: y\"", "\"hub;SharedAccessKey=x\"", "\"h\u{fc}b\"", "7", "{}"]
                .map(|hub| odd_but(&format!("\"{ODD_HUB}\""), hub))),
            "Malformed(Invalid(\"assignedHub\"))",
        ),
        row(
            "no hub",
            ok([odd_but(&format!("\"{ODD_HUB}\""), "null"), odd_but("assignedHub", "assignedhub")]),
            "Malformed(Missing(\"assignedHub\"))",
        ),
        row(
            "another device's assignment",
            ok([odd_but(TOASTER, HEAT_PUMP)]),
            "Malformed(Contradiction(\"registrationId\"))",
        ),
        row(
            "`assigned`, but `assigning` in the registration state",
            ok([odd_but("\"status\":\"assigned\",\"sub", "\"status\":\"assigning\",\"sub")]),
            "StillAssigning",
        ),
        row(
            "`assigned`, but `failed` in the registration state",
            ok([odd_but("\"status\":\"assigned\",\"sub", "\"status\":\"failed\",\"sub")]),
            "Malformed(Contradiction(\"registrationState.status\"))",
        ),
        row(
            "an operation ID of 129 bytes",
            ok([format!("{{\"operationId\":\"{}\",\"status\":\"assigning\"}}", "x".repeat(129))]),
            "Malformed(Invalid(\"operationId\"))",
        ),
        row(
            "more bytes after the document",
            ok([odd("") + "x", odd("") + "{}", odd("") + "\0"]),
            "Malformed(Json(Trailing))",
        ),
        row("an empty or incomplete document", ok(["", "{", "{\"status\":\"assigned\"", "{\"\""]), CLOSED),
        row("not a JSON object", ok(["<html>", "\u{feff}{}", "null", "7", "[]"]), "Malformed(Json(NotAnObject))"),
        row("permanent `assigning`", ok([ASSIGNING]), "StillAssigning"),
        row("an unknown status", ok([ASSIGNING.replace("assigning", "pondering")]), "StillAssigning"),
        row("`Retry-After` of 0", says("202 Accepted", "0", [ASSIGNING]), "StillAssigning"),
        row("`Retry-After` of 4294967295", says("202 Accepted", "4294967295", [ASSIGNING]), "StillAssigning"),
        row(
            "`Retry-After` of 10³⁰",
            says("202 Accepted", "1000000000000000000000000000000", [ASSIGNING]),
            "StillAssigning",
        ),
        row("`Retry-After` of -1", says("202 Accepted", "-1", [ASSIGNING]), "StillAssigning"),
        row(
            "`Retry-After` with a date",
            says("202 Accepted", "Fri, 31 Dec 9999 23:59:59 GMT", [ASSIGNING]),
            "StillAssigning",
        ),
        row(
            "failed",
            ok([r#"{"status":"failed","registrationState":{"errorCode":1e999}}"#, r#"{"status":"failed"}"#]),
            "Failed",
        ),
        row("disabled", ok([r#"{"status":"disabled"}"#]), "Disabled"),
        row("401", says("401 Unauthorized", "", [r#"{"errorCode":401000}"#, "<html>", ""]), "Refused(401)"),
        row("404, and an assignment", says("404 Not Found", "", [odd("")]), "OperationLost, Refused(404)"),
        row("permanent 409203", says("409 Conflict", "", [r#"{"errorCode":409203}"#]), "Refused(409)"),
        row("429", says("429 Too Many Requests", "", [r#"{"errorCode":429001}"#, ""]), "Refused(429)"),
        row("429, `Retry-After` of 4294967295", says("429 Too Many Requests", "4294967295", [""]), "Refused(429)"),
        row("503, `Retry-After` of 0", says("503 Unavailable", "0", [""]), "Refused(503)"),
        row("511, a captive portal", says("511 Network Authentication Required", "", ["<html>"]), "Refused(511)"),
        row("a redirect", says("307 Temporary Redirect", "", [odd("")]), "Refused(307)"),
        row("status 999", says("999 Odd", "", [odd("")]), "Refused(999)"),
    ]
}

/// Faults in HTTP heads.
fn head_rows() -> Vec<Row> {
    let with = |header: &str| format!("HTTP/1.1 200 OK\r\n{header}");
    let length = |length: &str| with(&format!("Content-Length: {length}"));
    vec![
        row(
            "a redirect to another host",
            http(["301", "302", "303", "307", "308"].map(|status| {
                format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            })),
            "Refused(301), Refused(302), Refused(303), Refused(307), Refused(308)",
        ),
        row("HTTP/1.0", heads(["HTTP/1.0 200 OK", "HTTP/1.0 200 OK\r\nContent-Length: LENGTH"]), "assigned"),
        row("HTTP/1.0 with chunks", heads(["HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"]), HEAD).but(Minreq, CHUNK),
        row("HTTP/2, HTTP/0.9", heads(["HTTP/2 200 OK\r\nContent-Length: LENGTH", "HTTP/0.9 200 OK"]), HEAD)
            .but(Minreq, "assigned"),
        row(
            "answers twice",
            http([format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", odd("").len(), odd("")).repeat(2)]),
            "assigned",
        ),
        row(
            "a refusal (409203), closed after any byte",
            Fault::Http(Vec::from_iter([Framing::Length, Framing::Chunked].into_iter().flat_map(|framing| {
                let asked = Asked { at: At::Register, id: 0, framing };
                let refusal = asked.answer("409 Conflict", "", br#"{"errorCode":409203}"#);
                (0..refusal.len()).map(move |at| vec![bytes(&refusal[..at]), Act::Close])
            }))),
            CLOSED,
        )
        .but(Minreq, "Malformed(HttpHead), Refused(409), Transport(Closed)"),
        row(
            "a head of about 8 KB",
            Fault::Http(Vec::from_iter((8188..8193).map(|length| {
                let line = "x".repeat(length - 3);
                vec![Act::Bytes((with(&format!("X: {line}\r\n\r\n")) + &odd("")).into(), WHOLE), Act::Close]
            }))),
            "assigned",
        )
        .buffer(1 << 14),
        row(
            "100-continue first",
            heads(["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: LENGTH"]),
            "assigned",
        )
        .but(Minreq, HEAD),
        row("100-continue without end", endless("", "HTTP/1.1 100 Continue\r\n\r\n"), HEAD),
        row("101, another protocol", heads(["HTTP/1.1 101 Switching Protocols\r\nUpgrade: x"]), HEAD),
        row(
            "200 without a body",
            http([
                "HTTP/1.1 200 OK\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 204 No Content\r\n\r\n",
            ]),
            CLOSED,
        ),
        row("a header line without end", endless("HTTP/1.1 200 OK\r\nX: ", "x"), TOO_SMALL).but(Minreq, STALLED),
        row("header lines without end", endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"), "Malformed(TooManyHeaders)")
            .but(Minreq, STALLED),
        row(
            "33 header lines",
            heads([with(&"X: y\r\n".repeat(32)) + "Content-Length: LENGTH"]),
            "Malformed(TooManyHeaders)",
        )
        .but(Minreq, "assigned"),
        row("a status line without end", endless("HTTP/1.1 200 ", "x"), TOO_SMALL)
            .but(Minreq, "Malformed(TooManyHeaders)"),
        row("lines that end with LF only", heads(["HTTP/1.1 200 OK\nX: y\nContent-Length: LENGTH"]), "assigned"),
        row(
            "a header that is not UTF-8",
            http([[&b"HTTP/1.1 200 OK\r\nX: \xff\r\n\r\n"[..], odd("").as_bytes()].concat()]),
            "assigned",
        )
        .but(Minreq, HEAD),
        row("a zero in a header", heads(["HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: LENGTH"]), HEAD)
            .but(Minreq, "assigned"),
        row(
            "a header without a colon, a folded header",
            heads([
                "HTTP/1.1 200 OK\r\nX\r\nContent-Length: LENGTH",
                "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: LENGTH",
            ]),
            HEAD,
        )
        .but(Minreq, "assigned"),
        row("`Content-Length` that is too long, then closes", heads([length("900")]), CLOSED),
        row(
            "`Content-Length` that is too long, then is silent",
            then(&(length("900") + "\r\n\r\n" + &odd("")), Act::Stall),
            STALLED,
        ),
        row(
            "`Content-Length` that is too short, the rest at once",
            Fault::Http(vec![vec![Act::Bytes((length("300") + "\r\n\r\n" + &odd("")).into(), WHOLE), Act::Close]]),
            CLOSED,
        ),
        row(
            "`Content-Length` that is -1, not a number, or two numbers",
            heads(["-1", "", "abc", "1, 1", "0x10", "1.5"].map(length)),
            HEAD,
        ),
        row(
            "`Content-Length` of 2³² and more",
            heads(["4294967296", "18446744073709551615", "99999999999999999999999"].map(length)),
            HEAD,
        ),
        row("`Content-Length` of 2³² - 1", heads([length("4294967295")]), TOO_SMALL),
        row(
            "two `Content-Length`s that differ",
            heads([length("300\r\nContent-Length: LENGTH"), length("LENGTH\r\nContent-Length: 300")]),
            HEAD,
        ),
        row("two `Content-Length`s that agree", heads([length("LENGTH\r\nContent-Length: LENGTH")]), "assigned"),
        row(
            "`Content-Length` and chunks",
            http([with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"x\":\r\n0\r\n\r\n")]),
            HEAD,
        ),
        row("`Transfer-Encoding: gzip`", heads([with("Transfer-Encoding: gzip")]), HEAD),
    ]
}

/// Faults in HTTP bodies.
fn body_rows() -> Vec<Row> {
    let chunks = |chunks: &str| OK_CHUNKED.to_string() + chunks;
    vec![
        row("a body without end", endless("HTTP/1.1 200 OK\r\n\r\n{\"x\":\"", "x"), TOO_SMALL),
        row("chunks without end", endless(OK_CHUNKED, "1\r\nx\r\n"), TOO_SMALL),
        row("a chunk's extension without end", endless(&chunks("1;"), "x"), TOO_SMALL).but(Minreq, CHUNK),
        row("trailers without end", endless(&chunks("2\r\n{}\r\n0\r\n"), "X: y\r\n"), "Malformed(TooManyHeaders)")
            .but(Minreq, STALLED),
        row(
            "a chunk of 2⁶⁴ and more",
            http([chunks("10000000000000000\r\n{"), chunks("fffffffffffffffffffff\r\n{")]),
            CHUNK,
        ),
        row("a chunk of 2⁶⁴ - 1", http([chunks("ffffffffffffffff\r\n{")]), TOO_SMALL).but(Minreq, CLOSED),
        row(
            "a chunk without a valid size",
            http(["-1", "+1", "x", " ", "", ";x", "0x1"].map(|size| chunks(&format!("{size}\r\n{{\r\n0\r\n\r\n")))),
            CHUNK,
        )
        .but(Minreq, "Malformed(HttpChunk), Transport(Closed)"),
        row("a chunk longer than it says", http([chunks("2\r\n{\"x\"\r\n0\r\n\r\n")]), CHUNK),
    ]
}

/// Faults in MQTT packets.
fn packet_rows() -> Vec<Row> {
    let mqtt = Fault::Mqtt;
    vec![
        row(
            "CONNACK 1, 2",
            mqtt(At::Connect, |_| [1, 2].map(|code| vec![bytes([0x20, 2, 0, code])]).into()),
            "Refused(400)",
        ),
        row("CONNACK 3, unavailable", mqtt(At::Connect, |_| vec![vec![bytes([0x20, 2, 0, 3])]]), "Refused(503)"),
        row(
            "CONNACK 4, 5, not authorized",
            mqtt(At::Connect, |_| [4, 5].map(|code| vec![bytes([0x20, 2, 0, code])]).into()),
            "Refused(401)",
        ),
        row(
            "CONNACK 6, 255",
            mqtt(At::Connect, |_| [6, 255].map(|code| vec![bytes([0x20, 2, 0, code])]).into()),
            PACKET,
        ),
        row("SUBACK with a failure code", mqtt(At::Subscribe, |_| vec![vec![bytes([0x90, 3, 0, 1, 0x80])]]), PACKET),
        row("sends DISCONNECT", mqtt(At::Poll, |_| vec![vec![bytes([0xe0, 0])]]), PACKET),
        row(
            "invalid, incomplete or unexpected packets",
            mqtt(At::Register, |_| {
                let packets: [&[u8]; 10] = [
                    &[0, 0],
                    &[0x20, 0],
                    &[0x20, 0x80, 0],
                    &[0x32, 2, 0, 0],
                    &[0x30, 0],
                    &[0x30, 1, 0],
                    &[0x30, 2, 0, 9],
                    &[0x30, 0xff, 0xff, 0xff, 0xff, 1],
                    &[0x10, 0],
                    &[0xf0, 0],
                ];
                packets.map(|packet| vec![bytes(packet), bytes([0; 3000])]).into()
            }),
            PACKET,
        ),
        row(
            "a topic that is not UTF-8, or is longer than its packet",
            mqtt(At::Poll, |_| {
                vec![vec![bytes(publish(0x30, b"\xff", b"{}"))], vec![bytes([0x30, 4, 0, 9, b'x', b'y'])]]
            }),
            PACKET,
        ),
        row(
            "a packet of 2 KB, or of 268 MB",
            mqtt(At::Poll, |_| {
                vec![
                    vec![bytes(publish(0x30, b"x", &[b'x'; 2000]))],
                    vec![bytes([0x30, 0xff, 0xff, 0xff, 0x7f]), Act::Endless(vec![0], Duration::ZERO)],
                ]
            }),
            TOO_SMALL,
        ),
        row(
            "a length that is too long, then closes",
            mqtt(At::Poll, |id| {
                let mut packet =
                    publish(0x30, format!("$dps/registrations/res/200/?$rid={id}").as_bytes(), odd("").as_bytes());
                packet[1] += 1;
                vec![vec![bytes(packet), Act::Close]]
            }),
            CLOSED,
        ),
        row(
            "a status that is not a number",
            mqtt(At::Poll, |id| {
                ["", "ok", "-200", "65536"]
                    .map(|status| {
                        vec![bytes(publish(
                            0x30,
                            format!("$dps/registrations/res/{status}/?$rid={id}").as_bytes(),
                            odd("").as_bytes(),
                        ))]
                    })
                    .into()
            }),
            "Malformed(MqttTopic)",
        ),
        row(
            "the answer to another request, other topics, then closes",
            mqtt(At::Poll, |id| {
                let topics = [
                    format!("$dps/registrations/res/200/?$rid={}", id + 1),
                    format!("$dps/registrations/res/200/?$rid={}", id - 1),
                    "x".into(),
                    "$dps/registrations/res/200/".into(),
                ];
                topics.map(|topic| vec![bytes(publish(0x30, topic.as_bytes(), odd("").as_bytes())), Act::Close]).into()
            }),
            CLOSED,
        ),
        row(
            "other packets of the session, then closes",
            mqtt(At::Poll, |_| {
                [&[0xd0, 0][..], &[0x20, 2, 0, 0], &[0x90, 3, 0, 1, 0]]
                    .map(|packet| vec![bytes(packet), Act::Close])
                    .into()
            }),
            CLOSED,
        ),
        row(
            "other topics, then the answer",
            mqtt(At::Poll, |id| {
                vec![vec![
                    bytes(publish(0x30, b"x", b"{}")),
                    bytes(publish(
                        0x30,
                        format!("$dps/registrations/res/200/?$rid={id}").as_bytes(),
                        odd("").as_bytes(),
                    )),
                ]]
            }),
            "assigned",
        ),
        row(
            "the same answer twice",
            mqtt(At::Register, |id| {
                let answer =
                    publish(0x30, format!("$dps/registrations/res/202/?$rid={id}").as_bytes(), ASSIGNING.as_bytes());
                vec![vec![bytes(answer.clone()), bytes(answer.clone())], vec![Act::Bytes(answer.repeat(2), WHOLE)]]
            }),
            "StillAssigning",
        ),
        row(
            "other topics without end",
            mqtt(At::Poll, |_| vec![vec![Act::Endless(publish(0x30, b"x", b"{}"), SECOND / 10)]]),
            STALLED,
        ),
    ]
}

/// The result of a cell.
#[derive(Default)]
struct Figures {
    time: Duration,
    buffer: usize,
    /// A hash of each run.
    runs: Vec<u64>,
}

/// Runs all variants of a row over one transport.
fn cell(row: &Row, column: Column) -> Result<Figures, String> {
    let expected = row.expected(column);
    let variants = row.variants(column);
    let both = |variant| both(row, column, variant).map_err(|problem| format!("{column:?}, {variant:?}: {problem}"));
    let seen: Vec<_> = match column {
        // Most of the time is waiting.
        Minreq => thread::scope(|scope| {
            let chunks = variants.chunks(variants.len().div_ceil(24).max(1));
            let threads: Vec<_> =
                chunks.map(|chunk| scope.spawn(move || Vec::from_iter(chunk.iter().map(both)))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        }),
        _ => variants.iter().map(both).collect(),
    };
    let mut cell = Figures::default();
    let mut outcomes = BTreeMap::new();
    for (pair, variant) in seen.into_iter().zip(&variants) {
        let (outcome, runs) = pair?;
        outcomes.entry(outcome).or_insert(variant);
        for run in runs {
            cell.time = cell.time.max(run.time);
            cell.buffer = cell.buffer.max(run.buffer);
            cell.runs.push(run.hash);
        }
    }
    match Vec::from_iter(outcomes.keys().cloned()).join(", ") {
        outcome if variants.is_empty() || outcome == expected => Ok(cell),
        _ => Err(format!("{column:?}: expected {expected}, got {outcomes:?}")),
    }
}

/// Runs a variant with a permanent fault and with a single fault, and checks the rules for all rows.
fn both(row: &Row, column: Column, variant: &Variant) -> Result<(String, [Run; 2]), String> {
    let may_be_odd = row.expected(column).contains("assigned");
    let runs = [false, true].map(|lasting| {
        let variant = Variant { lasting, ..variant.clone() };
        let run = catch_unwind(|| run(column, row.buffer, &variant)).map_err(|_| "panicked".to_string())?;
        let Run { outcome, time, buffer, connections, waits, most_reads, .. } = &run;
        let wrong = |what: &str| Err(format!("{what} (lasting: {lasting}): {outcome:?}"));
        // A read of a blocking stream may end late, and the session sends DISCONNECT.
        let late = if column == Async { Duration::ZERO } else { READ_TIMEOUT };
        match outcome {
            Ok(hub) if hub != TOASTERS_HUB && !(may_be_odd && hub == ODD_HUB) => wrong("a wrong hub"),
            _ if *time > RetryPolicy::new().timeout() + late => wrong(&format!("took {time:?}")),
            _ if *buffer > row.buffer => wrong("beyond the buffer"),
            _ if *connections > 2 + 2 * waits => wrong(&format!("{connections} connections, {waits} waits")),
            _ if *most_reads > 16 * row.buffer => wrong(&format!("{most_reads} reads while no time passed")),
            _ => Ok(run),
        }
    });
    let [once, lasting] = runs;
    let (once, lasting) = (once?, lasting?);
    Ok((outcome(&lasting.outcome, &once.outcome)?, [once, lasting]))
}

/// Returns the outcome in the cell, if the two outcomes are consistent.
fn outcome(lasting: &Result<String, Error>, once: &Result<String, Error>) -> Result<String, String> {
    match (lasting, once) {
        (Ok(_), Ok(_)) => Ok("assigned".into()),
        (Err(error), Ok(hub)) if error.is_retryable() && hub == TOASTERS_HUB => Ok(name(*error)),
        (Err(error), Err(other)) if !error.is_retryable() && name(*error) == name(*other) => Ok(name(*error)),
        (lasting, once) => Err(format!("{lasting:?}, but once {once:?}")),
    }
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/evidence/faults.md");

/// Compares a table with the one in the document, or writes it there.
fn documented(title: &str, table: &str) {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let heading = format!("\n## {title}\n");
    let section =
        document.find(&heading).unwrap_or_else(|| panic!("docs/evidence/faults.md needs the section {title}"));
    let begin = section + document[section..].find("\n|").unwrap() + 1;
    let end = begin + document[begin..].find("\n\n").map_or(document.len() - begin, |end| end + 1);
    if document[begin..end] == *table {
        return;
    }
    if env::var_os("AZURE_DPS_BLESS").is_some() {
        fs::write(DOCUMENT, [&document[..begin], table, &document[end..]].concat()).unwrap();
    } else {
        panic!("docs/evidence/faults.md, section {title}, needs the table\n{table}");
    }
}

#[test]
fn every_fault_over_every_transport() {
    let rows = rows();
    let filter = env::var("AZURE_DPS_FAULT").unwrap_or_default();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((number, row)) = rows.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
                    if row.name.contains(&filter) {
                        let begun = Instant::now();
                        let cells = COLUMNS.map(|column| cell(row, column));
                        results.lock().unwrap().push((number, cells, begun.elapsed()));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(number, ..)| *number);
    let mut table = String::from(
        "| The server | `blocking` | `asynch` | `https` | MQTT | time | buffer |\n|---|---|---|---|---|---|---|\n",
    );
    let (mut failed, mut runs) = (String::new(), 0);
    let (mut longest, mut largest) = (Duration::ZERO, 0);
    for (number, cells, took) in &results {
        let row = &rows[*number];
        println!("{took:8.2?} {}", row.name);
        let (mut time, mut buffer) = (Duration::ZERO, 0);
        write!(table, "| {} |", row.name).unwrap();
        for (column, cell) in COLUMNS.iter().zip(cells) {
            write!(table, " {} |", row.expected(*column)).unwrap();
            match cell {
                Ok(cell) => {
                    time = time.max(cell.time);
                    buffer = buffer.max(cell.buffer);
                    runs += cell.runs.len();
                }
                Err(problem) => writeln!(failed, "{}: {problem}", row.name).unwrap(),
            }
        }
        writeln!(table, " {:.1} s | {buffer} B |", time.as_secs_f64()).unwrap();
        if let [Ok(blocking), Ok(asynchronous), ..] = cells
            && row.expected(Blocking) == row.expected(Async)
            // A blocking read without bytes ends with the time-out of the stream, which is shorter.
            && row.expected(Async) != STALLED
            && blocking.runs != asynchronous.runs
        {
            writeln!(failed, "{}: the async transport sends other requests, or at other times", row.name).unwrap();
        }
        longest = longest.max(time);
        largest = largest.max(buffer);
    }
    println!("{} rows, {runs} runs, {longest:?}, {largest} B", results.len());
    assert!(failed.is_empty(), "{failed}");
    if filter.is_empty() {
        documented("The table", &table);
    }
}

const MAX: Duration = Duration::MAX;
/// The last reading of the clock that a run can tell from earlier ones: 136 years.
const CLOCK_MAX: Duration = Duration::new(u32::MAX as u64, 999_999_999);

/// The start of the clock, the policy, and the outcome of an honest run.
#[test]
fn the_limits_of_time() {
    let policy = RetryPolicy::new;
    for (start, policy, expected) in [
        (Duration::ZERO, policy(), Ok(TOASTERS_HUB)),
        (CLOCK_MAX - 600 * SECOND, policy(), Ok(TOASTERS_HUB)),
        // The clock reaches its maximum before the first poll.
        (CLOCK_MAX - 3 * SECOND, policy(), Err(Error::StillAssigning)),
        (CLOCK_MAX - Duration::from_nanos(1), policy(), Err(Error::StillAssigning)),
        (CLOCK_MAX, policy(), Err(Error::TimedOut)),
        (CLOCK_MAX + Duration::from_nanos(1), policy(), Err(Error::TimedOut)),
        (MAX, policy(), Err(Error::TimedOut)),
        (CLOCK_MAX / 2, policy().with_timeout(MAX).with_request_timeout(MAX), Ok(TOASTERS_HUB)),
        (Duration::ZERO, policy().with_poll_interval(MAX).with_timeout(MAX), Ok(TOASTERS_HUB)),
        (Duration::ZERO, policy().with_timeout(Duration::ZERO), Err(Error::TimedOut)),
        (Duration::ZERO, policy().with_timeout(Duration::from_nanos(1)), Err(Error::StillAssigning)),
        (Duration::ZERO, policy().with_request_timeout(Duration::ZERO), Err(Error::Transport(TransportError::Stalled))),
        (Duration::ZERO, policy().with_poll_interval(Duration::ZERO).with_max_retries(0), Ok(TOASTERS_HUB)),
    ] {
        for column in [Blocking, Async, Mqtt] {
            for unix_time in [0, u64::MAX] {
                let script = honest(column, "");
                script.clock.advance(start);
                let mut provisioning = toaster().with_retry_policy(policy);
                let mut buffer = [0; 1024];
                let outcome = over(column, &mut provisioning, unix_time, &mut buffer, &script)
                    .and_then(|()| Ok(provisioning.result(&buffer)?.assigned_hub().to_string()));
                let what = format!("{start:?}, {policy:?}, {column:?}, {unix_time}");
                assert_eq!(outcome.as_deref(), expected.as_deref(), "{what}");
            }
        }
    }
}

/// Returns the script of a service with this `Retry-After` in its first answer.
fn honest(column: Column, retry_after: &'static str) -> Script {
    let framing = if column == Mqtt { Framing::Mqtt } else { Framing::Length };
    Script::answering(move |request| match Asked::read(request, framing) {
        Some(asked) if asked.at == At::Register => {
            whole(&asked, asked.answer("202 Accepted", retry_after, ASSIGNING.as_bytes()))
        }
        Some(asked) => whole(&asked, asked.honest(TOASTERS_HUB)),
        None => Vec::new(),
    })
}

/// A service that gives this answer to one kind of request for some time, and then is honest.
struct Outage {
    name: &'static str,
    at: At,
    seconds: u64,
    status: &'static str,
    retry_after: &'static str,
    body: &'static str,
}

const THROTTLED: Outage = Outage {
    name: "429 for 60 s",
    at: At::Register,
    seconds: 60,
    status: "429 Too Many Requests",
    retry_after: "",
    body: r#"{"errorCode":429001}"#,
};
const FAILING: Outage = Outage { status: "503 Service Unavailable", body: "", ..THROTTLED };
const LOST: Outage = Outage { at: At::Poll, status: "404 Not Found", body: r#"{"errorCode":404201}"#, ..THROTTLED };

/// Runs all outages with the default policy.
#[test]
fn outages_end_with_an_assignment() {
    let mut table = String::from(
        "| The service | `blocking` | `asynch` | `https` | MQTT | time | requests |\n|---|---|---|---|---|---|---|\n",
    );
    for outage in [
        THROTTLED,
        Outage { name: "429 for 60 s, `Retry-After` of 3", retry_after: "3", ..THROTTLED },
        Outage { name: "429 for 300 s", seconds: 300, ..THROTTLED },
        Outage { name: "429 for 300 s, `Retry-After` of 3", seconds: 300, retry_after: "3", ..THROTTLED },
        Outage { name: "429 for 60 s, to polls", at: At::Poll, ..THROTTLED },
        Outage { name: "503 for 60 s", ..FAILING },
        Outage { name: "503 for 300 s", seconds: 300, ..FAILING },
        Outage { name: "503 for 300 s, to polls", at: At::Poll, seconds: 300, ..FAILING },
        Outage { name: "409203 for 60 s", status: "409 Conflict", body: r#"{"errorCode":409203}"#, ..THROTTLED },
        Outage {
            name: "409203 for 60 s, `Retry-After` of 3",
            status: "409 Conflict",
            retry_after: "3",
            body: r#"{"errorCode":409203}"#,
            ..THROTTLED
        },
        Outage { name: "has lost the operation: 404 to the first poll", seconds: 4, ..LOST },
        Outage { name: "the same, without a document", seconds: 4, body: "", ..LOST },
    ] {
        write!(table, "| {} |", outage.name).unwrap();
        let mut seen = Vec::new();
        for column in COLUMNS {
            let (outcome, time, requests) = live_through(&outage, column);
            assert_eq!(outcome.as_deref(), Ok(TOASTERS_HUB), "{}, {column:?}", outage.name);
            write!(table, " assigned |").unwrap();
            seen.push((time, requests));
        }
        assert!(seen.iter().all(|other| *other == seen[0]), "{}: {seen:?}", outage.name);
        let (time, requests) = seen[0];
        assert!(time.as_secs() <= outage.seconds + 130, "{time:?}");
        writeln!(table, " {:.1} s | {requests} |", time.as_secs_f64()).unwrap();
    }
    documented("Outages", &table);
}

/// Returns how a run ends, after which virtual time, and with how many requests to DPS.
fn live_through(outage: &Outage, column: Column) -> (Result<String, Error>, Duration, usize) {
    let framing = if column == Mqtt { Framing::Mqtt } else { Framing::Length };
    let (millis, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let answer = {
        let (millis, requests) = (millis.clone(), requests.clone());
        let (at, end, status, retry_after, body) =
            (outage.at, outage.seconds * 1000, outage.status, outage.retry_after, outage.body);
        move |request: &[u8]| {
            let Some(asked) = Asked::read(request, framing) else { return Vec::new() };
            requests.fetch_add(usize::from(asked.at >= At::Register), Ordering::Relaxed);
            match asked.at == at && millis.load(Ordering::Relaxed) < end {
                true => whole(&asked, asked.answer(status, retry_after, body.as_bytes())),
                false => whole(&asked, asked.honest(TOASTERS_HUB)),
            }
        }
    };
    let mut buffer = [0; 1024];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap());
    let clock = Clock::default();
    clock.mirror(millis);
    let outcome = if column == Minreq {
        let script = Script { clock, ..Script::default() };
        over_minreq(&mut provisioning, &mut buffer, &script, &listener, &answer, &AtomicUsize::new(0))
    } else {
        let script = Script { clock, ..Script::answering(answer) };
        over(column, &mut provisioning, UNIX_TIME, &mut buffer, &script)
    };
    let outcome = outcome.and_then(|()| Ok(provisioning.result(&buffer)?.assigned_hub().to_string()));
    (outcome, clock.now(), requests.load(Ordering::Relaxed))
}

/// The wait for a `Retry-After`, in a run without a time-out.
#[test]
fn the_longest_and_the_shortest_waits() {
    let policy = RetryPolicy::new().with_timeout(MAX);
    for (retry_after, waits) in [
        ("0", 1.0..=1.0),
        ("1", 1.0..=1.0),
        ("300", 300.0..=300.0),
        ("4294967295", 300.0..=300.0),
        ("99999999999999999999", 300.0..=300.0),
        ("-1", 3.0..=4.5),
        ("1e9", 3.0..=4.5),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3.0..=4.5),
    ] {
        for column in [Blocking, Async, Mqtt] {
            let script = honest(column, retry_after);
            let mut provisioning = toaster().with_retry_policy(policy);
            over(column, &mut provisioning, UNIX_TIME, &mut [0; 1024], &script).unwrap();
            assert!(waits.contains(&script.clock.now().as_secs_f64()), "{retry_after}, {column:?}");
        }
    }
}

/// A clock that jumps by five hours at each reading. The run may end because of it, but
/// not because of a second jump.
#[test]
fn a_clock_that_jumps() {
    const JUMP: Duration = Duration::from_secs(5 * 3600);
    for column in [Blocking, Async, Mqtt] {
        let mut outcomes = BTreeMap::<_, usize>::new();
        for readings in 0.. {
            let script = honest(column, "3");
            script.clock.jump(readings, JUMP);
            let mut provisioning = toaster();
            let mut buffer = [0; 1024];
            let outcome = over(column, &mut provisioning, UNIX_TIME, &mut buffer, &script)
                .and_then(|()| Ok(provisioning.result(&buffer)?.assigned_hub().to_string()));
            let jumped = script.clock.now() >= JUMP;
            assert!(script.clock.now() <= JUMP + RetryPolicy::new().timeout(), "{readings}");
            if let Err(error) = &outcome {
                assert!(jumped && error.is_retryable(), "{column:?}, {readings}: {error}");
                over(column, &mut provisioning, UNIX_TIME, &mut buffer, &script).unwrap();
            }
            *outcomes.entry(outcome.map_err(name)).or_default() += 1;
            if !jumped {
                break;
            }
        }
        println!("{column:?}: {outcomes:?}");
        assert!(outcomes.len() > 1);
    }
}

/// Faults of a TLS peer. The sockets are real, and waits are skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tls {
    /// Instead of a handshake.
    Closes,
    Garbage,
    /// Instead of the answer.
    Alert,
    /// In the record of the answer.
    Cut,
    Tampered,
    /// After the answer, the connection is closed without or with close_notify.
    Unannounced(Framing),
    Announced(Framing),
}

const TLS_ROWS: [(&str, Tls, [&str; 4]); 9] = {
    use Framing::{Length, UntilClose};
    [
        ("closes the connection instead of a handshake", Tls::Closes, [CONNECT, CONNECT, CLOSED, CONNECT]),
        ("sends bytes that are not a handshake", Tls::Garbage, ["Untrusted"; 4]),
        ("sends an unencrypted alert instead of the answer", Tls::Alert, [STREAM; 4]),
        ("closes the connection within the record of the answer", Tls::Cut, [STREAM, STREAM, CLOSED, STREAM]),
        ("changes a bit in the record of the answer", Tls::Tampered, [STREAM; 4]),
        ("answers, then closes without `close_notify`", Tls::Unannounced(Length), ["assigned"; 4]),
        (
            "answers without a length, then closes without `close_notify`",
            Tls::Unannounced(UntilClose),
            [STREAM, STREAM, CLOSED, "–"],
        ),
        ("answers, then closes with `close_notify`", Tls::Announced(Length), ["assigned"; 4]),
        (
            "answers without a length, then closes with `close_notify`",
            Tls::Announced(UntilClose),
            ["assigned", "assigned", "assigned", "–"],
        ),
    ]
};
const CONNECT: &str = "Transport(Connect)";

const ROOTS: &str = "SSL_CERT_FILE";
const SERVER: &str = "AZURE_DPS_TEST_SERVER";

/// minreq reads its roots from an environment variable, which must exist before the process starts. So this test starts
/// itself again.
#[test]
fn faults_of_tls() {
    if let Some(directory) = env::var_os(SERVER) {
        return tls_rows(Path::new(&directory));
    }
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    let server = params.signed_by(&key, &ca).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    fs::write(path("ca.pem"), ca.pem()).unwrap();
    fs::write(path("server.pem"), server.pem()).unwrap();
    fs::write(path("server-key.pem"), key.serialize_pem()).unwrap();
    let mut again = std::process::Command::new(env::current_exe().unwrap());
    again.args(["--exact", "faults_of_tls"]).env(ROOTS, path("ca.pem")).env(SERVER, directory.path());
    for name in network::PROXY_VARIABLES {
        again.env_remove(name);
    }
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn tls_rows(directory: &Path) {
    use network::Transport::{EmbeddedIoAsyncTls, EmbeddedIoTls, Minreq, MqttTls};
    let read = |name| fs::read_to_string(directory.join(name)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(read("server-key.pem").as_bytes()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(read("server.pem").as_bytes()).unwrap()];
    let config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, ca) = (Arc::new(config), read("ca.pem"));
    let mut table = String::from("| The server | `blocking` | `asynch` | `https` | MQTT |\n|---|---|---|---|---|\n");
    for (name_of_row, fault, cells) in TLS_ROWS {
        for (transport, expected) in [EmbeddedIoTls, EmbeddedIoAsyncTls, Minreq, MqttTls].into_iter().zip(cells) {
            if expected == "–" {
                continue;
            }
            let [lasting, once] = [usize::MAX, 1].map(|faults| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                let config = config.clone();
                // The thread ends with the process.
                thread::spawn(move || {
                    for (number, socket) in listener.incoming().enumerate() {
                        // The client may go when it likes.
                        let _ = tls_peer(socket.unwrap(), config.clone(), (number < faults).then_some(fault));
                    }
                });
                let url = format!("https://localhost:{port}");
                let mut provisioning = toaster()
                    .with_endpoint(Endpoint::parse(&url).unwrap())
                    .with_retry_policy(RetryPolicy::new().with_max_retries(1));
                network::provision(&mut provisioning, &mut toaster_key(), transport, &*ca, &mut [0; 1024])
                    .map(|assignment| assignment.assigned_hub().to_string())
            });
            let outcome = match (lasting, once) {
                (Ok(hub), Ok(other)) if hub == ODD_HUB && other == hub => "assigned".into(),
                (Err(error), Ok(hub)) if error.is_retryable() && hub == TOASTERS_HUB => name(error),
                (Err(error), Err(other)) if !error.is_retryable() && error == other => name(error),
                other => format!("{other:?}"),
            };
            assert_eq!(outcome, expected, "{name_of_row}, {transport:?}");
        }
        writeln!(table, "| {name_of_row} | {} |", cells.join(" | ")).unwrap();
    }
    documented("Over TLS", &table);
    let client = Arc::new(network::Tls::from(&*ca).config().unwrap());
    documented("Over TLS, record by record", &records::table(&config, &client));
}

/// Serves one connection. The device is assigned in the first answer.
fn tls_peer(mut socket: TcpStream, config: Arc<rustls::ServerConfig>, fault: Option<Tls>) -> std::io::Result<()> {
    match fault {
        Some(Tls::Closes) => return Ok(()),
        Some(Tls::Garbage) => return socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        _ => {}
    }
    let mut session = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match rustls::Stream::new(&mut session, &mut socket).read(&mut piece)? {
            0 => return Ok(()),
            len => request.extend(&piece[..len]),
        }
        let is_http = request.starts_with(b"P");
        if is_http && !is_complete(&request) {
            continue;
        }
        let framing = match fault {
            _ if !is_http => Framing::Mqtt,
            Some(Tls::Unannounced(framing) | Tls::Announced(framing)) => framing,
            _ => Framing::Length,
        };
        let asked = Asked::read(&std::mem::take(&mut request), framing);
        let Some(asked) = asked else { return Ok(()) };
        if asked.at < At::Register {
            rustls::Stream::new(&mut session, &mut socket).write_all(&asked.honest(""))?;
            continue;
        }
        let hub = if fault.is_some() { ODD_HUB } else { TOASTERS_HUB };
        session.writer().write_all(&Asked { at: At::Poll, ..asked }.honest(hub))?;
        let mut records = Vec::new();
        if let Some(Tls::Announced(_)) = fault {
            session.send_close_notify();
        }
        while session.wants_write() {
            session.write_tls(&mut records)?;
        }
        match fault {
            Some(Tls::Alert) => records = vec![21, 3, 3, 0, 2, 2, 40],
            Some(Tls::Cut) => records.truncate(records.len() / 2),
            Some(Tls::Tampered) => records[100] ^= 1,
            _ => {}
        }
        socket.write_all(&records)?;
        if fault.is_some() {
            return Ok(());
        }
    }
}
