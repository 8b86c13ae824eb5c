//! TLS records that stop in the middle: sessions in memory on the virtual clock, and sockets for minreq.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use azure_dps::blocking::ConnectError;
use embedded_io_adapters::{std::FromStd, tokio_1::FromTokio};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// The side whose records the peer withholds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Within {
    Handshake,
    Answer,
}

/// The place of the fault.
#[derive(Clone, Copy, Debug)]
struct Place {
    record: usize,
    /// A number below `PLACES`.
    number: usize,
}

/// The number of the service's records until its Finished. The first one is the flight from ServerHello to
/// ServerHelloDone.
const HANDSHAKE: usize = 3;
/// The places: before a record, within its header, after its header, after each eighth of its content, and before its
/// last byte.
const PLACES: usize = 11;

impl Place {
    fn within(self, record: usize) -> usize {
        match self.number {
            0 => 0,
            1 => 3,
            number => (5 + (record - 5) * (number - 2) / 8).min(record - 1),
        }
    }
}

/// What happens to the remaining bytes.
type Rest = fn(&[u8]) -> Vec<Act>;

const ROWS: [(&str, Within, Rest, [&str; 4]); 6] = {
    use Within::{Answer, Handshake};
    [
        (
            "closes the connection in any record of the handshake",
            Handshake,
            |_| vec![Act::Close],
            [CONNECT, CONNECT, CLOSED, CONNECT],
        ),
        (
            "resets the connection in any record of the handshake",
            Handshake,
            |_| vec![Act::Fail],
            [CONNECT, CONNECT, CLOSED, CONNECT],
        ),
        ("resets the connection in any record of the answer", Answer, |_| vec![Act::Fail], [CLOSED; 4]),
        (
            "stays silent after any record of the handshake",
            Handshake,
            |_| vec![Act::Stall],
            [CONNECT, STALLED, STALLED, STALLED],
        ),
        (
            "sends one byte every ten seconds after any record of the handshake",
            Handshake,
            trickle,
            ["Transport(Connect), Transport(Stalled)", STALLED, STALLED, STALLED],
        ),
        ("sends one byte every ten seconds after any record of the answer", Answer, trickle, [STALLED; 4]),
    ]
};

fn trickle(rest: &[u8]) -> Vec<Act> {
    rest.iter().flat_map(|&byte| [Act::Pass(READ_TIMEOUT), bytes([byte])]).collect()
}

/// A service with a failing network.
#[derive(Clone)]
struct Peer {
    config: Arc<ServerConfig>,
    place: Place,
    rest: Rest,
    /// The number of connections that fail.
    faults: usize,
}

/// The server side of each connection, in turn.
struct Service {
    peer: Peer,
    connections: usize,
    session: Option<ServerConnection>,
    records: usize,
    request: Vec<u8>,
}

impl Service {
    fn new(peer: Peer, connections: usize) -> Self {
        Self { peer, connections, session: None, records: 0, request: Vec::new() }
    }

    /// Returns the answer to the client's records.
    fn acts(&mut self, mut received: &[u8]) -> io::Result<Vec<Act>> {
        // A new connection begins with a ClientHello.
        if received.starts_with(&[22]) && received.get(5) == Some(&1) {
            self.session = Some(ServerConnection::new(self.peer.config.clone()).map_err(io::Error::other)?);
            self.connections += 1;
            self.records = 0;
            self.request.clear();
        }
        let Some(session) = &mut self.session else { return Ok(Vec::new()) };
        while !received.is_empty() {
            session.read_tls(&mut received)?;
            let state = session.process_new_packets().map_err(io::Error::other)?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            session.reader().read_exact(&mut plain)?;
            self.request.extend(plain);
        }
        let is_http = self.request.starts_with(b"P");
        if !is_http || is_complete(&self.request) {
            let framing = if is_http { Framing::Length } else { Framing::Mqtt };
            if let Some(asked) = Asked::read(&std::mem::take(&mut self.request), framing) {
                if is_http || asked.at == At::Connect {
                    assert_eq!(self.records, HANDSHAKE);
                }
                let hub = if self.connections <= self.peer.faults { ODD_HUB } else { TOASTERS_HUB };
                // The device is assigned in the first answer.
                let at = if asked.at == At::Register { At::Poll } else { asked.at };
                let answer = Asked { at, ..asked }.honest(hub);
                // Head and body are two records.
                let head = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
                session.writer().write_all(&answer[..head])?;
                session.writer().write_all(&answer[head..])?;
            }
        }
        let mut sent = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut sent)?;
        }
        Ok(self.on_the_line(&sent))
    }

    fn on_the_line(&mut self, mut sent: &[u8]) -> Vec<Act> {
        let mut acts = Vec::new();
        while let [_, _, _, high, low, ..] = *sent {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            let (record, later) = sent.split_at(length);
            let fails_at = match self.records.cmp(&self.peer.place.record) {
                _ if self.connections > self.peer.faults => length,
                Ordering::Less => length,
                Ordering::Equal => self.peer.place.within(length),
                Ordering::Greater => 0,
            };
            let (start, rest) = record.split_at(fails_at);
            acts.push(bytes(start));
            if !rest.is_empty() {
                acts.extend((self.peer.rest)(rest));
            }
            self.records += 1;
            sent = later;
        }
        acts
    }
}

