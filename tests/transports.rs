//! Behavior that all transports share: blocking and async over scripted streams, minreq over sockets.

mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, RegistrationId, RetryPolicy, asynch,
    blocking::{self, ConnectError},
    error::{BufferTooSmall, ErrorCode},
    https,
    identity::{
        KeyChoice, NoKey, Sign, SignError, sas_token,
        tpm::{AuthenticationKey, TpmError, TpmKeys},
    },
    provisioning::{Endpoint, Progress},
};
use support::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Blocking,
    Async,
    Https,
}
use Transport::{Async, Blocking, Https};

const RETRY_3: &str = "Retry-After: 3\r\n";
/// 42 escapes, a last digit that is a letter or a digit since it stands for four bits, and `%3D`.
const LONGEST_SIGNATURE: usize = 42 * 3 + 1 + 3;

fn assigning() -> Vec<u8> {
    http("202 Accepted", RETRY_3, ASSIGNING)
}

fn assigned() -> Vec<u8> {
    http("200 OK", "", ASSIGNED)
}

fn refused() -> Vec<u8> {
    http("401 Unauthorized", "", r#"{"errorCode":401002,"trackingId":"","message":"Invalid token."}"#)
}

fn bytes(answer: Vec<u8>) -> Act {
    Act::Bytes(answer, usize::MAX)
}

/// Continues a run that was started. The script provides the connections, except for minreq.
fn drive(
    transport: Transport,
    provisioning: &mut Provisioning<'_>,
    signer: &mut impl Sign,
    buffer: &mut [u8],
    script: &Script,
) -> Result<(), Error> {
    let clock = script.clock;
    let now = || clock.now();
    let delay = |wait| clock.advance(wait);
    let observe = script.observer();
    match transport {
        Blocking => {
            let mut connect = |_| script.connect();
            blocking::run(provisioning, signer, buffer, &mut connect, now, delay, observe).map_err(|error| error.kind())
        }
        Async => {
            let mut connect = async |_| script.connect().map(AsyncStream);
            let delay = async |wait| clock.sleep(wait).await;
            let run = asynch::run(provisioning, signer, buffer, &mut connect, now, delay, observe);
            clock.block_on(run).map_err(|error| error.kind())
        }
        Https => https::run(provisioning, signer, buffer, now, delay, observe).map_err(|error| error.kind()),
    }
}

/// The outcome of a run, and the requests that the service received.
struct Ran {
    outcome: Result<String, Error>,
    key: KeyChoice,
    connections: usize,
    requests: String,
    progress: Vec<Progress>,
}

impl Ran {
    fn registers(&self) -> usize {
        self.requests.matches("PUT /").count()
    }

    fn tokens(&self) -> Vec<&str> {
        self.requests.lines().filter_map(|line| line.strip_prefix("Authorization: ")).collect()
    }
}

/// Runs with these answers in order, on one connection or on one connection for each answer.
fn run(
    transport: Transport,
    provisioning: Provisioning<'_>,
    signer: &mut impl Sign,
    answers: &[Vec<u8>],
    keeps_open: bool,
) -> Ran {
    let script = match keeps_open {
        true => Script::new([answers.iter().cloned().map(bytes).collect()]),
        false => Script::new(answers.iter().map(|answer| vec![bytes(close(answer)), Act::Close])),
    };
    let (requests, url) = match transport {
        Https => serve(answers.to_vec()),
        _ => (Arc::default(), String::from("localhost")),
    };
    let mut provisioning = provisioning.with_endpoint(Endpoint::parse(&url).unwrap());
    let mut buffer = [0; 1024];
    provisioning.start(script.clock.now(), UNIX_TIME);
    let outcome = drive(transport, &mut provisioning, signer, &mut buffer, &script);
    let outcome = outcome.and_then(|()| Ok(provisioning.result(&buffer)?.assigned_hub().to_string()));
    let requests = match transport {
        Https => requests.lock().unwrap().clone(),
        _ => script.requests(),
    };
    let progress = script.progress.take();
    Ran { outcome, key: provisioning.key(), connections: requests.len(), requests: requests.concat(), progress }
}

/// Returns the same answer from a service that closes the connection.
fn close(answer: &[u8]) -> Vec<u8> {
    String::from_utf8(answer.to_vec()).unwrap().replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes()
}

/// Serves one answer for each connection. If fewer connections come, the thread ends with the process.
fn serve(answers: Vec<Vec<u8>>) -> (Arc<Mutex<Vec<String>>>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let seen = requests.clone();
    thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let (mut request, mut piece) = (String::new(), [0; 4096]);
            while !is_complete(&request) {
                let len = socket.read(&mut piece).unwrap();
                request.push_str(std::str::from_utf8(&piece[..len]).unwrap());
            }
            seen.lock().unwrap().push(request);
            socket.write_all(&answer).unwrap();
        }
    });
    (requests, url)
}

