//! The async transport gives the same results as the blocking transport. A dropped future can be resumed.

mod support;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use azure_dps::asynch::{self, ConnectError, Error};
use azure_dps::identity::tpm::{AuthenticationKey, TpmError, TpmKeys};
use azure_dps::identity::{Sign, SignAsync, SignError};
use azure_dps::{
    Attestation, Error as Dps, Provisioning, RetryPolicy,
    error::{Fault, TransportError},
    provisioning::{Progress, Step},
};
use embedded_io_async::{ErrorType, Read, Write};
use support::*;

type Outcome = Result<String, Error<Refused, Broken>>;

/// Each await of a stream yields once.
async fn give_way() {
    let mut first = true;
    poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await
}

/// A delay on the virtual clock. It yields more often than the operations that it bounds.
async fn delay(clock: &Clock, wait: Duration) {
    for _ in 0..3 {
        give_way().await;
    }
    clock.advance(wait);
}

/// Polls at most `polls` times. Returns `None` if the future was dropped before its end.
fn poll_up_to<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    poll_up_to(10_000, future).expect("the future ends")
}

/// A service that assigns at the second poll.
#[derive(Clone, Default)]
struct Service {
    registers: Rc<Cell<usize>>,
    polls: Rc<Cell<usize>>,
    clock: Clock,
}

struct Connection {
    service: Service,
    request: Vec<u8>,
    answer: VecDeque<u8>,
}

impl ErrorType for Connection {
    type Error = Broken;
}

impl Read for Connection {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        give_way().await;
        let len = self.answer.len().min(buffer.len()).min(100);
        buffer.iter_mut().zip(self.answer.drain(..len)).for_each(|(to, from)| *to = from);
        Ok(len)
    }
}

impl Write for Connection {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        give_way().await;
        let len = buffer.len().div_ceil(2);
        self.request.extend(&buffer[..len]);
        Ok(len)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let request = String::from_utf8(std::mem::take(&mut self.request)).unwrap();
        let count = |counter: &Cell<usize>| counter.replace(counter.get() + 1);
        let answer = if request.starts_with("PUT ") {
            count(&self.service.registers);
            http("202 Accepted", "Retry-After: 3\r\n", ASSIGNING)
        } else {
            assert!(request.starts_with("GET ") && request.contains(OPERATION), "{request}");
            match count(&self.service.polls) {
                0 => http("202 Accepted", "Retry-After: 3\r\n", ASSIGNING),
                _ => http("200 OK", "", ASSIGNED),
            }
        };
        self.answer = answer.into();
        // The service has the request, but the device does not know this yet.
        give_way().await;
        Ok(())
    }
}

impl Service {
    async fn connect(&self) -> Result<Connection, ConnectError<Refused>> {
        give_way().await;
        Ok(Connection { service: self.clone(), request: Vec::new(), answer: VecDeque::new() })
    }

    /// Resumes a run.
    async fn run(&self, chip: &mut Chip, provisioning: &mut Provisioning<'_>) -> Outcome {
        let mut buffer = [0; 1024];
        let (clock, delay) = (|| self.clock.now(), async |wait| delay(&self.clock, wait).await);
        let mut connect = async |_| self.connect().await;
        asynch::run(provisioning, chip, &mut buffer, &mut connect, clock, delay, |_| ()).await?;
        Ok(provisioning.result(&buffer)?.assigned_hub().to_string())
    }
}

/// A secure element on a bus. It yields before and after it signs.
#[derive(Default)]
struct Chip {
    /// The numbers of signatures that were started and finished.
    asked: usize,
    made: usize,
}

impl SignAsync for Chip {
    async fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        self.asked += 1;
        give_way().await;
        Sign::sign(&mut toaster_key(), message, signature)?;
        self.made += 1;
        give_way().await;
        Ok(())
    }
}