/// A scripted stream for rustls, blocking and not.
struct Line {
    stream: Stream,
    clock: Clock,
    deadline: Duration,
    sleep: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.clock.now() >= self.deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        embedded_io::Read::read(&mut self.stream, buffer).map_err(failed)
    }
}

impl Write for Line {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        embedded_io::Write::write(&mut self.stream, buffer).map_err(failed)
    }

    fn flush(&mut self) -> io::Result<()> {
        embedded_io::Write::flush(&mut self.stream).map_err(failed)
    }
}

/// A blocking stream. Its time-out is for a whole read. A record that arrives slowly counts as one read, and each of
/// its bytes arrives in time.
struct Secured(StreamOwned<ClientConnection, Line>);

impl Secured {
    fn in_time(&mut self) -> &mut StreamOwned<ClientConnection, Line> {
        let line = &mut self.0.sock;
        line.deadline = line.clock.now().saturating_add(READ_TIMEOUT);
        &mut self.0
    }
}

impl Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time().read(buffer)
    }
}

impl Write for Secured {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.in_time().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.in_time().flush()
    }
}

fn failed(Broken(kind): Broken) -> io::Error {
    io::ErrorKind::from(kind).into()
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            match self.stream.event(buffer.initialize_unfilled()) {
                Event::Read(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Event::Fails(kind) => return Poll::Ready(Err(failed(Broken(kind)))),
                Event::Pass(by) => self.sleep = Some(Box::pin(self.clock.sleep(by))),
                Event::Stall => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(buffer))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(self.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A client on the virtual clock.
struct Client {
    script: Script,
    config: Arc<ClientConfig>,
}

impl Client {
    fn name() -> ServerName<'static> {
        ServerName::try_from("localhost").unwrap()
    }

    fn line(&self, deadline: Duration) -> Line {
        Line { stream: self.script.connect().unwrap(), clock: self.script.clock, deadline, sleep: None }
    }

    fn connect(&self, deadline: Duration) -> Result<FromStd<Secured>, ConnectError<io::Error>> {
        let mut session = ClientConnection::new(self.config.clone(), Self::name()).map_err(io::Error::other)?;
        let mut line = self.line(deadline);
        session.complete_io(&mut line).map_err(network::refused)?;
        Ok(FromStd::new(Secured(StreamOwned::new(session, line))))
    }

    async fn connect_async(&self) -> Result<FromTokio<tokio_rustls::client::TlsStream<Line>>, ConnectError<io::Error>> {
        let connector = tokio_rustls::TlsConnector::from(self.config.clone());
        let stream = connector.connect(Self::name(), self.line(Duration::MAX)).await.map_err(network::refused)?;
        Ok(FromTokio::new(stream))
    }

    fn provision(&self, column: Column, run: &mut Provisioning<'_>, buffer: &mut [u8]) -> Result<(), Error> {
        let clock = self.script.clock;
        let now = || clock.now();
        let mut key = toaster_key();
        run.start(now(), UNIX_TIME);
        match column {
            Blocking => {
                let (mut connect, delay) = (|deadline| self.connect(deadline), |wait| clock.advance(wait));
                blocking::run(run, &mut key, buffer, &mut connect, now, delay, |_| ()).map_err(|error| error.kind())
            }
            Async => {
                let (mut connect, delay) = (async |_| self.connect_async().await, async |wait| clock.sleep(wait).await);
                clock
                    .block_on(asynch::run(run, &mut key, buffer, &mut connect, now, delay, |_| ()))
                    .map_err(|error| error.kind())
            }
            _ => {
                let connect = async || {
                    let connected = self.connect_async().await;
                    connected.map_err(|error| blocking::Error::<_, Broken>::from(error).kind())
                };
                clock.block_on(over_mqtt(run, &mut key, buffer, &self.script, connect));
                Ok(())
            }
        }
    }
}

/// Returns the outcome of a run, and its duration if time is virtual.
fn run(column: Column, peer: Peer, client: &Arc<ClientConfig>) -> (Result<String, Error>, Duration) {
    let mut buffer = [0; 1024];
    if column == Minreq {
        return (over_minreq(&mut buffer, peer), Duration::ZERO);
    }
    let service = RefCell::new(Service::new(peer, 0));
    // The peer cannot decrypt anything after a record that the client left incomplete.
    let answer = move |received: &[u8]| service.borrow_mut().acts(received).unwrap_or_default();
    let client = Client { script: Script::answering(answer), config: client.clone() };
    let mut provisioning = toaster();
    let outcome = client.provision(column, &mut provisioning, &mut buffer);
    let outcome = outcome.and_then(|()| Ok(provisioning.result(&buffer)?.assigned_hub().to_string()));
    (outcome, client.script.clock.now())
}

/// Runs over sockets. The time-out of a request is a second.
fn over_minreq(buffer: &mut [u8], peer: Peer) -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    // On a busy machine the honest peer may need more than one try.
    let retries = if peer.faults > 1 { 0 } else { 5 };
    // The threads end with the process. So does the thread that minreq leaks in a stalled handshake.
    thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let service = Service::new(peer.clone(), number);
            // The client may close the connection at any time.
            thread::spawn(move || serve(socket.unwrap(), service));
        }
    });
    let policy = RetryPolicy::new().with_request_timeout(SECOND).with_max_retries(retries);
    let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    let (clock, begun) = (Clock::default(), Instant::now());
    provisioning.start(clock.now(), UNIX_TIME);
    let (now, delay) = (|| clock.now(), |wait| clock.advance(wait));
    let outcome = https::run(&mut provisioning, &mut toaster_key(), buffer, now, delay, |_| ());
    // A second for each request, and a margin for a busy machine.
    assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());
    outcome.map_err(|error| error.kind())?;
    Ok(provisioning.result(buffer)?.assigned_hub().to_string())
}