fn is_complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn token(key: &str) -> String {
    let (scope, id) = (IdScope::new(SCOPE).unwrap(), RegistrationId::new(TOASTER).unwrap());
    let mut key = DeviceKey::from_base64(key).unwrap();
    let mut buffer = [0; 512];
    sas_token::write(&mut key, scope, id, UNIX_TIME + 3600, &mut buffer).unwrap().to_owned()
}

// ---- Signing ----

#[test]
fn a_run_with_a_rejected_key_tries_the_other_once() {
    let (good, bad) = (toaster_key, || DeviceKey::from_base64(GROUP_KEY).unwrap());
    let (good_token, bad_token) = (token(TOASTER_KEY), token(GROUP_KEY));
    for transport in [Blocking, Async, Https] {
        for keeps_open in [true, false] {
            for first in [KeyChoice::Primary, KeyChoice::Secondary] {
                let what = format!("{transport:?}, {keeps_open}, {first:?}");
                let [mut keys, mut others] = match first {
                    KeyChoice::Primary => [[bad(), good()], [good(), bad()]],
                    KeyChoice::Secondary => [[good(), bad()], [bad(), good()]],
                };
                let provisioning = || toaster().with_first_key(first);

                // The poll uses the token of the other key, too.
                let answers = [refused(), assigning(), assigned()];
                let ran = run(transport, provisioning(), &mut keys, &answers, keeps_open);
                assert_eq!(ran.outcome.as_deref(), Ok(TOASTERS_HUB), "{what}");
                assert_eq!(ran.tokens(), [&bad_token, &good_token, &good_token], "{what}");
                assert_eq!(ran.registers(), 2, "{what}");
                assert_ne!(ran.key, first, "{what}");
                let connections = if keeps_open && transport != Https { 1 } else { 3 };
                assert_eq!(ran.connections, connections, "{what}");

                // The first key is accepted.
                let ran = run(transport, provisioning(), &mut others, &[assigning(), assigned()], keeps_open);
                assert_eq!(ran.outcome.as_deref(), Ok(TOASTERS_HUB), "{what}");
                assert_eq!((ran.tokens(), ran.key), (vec![&*good_token; 2], first), "{what}");

                // Neither key is accepted.
                let ran = run(transport, provisioning(), &mut keys, &[refused(), refused()], keeps_open);
                assert_eq!(ran.outcome.unwrap_err().code(), Some(ErrorCode::CREDENTIAL_REFUSED), "{what}");
                assert_eq!(ran.requests.matches("PUT /").count(), 2, "{what}");

                // A rejected poll is not repeated with another key.
                let ran = run(transport, provisioning(), &mut others, &[assigning(), refused()], keeps_open);
                assert_eq!(ran.outcome.as_ref().unwrap_err().code(), Some(ErrorCode::CREDENTIAL_REFUSED), "{what}");
                assert_eq!((ran.tokens(), ran.key), (vec![&*good_token; 2], first), "{what}");
            }
        }
    }
}

