//! The async transport beside the blocking one, and what becomes of futures that are dropped.

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

use ::embedded_io_async::{ErrorType, Read, Write};
use azure_dps::asynch::{self as dps, ConnectError, Error};
use azure_dps::{Error as Dps, Provisioning, RetryPolicy, error::TransportFault};
use support::*;

type Outcome = Result<String, Error<Refused, Broken>>;

/// Every await of a stream gives way once.
async fn give_way() {
    let mut first = true;
    poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await
}

/// A delay on the virtual clock.
async fn delay(clock: &Clock, wait: Duration) {
    give_way().await;
    clock.advance(wait);
}

/// Polls so many times at most; `None` if the future was dropped before its end.
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

/// A service that answers what it is asked: it assigns at the second poll.
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
        // The service has the request, and the device does not know that yet.
        give_way().await;
        Ok(())
    }
}

impl Service {
    async fn connect(&self) -> Result<Connection, ConnectError<Refused>> {
        give_way().await;
        Ok(Connection { service: self.clone(), request: Vec::new(), answer: VecDeque::new() })
    }

    async fn provision(&self, provisioning: &mut Provisioning<'_>) -> Outcome {
        let mut buffer = [0; 1024];
        let (clock, delay) = (|| self.clock.now(), async |wait| delay(&self.clock, wait).await);
        let connect = async |_| self.connect().await;
        dps::provision(provisioning, UNIX_TIME, &mut buffer, connect, clock, delay)
            .await
            .map(|assignment| assignment.assigned_hub().to_string())
    }

    async fn resume(&self, provisioning: &mut Provisioning<'_>) -> Outcome {
        let mut buffer = [0; 1024];
        let (clock, delay) = (|| self.clock.now(), async |wait| delay(&self.clock, wait).await);
        let connect = async |_| self.connect().await;
        dps::resume(provisioning, &mut buffer, connect, clock, delay)
            .await
            .map(|assignment| assignment.assigned_hub().to_string())
    }
}

#[test]
fn a_future_dropped_at_any_await_is_resumed_to_the_same_assignment() {
    let mut dropped = 0;
    loop {
        let service = Service::default();
        let mut key = toaster_key();
        let mut provisioning = toaster(&mut key);
        if let Some(whole) = poll_up_to(dropped, service.provision(&mut provisioning)) {
            assert_eq!(whole.unwrap(), TOASTERS_HUB);
            break;
        }
        let knows_operation = provisioning.operation_id().is_some();
        let registers = service.registers.get();
        let resumed = match dropped {
            // It was never polled, so nothing was begun.
            0 => {
                assert_eq!(block_on(service.resume(&mut provisioning)), Err(Error::Provisioning(Dps::NotStarted)));
                block_on(service.provision(&mut provisioning))
            }
            _ => block_on(service.resume(&mut provisioning)),
        };
        assert_eq!(resumed.unwrap(), TOASTERS_HUB, "dropped after {dropped} polls");
        // What is known is not asked for again.
        let again = service.registers.get() - registers;
        assert_eq!(again, usize::from(!knows_operation), "dropped after {dropped} polls");
        dropped += 1;
    }
    assert!(dropped > 40, "{dropped}");
}

#[test]
fn a_future_dropped_at_every_await_comes_to_its_end_all_the_same() {
    let service = Service::default();
    let mut key = toaster_key();
    let mut provisioning =
        toaster(&mut key).with_retry_policy(RetryPolicy::new().with_timeout(Duration::from_secs(9999)));
    assert!(poll_up_to(1, service.provision(&mut provisioning)).is_none());
    // With so few polls no answer is ever read.
    for polls in 1..12 {
        assert!(poll_up_to(polls, service.resume(&mut provisioning)).is_none());
    }
    assert_eq!(block_on(service.resume(&mut provisioning)).unwrap(), TOASTERS_HUB);
}

/// Where a stream never comes back.
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
fn a_stream_that_never_comes_back_is_given_up_in_time() {
    for stall in [Stall::Connect, Stall::Write, Stall::Flush, Stall::Read] {
        let clock = Clock::default();
        let deadlines = RefCell::new(Vec::new());
        let connect = async |deadline: Duration| {
            deadlines.borrow_mut().push(deadline);
            if stall == Stall::Connect { pending().await } else { Ok::<_, ConnectError<Refused>>(Stalling(stall)) }
        };
        let policy = RetryPolicy::new().with_request_timeout(Duration::from_secs(20)).with_max_retries(1);
        let mut key = toaster_key();
        let mut provisioning = toaster(&mut key).with_retry_policy(policy);
        let mut buffer = [0; 1024];
        let (now, delay) = (|| clock.now(), async |wait| delay(&clock, wait).await);
        let run = dps::provision(&mut provisioning, UNIX_TIME, &mut buffer, connect, now, delay);
        let error = block_on(run).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Dps::Transport(TransportFault::Stalled), "{stall:?}");
        assert_eq!(deadlines.borrow()[0], Duration::from_secs(20), "{stall:?}");
        // Two requests of 20 seconds, and between them 5 seconds and jitter.
        assert!((45..=48).contains(&clock.now().as_secs()), "{stall:?}: {:?}", clock.now());
    }
}