fn serve(mut socket: TcpStream, mut service: Service) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut piece = [0; 4096];
    loop {
        socket.set_read_timeout(None)?;
        let received = match socket.read(&mut piece)? {
            0 => return Ok(()),
            length => service.acts(&piece[..length])?,
        };
        for act in received {
            if !perform(&mut socket, act)? {
                return Ok(());
            }
        }
    }
}

/// Runs all variants of a row over one transport, and returns the longest time of a run.
fn cell(row: usize, column: Column, server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> (String, Duration) {
    let (name, within, rest, _) = ROWS[row];
    let (records, places) = match within {
        Within::Handshake => (0..HANDSHAKE, PLACES),
        // The last byte alone would arrive in time.
        Within::Answer => (HANDSHAKE..HANDSHAKE + 2, PLACES - 1),
    };
    let places = records.flat_map(|record| (0..places).map(move |number| Place { record, number }));
    let both = |place| {
        let runs = [1, usize::MAX].map(|faults| {
            let config = server.clone();
            run(column, Peer { config, place, rest, faults }, client)
        });
        let [(once, first), (lasting, second)] = runs;
        let outcome = outcome(&lasting, &once).unwrap_or_else(|wrong| panic!("{name}, {column:?}, {place:?}: {wrong}"));
        (outcome, first.max(second))
    };
    // Most of minreq's time is waiting.
    let seen: Vec<_> = thread::scope(|scope| match column {
        Minreq => {
            let threads: Vec<_> = places.map(|place| scope.spawn(move || both(place))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        }
        _ => places.map(both).collect(),
    });
    let longest = seen.iter().map(|(_, time)| *time).max().unwrap();
    assert!(longest <= RetryPolicy::new().timeout() + READ_TIMEOUT, "{name}, {column:?}: {longest:?}");
    let outcomes: BTreeSet<_> = seen.into_iter().map(|(outcome, _)| outcome).collect();
    (Vec::from_iter(outcomes).join(", "), longest)
}

pub fn table(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> String {
    let mut table =
        String::from("| The server | `blocking` | `asynch` | `https` | MQTT | time |\n|---|---|---|---|---|---|\n");
    for (row, (name, _, _, expected)) in ROWS.iter().enumerate() {
        let mut longest = Duration::ZERO;
        for (column, expected) in COLUMNS.into_iter().zip(expected) {
            let (outcome, time) = cell(row, column, server, client);
            assert_eq!(outcome, *expected, "{name}, {column:?}");
            longest = longest.max(time);
        }
        writeln!(table, "| {name} | {} | {:.1} s |", expected.join(" | "), longest.as_secs_f64()).unwrap();
    }
    table
}