#[test]
fn a_single_key_is_used_for_any_first_key() {
    for transport in [Blocking, Async, Https] {
        let provisioning = toaster().with_first_key(KeyChoice::Secondary);
        let ran = run(transport, provisioning, &mut toaster_key(), &[refused()], true);
        assert_eq!(ran.outcome.as_ref().unwrap_err().code(), Some(ErrorCode::CREDENTIAL_REFUSED), "{transport:?}");
        assert_eq!((ran.tokens(), ran.key), (vec![&*token(TOASTER_KEY)], KeyChoice::Primary), "{transport:?}");
    }
}

#[test]
fn a_certificate_needs_no_key() {
    let certificate = || Provisioning::new(registration(TOASTER), Attestation::x509());
    for transport in [Blocking, Async] {
        let ran = run(transport, certificate(), &mut NoKey, &[assigning(), assigned()], true);
        assert_eq!(ran.outcome.as_deref(), Ok(TOASTERS_HUB), "{transport:?}");
        assert_eq!((ran.tokens().len(), ran.registers()), (0, 1), "{transport:?}");
    }
    let ran = run(Https, certificate(), &mut NoKey, &[], true);
    assert_eq!((ran.outcome, ran.connections), (Err(Error::Unsupported), 0));
    // If a key is needed and missing, nothing is sent.
    for transport in [Blocking, Async, Https] {
        let ran = run(transport, toaster(), &mut NoKey, &[assigned()], true);
        assert!(matches!(ran.outcome, Err(Error::Signer(_))), "{transport:?}: {:?}", ran.outcome);
        assert_eq!(ran.connections, 0, "{transport:?}");
    }
}

/// A TPM that accepts any challenge.
#[derive(Default)]
struct Tpm {
    activated: Vec<String>,
    signatures: usize,
}

impl Sign for Tpm {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        if self.activated.is_empty() {
            return Err(SignError::new("no key was activated"));
        }
        self.signatures += 1;
        toaster_key().sign(message, signature)
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        self.activated.push(key.text().to_string());
        Ok(())
    }
}

