//! An error of a stream is the same fault over each transport that uses byte streams.

mod support;

use std::time::Duration;

use azure_dps::{
    Error, RetryPolicy,
    error::{TransportError, TransportError::*},
};
use azure_dps::{asynch, blocking};
use embedded_io::{Error as _, ErrorKind, ErrorKind::*};
use support::*;

const KINDS: [(ErrorKind, TransportError); 17] = [
    (TimedOut, Stalled),
    (ConnectionReset, Closed),
    (ConnectionAborted, Closed),
    (BrokenPipe, Closed),
    (NotConnected, Closed),
    (WriteZero, Closed),
    (ConnectionRefused, Connect),
    (AddrInUse, Connect),
    (AddrNotAvailable, Connect),
    (Other, Stream),
    (NotFound, Stream),
    (PermissionDenied, Stream),
    (AlreadyExists, Stream),
    (InvalidInput, Stream),
    (InvalidData, Stream),
    (Unsupported, Stream),
    (OutOfMemory, Stream),
];

/// Runs over one connection, blocking and async, without retries.
fn over_both(acts: &[Act]) -> [Result<String, blocking::Error<Refused, Broken>>; 2] {
    let policy = RetryPolicy::new().with_max_retries(0);
    let script = || Script::new([acts.to_vec()]);
    let mut provisioning = toaster().with_retry_policy(policy);
    let hub = |assignment: azure_dps::Assignment<'_>| assignment.assigned_hub().to_string();

    let blocking = script().provision(&mut provisioning, &mut [0; 1024]).map(hub);
    let script = script();
    let clock = script.clock;
    let mut buffer = [0; 1024];
    provisioning.start(clock.now(), UNIX_TIME);
    let (mut key, mut connect) = (toaster_key(), async |_| script.connect().map(AsyncStream));
    let (now, delay) = (|| clock.now(), async |wait| clock.sleep(wait).await);
    let run = asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, now, delay, |_| ());
    let run = clock.block_on(run);
    [blocking, run.map(|()| hub(provisioning.result(&buffer).unwrap()))]
}

#[test]
fn an_error_kind_is_the_same_fault_blocking_and_async() {
    for (kind, fault) in KINDS {
        assert_eq!(TransportError::from(kind), fault, "{kind:?}");
        for result in over_both(&[Act::FailAs(kind)]) {
            let error = result.unwrap_err();
            // The error contains the stream's own error.
            assert_eq!(error, blocking::Error::Stream(Broken(kind)));
            assert_eq!(error.kind(), Error::Transport(fault), "{kind:?}");
            assert_eq!(error.to_string(), format!("{fault}: the stream broke"));
        }
    }
}

#[test]
fn an_interrupted_call_is_repeated() {
    let second = Duration::from_secs(1);
    let answer = Act::Bytes(http("200 OK", "", ASSIGNED), 100);
    for call in [Call::Write, Call::Flush, Call::Read] {
        for times in [1, 2, 59] {
            let acts = [vec![Act::Interrupt(call, second); times], vec![answer.clone()]].concat();
            for result in over_both(&acts) {
                assert_eq!(result.unwrap(), TOASTERS_HUB, "{call:?}");
            }
        }
        // The time-out of the request has passed.
        let acts = [vec![Act::Interrupt(call, second); 60], vec![answer.clone()]].concat();
        for result in over_both(&acts) {
            assert_eq!(result.unwrap_err(), blocking::Error::Provisioning(Error::Transport(Stalled)), "{call:?}");
        }
    }
    // Between two parts of an answer.
    let part = |bytes: &[u8]| Act::Bytes(bytes.to_vec(), usize::MAX);
    let bytes = http("200 OK", "", ASSIGNED);
    for at in [1, 20, bytes.len() - 1] {
        let (start, end) = bytes.split_at(at);
        for result in over_both(&[part(start), Act::Interrupt(Call::Read, second), part(end)]) {
            assert_eq!(result.unwrap(), TOASTERS_HUB);
        }
    }
}

/// A time-out is reported, also on a reused stream, and the request is not repeated at once.
#[test]
fn silence_on_a_reused_connection_is_not_an_idle_close() {
    let ok = |acts: &[Act]| {
        [&[Act::Bytes(http("202 Accepted", "Retry-After: 3\r\n", ASSIGNING), usize::MAX)], acts].concat()
    };
    let policy = RetryPolicy::new().with_max_retries(0);
    for (kind, expected) in [(TimedOut, Err(Error::Transport(Stalled))), (ConnectionReset, Ok(()))] {
        assert_eq!(Broken(kind).kind(), kind);
        let last = vec![Act::Bytes(http("200 OK", "", ASSIGNED), usize::MAX)];
        let script = Script::new([ok(&[Act::FailAs(kind)]), last]);
        let mut provisioning = toaster().with_retry_policy(policy);
        let result = script.provision(&mut provisioning, &mut [0; 1024]).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(result, expected);
    }
}