/// A resumed run does not repeat a request that was answered, as the module documentation says.
#[test]
fn a_future_dropped_at_any_await_resumes_to_the_same_assignment() {
    let mut dropped = 0;
    loop {
        let (service, mut chip) = (Service::default(), Chip::default());
        let mut provisioning = toaster();
        provisioning.start(service.clock.now(), UNIX_TIME);
        if let Some(whole) = poll_up_to(dropped, service.run(&mut chip, &mut provisioning)) {
            assert_eq!(whole.unwrap(), TOASTERS_HUB);
            assert_eq!((chip.asked, service.registers.get(), service.polls.get()), (1, 1, 2));
            break;
        }
        let is_signed = provisioning.step(service.clock.now()) != Step::Sign;
        let knows_operation = provisioning.operation_id().is_some();
        let (asked, registers, polls) = (chip.asked, service.registers.get(), service.polls.get());
        let outcome = block_on(service.run(&mut chip, &mut provisioning));
        assert_eq!(outcome.unwrap(), TOASTERS_HUB, "dropped after {dropped} polls");
        let again = (chip.asked - asked, service.registers.get() - registers);
        let expected = (usize::from(!is_signed), usize::from(!knows_operation));
        assert_eq!(again, expected, "dropped after {dropped} polls");
        // At most one request more than in a run without interruption.
        let all = registers + polls + again.1 + service.polls.get() - polls;
        assert!(all <= 4, "dropped after {dropped} polls: {all} requests");
        assert!(chip.asked <= 2, "dropped after {dropped} polls: {} signatures", chip.asked);
        dropped += 1;
    }
    assert!(dropped > 40, "{dropped}");
}

/// The future is dropped twice in a run, at any two awaits.
#[test]
fn a_future_dropped_twice_resumes_to_the_same_assignment() {
    for first in 1..45 {
        for second in 1..45 {
            let (service, mut chip) = (Service::default(), Chip::default());
            let mut provisioning = toaster();
            provisioning.start(service.clock.now(), UNIX_TIME);
            let dropped = poll_up_to(first, service.run(&mut chip, &mut provisioning));
            let outcome = dropped
                .or_else(|| poll_up_to(second, service.run(&mut chip, &mut provisioning)))
                .unwrap_or_else(|| block_on(service.run(&mut chip, &mut provisioning)));
            assert_eq!(outcome.unwrap(), TOASTERS_HUB, "{first}, {second}");
            assert!(chip.asked <= 3 && service.registers.get() <= 3, "{first}, {second}");
        }
    }
}

#[test]
fn a_future_dropped_at_every_await_still_ends() {
    let (service, mut chip) = (Service::default(), Chip::default());
    let mut provisioning = toaster().with_retry_policy(RetryPolicy::new().with_timeout(Duration::from_secs(9999)));
    provisioning.start(service.clock.now(), UNIX_TIME);
    // These polls are too few to read an answer.
    for polls in 1..12 {
        assert!(poll_up_to(polls, service.run(&mut chip, &mut provisioning)).is_none());
    }
    assert_eq!(block_on(service.run(&mut chip, &mut provisioning)).unwrap(), TOASTERS_HUB);
}

/// A future that was never polled does nothing.
#[test]
fn a_future_that_is_never_polled_does_not_change_the_run() {
    let (service, mut chip) = (Service::default(), Chip::default());
    let mut provisioning = toaster();
    drop(service.run(&mut chip, &mut provisioning));
    assert_eq!(block_on(service.run(&mut chip, &mut provisioning)), Err(Error::Provisioning(Dps::NotStarted)));
    provisioning.start(service.clock.now(), UNIX_TIME);
    drop(service.run(&mut chip, &mut provisioning));
    assert_eq!(chip.asked, 0);
    assert_eq!(block_on(service.run(&mut chip, &mut provisioning)).unwrap(), TOASTERS_HUB);
}

/// A signer that never answers.
struct Silent;

impl SignAsync for Silent {
    async fn sign(&mut self, _: &[u8], _: &mut [u8; 32]) -> Result<(), SignError> {
        pending().await
    }

    async fn activate(&mut self, _: AuthenticationKey<'_>) -> Result<(), TpmError> {
        pending().await
    }
}