#[test]
fn a_tpm_answers_the_services_challenge() {
    let challenge = http("401 Unauthorized", "", r#"{"errorCode":401000,"authenticationKey":"AAQBAgME"}"#);
    let keys = TpmKeys { endorsement_key: b"endorsement", storage_root_key: b"storage" };
    let good_token = token(TOASTER_KEY);
    for transport in [Blocking, Async, Https] {
        for keeps_open in [true, false] {
            let mut tpm = Tpm::default();
            let provisioning = Provisioning::new(registration(TOASTER), Attestation::tpm(keys));
            let answers = [challenge.clone(), assigning(), assigned()];
            let ran = run(transport, provisioning, &mut tpm, &answers, keeps_open);
            assert_eq!(ran.outcome.as_deref(), Ok(TOASTERS_HUB), "{transport:?}, {keeps_open}");
            // The first request has no token, the second one and the poll have the same.
            assert_eq!((ran.registers(), ran.tokens()), (2, vec![&*good_token; 2]), "{transport:?}, {keeps_open}");
            assert_eq!((tpm.activated, tpm.signatures), (vec!["AAQBAgME".to_owned()], 1), "{transport:?}");
        }
    }
}

// ---- Progress ----

fn names(progress: &[Progress]) -> Vec<String> {
    let name = |progress: &Progress| match progress {
        Progress::Retrying { error, wait, failures } => {
            format!("Retrying {} {} {failures}", error.code().map_or(0, ErrorCode::value), wait.is_zero())
        }
        Progress::Failed(error) => format!("Failed {}", error.code().map_or(0, ErrorCode::value)),
        other => format!("{other:?}"),
    };
    progress.iter().map(name).collect()
}

#[test]
fn progress_comes_in_order() {
    const OTHER_KEY: &str = "Retrying 401002 true 1";
    let throttled = || http("429 Too Many Requests", RETRY_3, r#"{"errorCode":429001}"#);
    let key = || DeviceKey::from_base64(TOASTER_KEY).unwrap();
    for (answers, expected) in [
        (&[assigned()][..], &["Registering", "Assigned"][..]),
        (&[assigning(), assigning(), assigned()], &["Registering", "Assigning", "Assigning", "Assigned"]),
        (
            &[throttled(), throttled(), assigned()],
            &[
                "Registering",
                "Retrying 429001 false 1",
                "Registering",
                "Retrying 429001 false 2",
                "Registering",
                "Assigned",
            ],
        ),
        (&[assigning(), throttled(), assigned()], &["Registering", "Assigning", "Retrying 429001 false 1", "Assigned"]),
        (&[refused(), assigned()], &["Registering", OTHER_KEY, "Registering", "Assigned"]),
        (&[refused(), refused()], &["Registering", OTHER_KEY, "Registering", "Failed 401002"]),
        (&[assigning(), refused()], &["Registering", "Assigning", "Failed 401002"]),
    ] {
        for transport in [Blocking, Async, Https] {
            for keeps_open in [true, false] {
                let ran = run(transport, toaster(), &mut [key(), key()], answers, keeps_open);
                let mut seen = names(&ran.progress);
                let connected = seen.iter().filter(|name| *name == "Connected").count();
                match transport {
                    Https => assert_eq!(connected, 0, "{seen:?}"),
                    _ => {
                        assert_eq!(connected, ran.connections, "{transport:?}: {seen:?}");
                        assert_eq!(seen[0], "Connected", "{transport:?}: {seen:?}");
                    }
                }
                seen.retain(|name| name != "Connected");
                assert_eq!(seen, expected, "{transport:?}, {keeps_open}");
            }
        }
    }
}

#[test]
fn no_step_is_skipped_if_the_clock_outruns_the_waits() {
    for transport in [Blocking, Async, Https] {
        let throttled = http("429 Too Many Requests", RETRY_3, r#"{"errorCode":429001}"#);
        let answers = [throttled, assigning(), assigned()];
        let (_, url) = serve(answers.to_vec());
        // All answers are on one connection, so that the next request is written at once.
        let script = Script::new([answers.map(bytes).to_vec()]);
        let hour = Duration::from_secs(3600);
        let policy = RetryPolicy::new().with_timeout(hour).with_request_timeout(hour);
        let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
        // Each reading of the clock is later than the end of the wait before it.
        let now = || {
            script.clock.advance(Duration::from_secs(30));
            script.clock.now()
        };
        let (mut key, mut buffer) = (toaster_key(), [0; 1024]);
        let observe = script.observer();
        provisioning.start(now(), UNIX_TIME);
        let never = |wait: Duration| panic!("a wait of {wait:?}");
        let outcome = match transport {
            Blocking => {
                let mut connect = |_| script.connect();
                let run = blocking::run(&mut provisioning, &mut key, &mut buffer, &mut connect, now, never, observe);
                run.map_err(|error| error.kind())
            }
            Async => {
                let mut connect = async |_| script.connect().map(AsyncStream);
                let delay = async |_| std::future::pending().await;
                let run = asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, now, delay, observe);
                script.clock.block_on(run).map_err(|error| error.kind())
            }
            Https => {
                let run = https::run(&mut provisioning, &mut key, &mut buffer, now, never, observe);
                run.map_err(|error| error.kind())
            }
        };
        assert_eq!(outcome, Ok(()), "{transport:?}");
        let mut seen = names(&script.progress.borrow());
        seen.retain(|name| name != "Connected");
        assert_eq!(
            seen,
            ["Registering", "Retrying 429001 false 1", "Registering", "Assigning", "Assigned"],
            "{transport:?}"
        );
    }
}

// ---- Runs that were not started ----

#[test]
fn a_run_that_was_not_started_opens_no_connection() {
    for transport in [Blocking, Async, Https] {
        let (requests, url) = serve(vec![assigned(), refused(), assigned()]);
        let answers = [assigned(), refused(), assigned()].map(|answer| vec![bytes(answer), Act::Close]);
        let script = Script::new(answers);
        let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap());
        let (mut key, mut buffer) = (toaster_key(), [0; 1024]);
        let asked = || script.written.borrow().len() + requests.lock().unwrap().len();
        let mut run =
            |provisioning: &mut Provisioning<'_>| drive(transport, provisioning, &mut key, &mut buffer, &script);

        assert_eq!(run(&mut provisioning), Err(Error::NotStarted), "{transport:?}");
        for (number, ended) in [None, Some(ErrorCode::CREDENTIAL_REFUSED), None].into_iter().enumerate() {
            assert_eq!(asked(), number, "{transport:?}");
            provisioning.start(script.clock.now(), UNIX_TIME);
            let outcome = run(&mut provisioning);
            assert_eq!(outcome.map_err(|error| error.code()), ended.map_or(Ok(()), |code| Err(Some(code))));
            // The run has ended, and its outcome stays.
            assert_eq!(run(&mut provisioning), Err(Error::NotStarted), "{transport:?}");
            assert_eq!(run(&mut provisioning), Err(Error::NotStarted), "{transport:?}");
        }
        assert_eq!(asked(), 3, "{transport:?}");
        assert_eq!(provisioning.result(&buffer).unwrap().assigned_hub(), TOASTERS_HUB, "{transport:?}");
    }
}

// ---- Connectors that lend their stream ----

type Log = Rc<RefCell<Vec<&'static str>>>;

/// A modem whose sockets borrow its buffer. There cannot be two sockets at the same time.
struct Modem {
    script: Script,
    buffer: [u8; 32],
    log: Log,
}

struct Socket<'m> {
    stream: AsyncStream,
    buffer: &'m mut [u8],
    log: Log,
}

