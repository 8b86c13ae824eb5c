//! Connections of one device to its hub, and changes by an operator. Packets are ones that a hub may send. Only a
//! device that showed its token is admitted, and one of its connections is live. Answers and notifications go to
//! subscribers. Versions grow as the answers say. A session is present only if it was kept. A rejected CONNECT changes
//! nothing. The twin keeps its limits.

#![no_main]

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use azure_dps_emulator::fuzzing::hub::{Hubs, Operator, State};
use azure_dps_fuzz::{
    contains,
    mqtt::{packet, split_off, string},
    parts, percent_decoded,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Runtime,
};

static HUBS: LazyLock<Hubs> = LazyLock::new(|| Hubs::new("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap());
/// Timers belong to it. Its time stands still: nothing waits here.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap());

/// The signatures of tokens for the hubs. Only the device can make them.
const SIGNATURES: [&[u8]; 3] = [
    b"KHB+lyuwaXl3ODKSRFOukYpbBVvyqv4gR3vTMxsVHhM",
    b"LF+YDtMtCCtr3Okn6YIAPs/Q9ESHTPE0l1oOB5uLmI8",
    // With a `/` in `sr`.
    b"rX9gMymRiLP+64h0m4JaeBmgDGNaIwdmqca6UM7jRkw",
];

const CONNECTIONS: usize = 6;
const ANSWERS: &str = "$iothub/twin/res/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";

fuzz_target!(|input: &[u8]| {
    let _entered = RUNTIME.enter();
    let mut run = Run::default();
    for part in parts(input) {
        let Some((&kind, body)) = part.split_first() else { continue };
        let before = HUBS.state();
        match kind {
            // Any text, unchanged.
            0 => run.say(kind, body.to_vec()),
            1 => HUBS.operate(Operator::Patch(body.to_vec())),
            // The next connection; the current one stays.
            2 => run.open(),
            // The end of the current connection.
            3 => run.current().wire.lock().end(),
            4 => HUBS.operate(Operator::Disable),
            5 => HUBS.operate(Operator::Enable),
            6 => HUBS.operate(Operator::Remove),
            7 => HUBS.operate(Operator::Move),
            8 => HUBS.operate(Operator::Unavailable(body.is_empty())),
            9 => HUBS.operate(Operator::Disconnect),
            _ => run.say(kind, packet(kind, body)),
        }
        if matches!(kind, 6 | 7) {
            // The hub deletes the session with the device.
            run.kept = Some(None);
        }
        run.poll();
        run.check(&before);
    }
    for connection in &mut run.connections {
        connection.wire.lock().end();
    }
    run.poll();
    assert!(run.connections.iter().all(|connection| connection.served.is_none()), "a connection does not end");
    assert!(!HUBS.state().is_connected);
    HUBS.check_twin().unwrap();
    HUBS.reset();
});

/// What a device has subscribed to: answers, and desired properties.
type Subscribed = [bool; 2];

struct Run {
    connections: Vec<Connection>,
    /// The subscriptions of the session that the hub keeps. `None`: raw bytes have made it unknown.
    kept: Option<Option<Subscribed>>,
}

impl Default for Run {
    fn default() -> Self {
        Self { connections: vec![Connection::new()], kept: Some(None) }
    }
}

struct Connection {
    served: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    wire: Wire,
    flag: Arc<Flag>,
    said: Vec<u8>,
    /// Whether all bytes that were sent were complete packets.
    is_plain: bool,
    /// Whether CONNECT was accepted. `None`: there was no answer yet.
    accepted: Option<bool>,
    clean: bool,
    /// The packets without an answer, in order.
    subscribes: VecDeque<Vec<(String, bool)>>,
    subscribed: Subscribed,
}

impl Run {
    fn current(&mut self) -> &mut Connection {
        self.connections.last_mut().unwrap()
    }

    fn open(&mut self) {
        if self.connections.len() < CONNECTIONS {
            self.connections.push(Connection::new());
        }
    }

    fn say(&mut self, kind: u8, bytes: Vec<u8>) {
        let connection = self.current();
        let mut rest = &bytes[..];
        match kind {
            0 => connection.is_plain = false,
            0x10 => {
                let flags = split_off(&mut rest).and_then(|(_, body)| body.get(7).copied());
                connection.clean = flags.is_some_and(|flags| flags & 2 != 0);
            }
            _ if kind >> 4 == 8 || kind >> 4 == 10 => {
                let is_subscribe = kind >> 4 == 8;
                let filters = split_off(&mut rest).map(|(_, body)| filters(body, is_subscribe)).unwrap_or_default();
                connection.subscribes.push_back(filters.into_iter().map(|filter| (filter, is_subscribe)).collect());
            }
            _ => {}
        }
        connection.said.extend_from_slice(&bytes);
        let mut ends = connection.wire.lock();
        ends.said.extend(bytes);
        ends.is_new = true;
    }

    /// Polls all connections until all are idle.
    fn poll(&mut self) {
        loop {
            let mut polled = false;
            for connection in &mut self.connections {
                polled |= connection.poll();
            }
            if !polled {
                break;
            }
        }
    }

    fn check(&mut self, before: &State) {
        let state = HUBS.state();
        let was_heard = self.connections.len() - 1;
        let mut was_accepted = false;
        for (at, connection) in self.connections.iter_mut().enumerate() {
            was_accepted |= connection.accepted == Some(true);
            let sent = std::mem::take(&mut connection.wire.lock().sent);
            let mut rest = &sent[..];
            while let Some((kind, body)) = split_off(&mut rest) {
                assert!(at == was_heard || kind == 0x30, "an answer to somebody else");
                connection.hear(kind, body, &mut self.kept, &state);
            }
            was_accepted |= connection.accepted == Some(true);
        }
        let live = |connection: &&Connection| connection.accepted == Some(true) && connection.served.is_some();
        let live = self.connections.iter().filter(live).count();
        assert!(live <= 1 && state.is_connected == (live == 1), "{live} {state:?}");
        assert!(!state.is_connected || state.is_enabled, "{state:?}");
        if !was_accepted {
            // A change by an operator has no answer.
            let of_device = |state: &State| (state.messages, state.is_connected);
            assert_eq!(of_device(before), of_device(&state));
            assert!(state.reported_version <= before.reported_version.max(1));
        }
    }
}

impl Connection {
    fn new() -> Self {
        let wire = Wire::default();
        let served = HUBS.mqtt(wire.clone());
        Self {
            served: Some(Box::pin(served)),
            wire,
            flag: Arc::default(),
            said: Vec::new(),
            is_plain: true,
            accepted: None,
            clean: false,
            subscribes: VecDeque::new(),
            subscribed: [false; 2],
        }
    }

    /// Polls the server's side if it may have something to do. Returns `false` if it had not.
    fn poll(&mut self) -> bool {
        let is_new = std::mem::take(&mut self.wire.lock().is_new);
        let woken = self.flag.0.swap(false, Ordering::Relaxed) || is_new;
        let Some(served) = self.served.as_mut().filter(|_| woken) else { return false };
        let waker = Waker::from(Arc::clone(&self.flag));
        if served.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.served = None;
        }
        true
    }

    /// Takes a packet of the hub.
    fn hear(&mut self, kind: u8, body: &[u8], kept: &mut Option<Option<Subscribed>>, state: &State) {
        match (kind, self.accepted) {
            (0x20, None) => {
                self.accepted = Some(body[1] == 0);
                if body[1] == 0 {
                    self.accept(body[0] == 1, kept);
                } else {
                    assert!(body[0] == 0 && matches!(body[1], 1..=5), "{body:x?}");
                }
            }
            (0x30, Some(true)) => {
                let (topic, body) = string(body);
                if let Some(answer) = topic.strip_prefix("$iothub/twin/res/") {
                    assert!(!self.is_plain || self.subscribed[0], "{topic}");
                    self.check_answer(answer, body, state);
                } else {
                    assert!(!self.is_plain || self.subscribed[1], "{topic}");
                    let version = topic.strip_prefix("$iothub/twin/PATCH/properties/desired/?$version=").unwrap();
                    let patch: Value = serde_json::from_slice(body).unwrap();
                    assert_eq!(patch["$version"].to_string(), version);
                    assert_eq!(version.parse(), Ok(state.desired_version));
                }
            }
            // PUBACK, PINGRESP.
            (0x40, Some(true)) => assert_eq!(body.len(), 2),
            (0xd0, Some(true)) => assert!(body.is_empty()),
            // SUBACK, UNSUBACK.
            (0x90 | 0xb0, Some(true)) => {
                assert!(body.len() >= 2 && body[2..].iter().all(|code| *code <= 1), "{body:x?}");
                let filters = self.subscribes.pop_front().unwrap_or_default();
                for (filter, is_subscribed) in filters {
                    match &*filter {
                        ANSWERS => self.subscribed[0] = is_subscribed,
                        DESIRED => self.subscribed[1] = is_subscribed,
                        _ => {}
                    }
                }
                if let Some(kept) = kept.as_mut().filter(|_| !self.clean) {
                    *kept = Some(self.subscribed);
                }
            }
            other => panic!("{other:x?}"),
        }
        if !self.is_plain {
            *kept = None;
        }
    }

    fn accept(&mut self, is_present: bool, kept: &mut Option<Option<Subscribed>>) {
        let said = percent_decoded(&self.said);
        assert!(SIGNATURES.iter().any(|signature| contains(&said, signature)), "let in without a token");
        if let Some(kept) = kept.as_mut().filter(|_| self.is_plain) {
            assert_eq!(is_present, !self.clean && kept.is_some());
            self.subscribed = kept.filter(|_| is_present).unwrap_or_default();
            *kept = (!self.clean).then_some(self.subscribed);
        } else {
            self.is_plain = false;
        }
    }

    /// A version of the reported properties, as an answer tells it.
    fn check_version(&self, version: u64, state: &State) {
        // Packets that arrive together are answered in order.
        assert!(version == state.reported_version || (!self.is_plain && version < state.reported_version));
    }

    fn check_answer(&self, answer: &str, body: &[u8], state: &State) {
        let (status, query) = answer.split_once("/?").unwrap();
        let (request_id, version) = query.rsplit_once("&$version=").map_or((query, None), |(rid, n)| (rid, Some(n)));
        assert!(request_id.starts_with("$rid=") && contains(&self.said, request_id.as_bytes()), "{answer}");
        match status {
            "200" => {
                let twin: Value = serde_json::from_slice(body).unwrap();
                assert_eq!(twin["desired"]["$version"], state.desired_version, "{twin}");
                let reported = twin["reported"]["$version"].as_u64().unwrap();
                self.check_version(reported, state);
                assert!(twin.as_object().unwrap().keys().eq(["desired", "reported"]), "{twin}");
            }
            "204" => {
                assert!(body.is_empty());
                let version = version.unwrap().parse().unwrap();
                assert!(version > 1);
                self.check_version(version, state);
            }
            "400" => {
                let refusal: Value = serde_json::from_slice(body).unwrap();
                assert!(matches!(refusal["errorCode"].as_u64(), Some(400_004 | 400_006)), "{refusal}");
            }
            other => panic!("{other}"),
        }
    }
}

/// The filters of a SUBSCRIBE or an UNSUBSCRIBE, as far as they can be read.
fn filters(body: &[u8], has_qos: bool) -> Vec<String> {
    let (mut rest, mut filters) = (body.get(2..).unwrap_or_default(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((filter, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else { break };
        filters.push(String::from_utf8_lossy(filter).into_owned());
        rest = after.get(usize::from(has_qos)..).unwrap_or_default();
    }
    filters
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection in memory.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    said: VecDeque<u8>,
    ended: bool,
    sent: Vec<u8>,
    /// Whether the server has not seen all of this.
    is_new: bool,
}

impl Ends {
    fn end(&mut self) {
        (self.ended, self.is_new) = (true, true);
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.lock();
        if ends.said.is_empty() && !ends.ended {
            return Poll::Pending;
        }
        let length = ends.said.len().min(buffer.remaining());
        for byte in ends.said.drain(..length) {
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().sent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