/// No connection was opened before the signature.
#[test]
fn a_signer_that_never_answers_ends_the_run_at_the_requests_deadline() {
    const LIMIT: Duration = Duration::from_secs(20);
    for (request_timeout, timeout) in [(LIMIT, 10 * LIMIT), (10 * LIMIT, LIMIT)] {
        let service = Service::default();
        let policy = RetryPolicy::new().with_request_timeout(request_timeout).with_timeout(timeout);
        let mut provisioning = toaster().with_retry_policy(policy);
        provisioning.start(service.clock.now(), UNIX_TIME);
        let (clock, delay) = (|| service.clock.now(), async |wait| delay(&service.clock, wait).await);
        let mut connect = async |_| -> Result<Connection, ConnectError<Refused>> { panic!("it connected") };
        let (mut silent, mut progress) = (Silent, Vec::new());
        let mut buffer = [0; 1024];
        let run = asynch::run(&mut provisioning, &mut silent, &mut buffer, &mut connect, clock, delay, |event| {
            progress.push(event)
        });
        let error = block_on(run).unwrap_err();
        let Error::Provisioning(Dps::Signer(reason)) = error else { panic!("{error:?}") };
        assert_eq!(error.kind().fault(), Fault::Caller);
        assert_eq!(service.clock.now(), LIMIT);
        assert_eq!(progress, [Progress::Failed(Dps::Signer(reason))]);
        assert!(reason.to_string().contains("did not answer in time"), "{reason}");
        // The same key, which answers now.
        provisioning.start(service.clock.now(), UNIX_TIME);
        assert_eq!(block_on(service.run(&mut Chip::default(), &mut provisioning)).unwrap(), TOASTERS_HUB);
    }
}

/// A TPM that never answers the challenge of the service.
#[test]
fn a_tpm_that_never_answers_ends_the_run_at_the_requests_deadline() {
    let challenge = r#"{"errorCode":401000,"trackingId":"","message":"","authenticationKey":"AAQBAgMEAAQBAgMEAAQBAgMEAAQBAgMEAAQBAgMEAAQBAgME"}"#;
    let script = Script::new([vec![Act::Bytes(http("401 Unauthorized", "", challenge), usize::MAX)]]);
    let keys = TpmKeys { endorsement_key: b"ek", storage_root_key: b"srk" };
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::tpm(keys));
    provisioning.start(script.clock.now(), UNIX_TIME);
    let (clock, delay) = (|| script.clock.now(), async |wait| script.clock.sleep(wait).await);
    let mut connect = async |_| script.connect().map(AsyncStream);
    let (mut silent, mut buffer) = (Silent, [0; 1024]);
    let run = asynch::run(&mut provisioning, &mut silent, &mut buffer, &mut connect, clock, delay, |_| ());
    let error = script.clock.block_on(run).unwrap_err();
    assert!(matches!(error, Error::Provisioning(Dps::Signer(_))), "{error:?}");
    assert_eq!(script.clock.now(), RetryPolicy::new().request_timeout());
    assert_eq!(script.requests().len(), 1);
}

/// The operation of the stream that never ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stall {
    Connect,
    Write,
    Flush,
    Read,
}

struct Stalling(Stall);

impl ErrorType for Stalling {
    type Error = Broken;
}

impl Read for Stalling {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Broken> {
        pending().await
    }
}

impl Write for Stalling {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
        if self.0 == Stall::Write { pending().await } else { Ok(buffer.len()) }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        if self.0 == Stall::Flush { pending().await } else { Ok(()) }
    }
}

#[test]
fn a_stream_that_never_answers_ends_at_the_deadline() {
    for stall in [Stall::Connect, Stall::Write, Stall::Flush, Stall::Read] {
        let clock = Clock::default();
        let deadlines = RefCell::new(Vec::new());
        let mut connect = async |deadline: Duration| {
            deadlines.borrow_mut().push(deadline);
            if stall == Stall::Connect { pending().await } else { Ok::<_, ConnectError<Refused>>(Stalling(stall)) }
        };
        let policy = RetryPolicy::new().with_request_timeout(Duration::from_secs(20)).with_max_retries(1);
        let mut provisioning = toaster().with_retry_policy(policy);
        let mut buffer = [0; 1024];
        let (now, delay) = (|| clock.now(), async |wait| delay(&clock, wait).await);
        let mut key = toaster_key();
        provisioning.start(now(), UNIX_TIME);
        let run = asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, now, delay, |_| ());
        let error = block_on(run).unwrap_err();
        assert_eq!(error.kind(), Dps::Transport(TransportError::Stalled), "{stall:?}");
        assert_eq!(deadlines.borrow()[0], Duration::from_secs(20), "{stall:?}");
        // Two requests of 20 seconds, and between them 5 seconds and jitter.
        assert!((45..=48).contains(&clock.now().as_secs()), "{stall:?}: {:?}", clock.now());
    }
}