impl Modem {
    fn open(&mut self) -> Result<Socket<'_>, ConnectError<Refused>> {
        let stream = AsyncStream(self.script.connect()?);
        self.log.borrow_mut().push("connect");
        Ok(Socket { stream, buffer: &mut self.buffer, log: self.log.clone() })
    }
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        self.log.borrow_mut().push("drop");
    }
}

impl embedded_io::ErrorType for Socket<'_> {
    type Error = Broken;
}

impl Socket<'_> {
    fn hand_on(&self, to: &mut [u8], len: usize) -> usize {
        to[..len].copy_from_slice(&self.buffer[..len]);
        len
    }
}

impl embedded_io::Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let space = self.buffer.len().min(buffer.len());
        let len = embedded_io::Read::read(&mut self.stream.0, &mut self.buffer[..space])?;
        Ok(self.hand_on(buffer, len))
    }
}

impl embedded_io::Write for Socket<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        embedded_io::Write::write(&mut self.stream.0, buffer)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        embedded_io::Write::flush(&mut self.stream.0)
    }
}

impl embedded_io_async::Read for Socket<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let space = self.buffer.len().min(buffer.len());
        let len = embedded_io_async::Read::read(&mut self.stream, &mut self.buffer[..space]).await?;
        Ok(self.hand_on(buffer, len))
    }
}

impl embedded_io_async::Write for Socket<'_> {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        embedded_io_async::Write::write(&mut self.stream, buffer).await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        embedded_io_async::Write::flush(&mut self.stream).await
    }
}

impl blocking::Connect for Modem {
    type Error = Refused;
    type StreamError = Broken;
    type Stream<'s> = Socket<'s>;

    fn connect(&mut self, _: Duration) -> Result<Socket<'_>, ConnectError<Refused>> {
        self.open()
    }
}

impl asynch::Connect for Modem {
    type Error = Refused;
    type StreamError = Broken;
    type Stream<'s> = Socket<'s>;

    async fn connect(&mut self, _: Duration) -> Result<Socket<'_>, ConnectError<Refused>> {
        self.open()
    }
}

/// A modem has one socket, and a small board has memory for one TLS session. The run drops the stream before it
/// requests the next one. It does not keep an unusable stream during a wait.
#[test]
fn an_unusable_stream_is_dropped_first() {
    let polled = || bytes(assigning());
    let last = || vec![bytes(assigned())];
    for (connections, expected) in [
        // The service says that it closes the connection.
        (
            vec![vec![bytes(close(&assigning())), Act::Close], last()],
            &["connect", "drop", "wait", "connect", "drop"][..],
        ),
        // The service closes without notice, and the next request detects it.
        (vec![vec![polled(), Act::Close], last()], &["connect", "wait", "drop", "connect", "drop"]),
        (vec![vec![polled(), Act::Fail], last()], &["connect", "wait", "drop", "connect", "drop"]),
        // The service keeps the connection.
        (vec![vec![polled(), bytes(assigned())]], &["connect", "wait", "drop"]),
        // The request fails.
        (vec![vec![Act::Fail], last()], &["connect", "drop", "wait", "connect", "drop"]),
        (vec![vec![Act::TakeNothing], last()], &["connect", "drop", "wait", "connect", "drop"]),
        (vec![vec![Act::Stall], last()], &["connect", "drop", "wait", "connect", "drop"]),
        // The first key is refused.
        (vec![vec![bytes(refused()), bytes(assigned())]], &["connect", "drop"]),
        (vec![vec![bytes(close(&refused()))], last()], &["connect", "drop", "connect", "drop"]),
    ] {
        for transport in [Blocking, Async] {
            let script = Script::new(connections.clone());
            let log = Log::default();
            let mut modem = Modem { script: script.clone(), buffer: [0; 32], log: log.clone() };
            let mut keys = [toaster_key(), toaster_key()];
            let (mut provisioning, mut buffer) = (toaster(), [0; 1024]);
            let clock = script.clock;
            provisioning.start(clock.now(), UNIX_TIME);
            match transport {
                Blocking => {
                    let delay = |wait| {
                        log.borrow_mut().push("wait");
                        clock.advance(wait);
                    };
                    let now = || clock.now();
                    blocking::run(&mut provisioning, &mut keys, &mut buffer, &mut modem, now, delay, |_| ()).unwrap();
                }
                _ => {
                    // The other delays are time-outs of a request.
                    let delay = async |wait: Duration| {
                        if wait < Duration::from_secs(20) {
                            log.borrow_mut().push("wait");
                        }
                        clock.sleep(wait).await;
                    };
                    let run = asynch::run(
                        &mut provisioning,
                        &mut keys,
                        &mut buffer,
                        &mut modem,
                        || clock.now(),
                        delay,
                        |_| (),
                    );
                    clock.block_on(run).unwrap();
                }
            }
            assert_eq!(*log.borrow(), expected, "{transport:?}, {connections:?}");
            assert_eq!(provisioning.result(&buffer).unwrap().assigned_hub(), TOASTERS_HUB);
        }
    }
}

// ---- Buffers ----

/// The first error names a size that is enough for every later content of the buffer.
#[test]
fn a_buffer_too_small_to_sign_names_the_size_of_the_request() {
    for transport in [Blocking, Async] {
        let request = run(transport, toaster(), &mut toaster_key(), &[assigned()], true).requests;
        // The size is sufficient for any signature, also with many escapes.
        let (_, signature) = request.split_once("&sig=").unwrap();
        let needed = request.len() - signature.find('&').unwrap() + LONGEST_SIGNATURE;
        let mut message = [0; 256];
        let message = {
            let mut provisioning = toaster();
            provisioning.start(Duration::ZERO, UNIX_TIME);
            provisioning.write_message(&mut message).unwrap().len()
        };
        assert!(message < request.len());
        for size in 0..request.len() {
            let script = Script::new([vec![bytes(assigned())]]);
            let mut provisioning = toaster().with_endpoint(Endpoint::parse("localhost").unwrap());
            provisioning.start(Duration::ZERO, UNIX_TIME);
            let outcome = drive(transport, &mut provisioning, &mut toaster_key(), &mut vec![0; size], &script);
            let Err(Error::BufferTooSmall(BufferTooSmall { needed: told, exact, .. })) = outcome else {
                panic!("{transport:?}, {size}: {outcome:?}");
            };
            assert_eq!((told, exact), (needed, true), "{transport:?}, {size}");
            // Without a signature, the run does not connect.
            assert_eq!(script.requests().len(), usize::from(size >= message), "{transport:?}, {size}");
            assert!(!provisioning.register_was_sent());
        }
    }
}
