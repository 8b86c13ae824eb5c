//! The blocking transport with scripted streams. Each fault is one line of a script.

mod support;

use std::time::Duration;

use azure_dps::blocking::{self, ConnectError, Error};
use azure_dps::{
    Error as Dps, Provisioning, RetryPolicy,
    error::{Fault, TransportError},
    provisioning::Progress,
};
use support::*;

const RETRY_3: &str = "Retry-After: 3\r\n";

fn bytes(answer: Vec<u8>) -> Act {
    Act::Bytes(answer, usize::MAX)
}

/// Provisions over the script on its virtual clock; returns the hub.
fn run(provisioning: &mut Provisioning<'_>, script: &Script) -> Result<String, Error<Refused, Broken>> {
    let mut buffer = [0; 1024];
    let assignment = script.provision(provisioning, &mut buffer)?;
    Ok(assignment.assigned_hub().to_string())
}

fn toaster_over(script: &Script) -> Result<String, Error<Refused, Broken>> {
    run(&mut toaster(), script)
}

#[test]
fn one_connection_carries_the_whole_run() {
    let script = Script::new([vec![
        bytes(http("202 Accepted", RETRY_3, ASSIGNING)),
        bytes(http_chunked("202 Accepted", RETRY_3, ASSIGNING, 50)),
        bytes(http("200 OK", "", ASSIGNED)),
    ]]);
    assert_eq!(toaster_over(&script).unwrap(), TOASTERS_HUB);
    assert_eq!(script.clock.now(), Duration::from_secs(6));
    let requests = &script.requests()[0];
    assert_eq!(requests.matches("PUT /").count(), 1);
    assert_eq!(requests.matches("GET /").count(), 2);
    use Progress::*;
    assert_eq!(script.progress.borrow()[..], [Connected, Registering, Assigning, Assigning, Assigned]);
}

#[test]
fn a_closed_connection_is_replaced() {
    for close in ["Connection: close\r\n", ""] {
        let headers = format!("{RETRY_3}{close}");
        let script = Script::new([
            vec![bytes(http("202 Accepted", &headers, ASSIGNING)), Act::Close],
            vec![bytes(http("200 OK", "", ASSIGNED))],
        ]);
        assert_eq!(toaster_over(&script).unwrap(), TOASTERS_HUB);
        // The server closed the idle connection between the polls. This is not a failure, so there is no wait.
        assert_eq!(script.clock.now(), Duration::from_secs(3));
        assert!(script.requests()[1].starts_with("GET "));
    }
    // The connection may also break.
    let script = Script::new([
        vec![bytes(http("202 Accepted", RETRY_3, ASSIGNING)), Act::Fail],
        vec![bytes(http("200 OK", "", ASSIGNED))],
    ]);
    assert_eq!(toaster_over(&script).unwrap(), TOASTERS_HUB);
    assert_eq!(script.clock.now(), Duration::from_secs(3));
}

/// For a modem with one socket, or a board with memory for one TLS session.
#[test]
fn only_one_connection_is_open_at_a_time() {
    struct Counted<'c>(Stream, &'c std::cell::Cell<u32>);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
        }
    }
    impl embedded_io::ErrorType for Counted<'_> {
        type Error = Broken;
    }
    impl embedded_io::Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
            let read = self.0.read(buffer);
            if let Ok(0) | Err(_) = read {
                // A TLS stack that decrypts in place overwrites the buffer.
                buffer.fill(b'#');
            }
            read
        }
    }
    impl embedded_io::Write for Counted<'_> {
        fn write(&mut self, buffer: &[u8]) -> Result<usize, Broken> {
            self.0.write(buffer)
        }
        fn flush(&mut self) -> Result<(), Broken> {
            Ok(())
        }
    }
    let script = Script::new([
        vec![bytes(http("202 Accepted", RETRY_3, ASSIGNING)), Act::Close],
        vec![bytes(http("202 Accepted", RETRY_3, ASSIGNING)), Act::Fail],
        vec![bytes(http("200 OK", "", ASSIGNED))],
    ]);
    let held = std::cell::Cell::new(0);
    let mut connect = |_| {
        assert_eq!(held.get(), 0);
        held.set(1);
        script.connect().map(|stream| Counted(stream, &held))
    };
    let mut provisioning = toaster();
    let mut buffer = [0; 1024];
    let (clock, delay) = (|| script.clock.now(), |wait| script.clock.advance(wait));
    provisioning.start(clock(), UNIX_TIME);
    blocking::run(&mut provisioning, &mut toaster_key(), &mut buffer, &mut connect, clock, delay, |_| ()).unwrap();
    assert_eq!(provisioning.result(&buffer).unwrap().assigned_hub(), TOASTERS_HUB);
    assert!(script.requests()[1..].iter().all(|request| request.starts_with("GET ")));
}

/// Opening a stream is part of the request, so `connect` gets the deadline of the request.
#[test]
fn connect_has_the_deadline_of_the_request() {
    let script = Script::new([vec![bytes(http("200 OK", "", ASSIGNED))]]);
    let mut deadlines = Vec::new();
    let mut connect = |deadline: Duration| {
        deadlines.push(deadline - script.clock.now());
        if deadlines.len() == 1 { Err(Refused.into()) } else { script.connect() }
    };
    let policy = RetryPolicy::new().with_request_timeout(Duration::from_secs(20)).with_timeout(Duration::from_secs(21));
    let mut provisioning = toaster().with_retry_policy(policy);
    let mut buffer = [0; 1024];
    let (clock, delay) = (|| script.clock.now(), |wait| script.clock.advance(wait));
    provisioning.start(clock(), UNIX_TIME);
    blocking::run(&mut provisioning, &mut toaster_key(), &mut buffer, &mut connect, clock, delay, |_| ()).unwrap();
    assert_eq!(provisioning.result(&buffer).unwrap().assigned_hub(), TOASTERS_HUB);
    assert_eq!(deadlines[0], Duration::from_secs(20));
    // The run ends before the deadline of the second request.
    assert!(deadlines[1] <= Duration::from_secs(16), "{deadlines:?}");
}

#[test]
fn a_stream_that_accepts_no_bytes_does_not_panic() {
    let script = Script::new(vec![vec![Act::TakeNothing]; 9]);
    let error = toaster_over(&script).unwrap_err();
    assert_eq!(error, Error::Provisioning(Dps::Transport(TransportError::Closed)));
}

#[test]
fn the_error_of_the_stream_is_returned() {
    let error = toaster_over(&Script::new([])).unwrap_err();
    assert_eq!(error, Error::Connect(Refused));
    assert_eq!(error.kind(), Dps::Transport(TransportError::Connect));
    assert_eq!(error.fault(), Fault::Transport);

    let error = toaster_over(&Script::new(vec![vec![Act::Fail]; 9])).unwrap_err();
    assert_eq!(error, Error::Stream(RESET));
    assert_eq!(error.to_string(), "the connection was closed before the answer was complete: the stream broke");
}

/// An untrusted certificate and a proxy that rejects the device are final: a retry would not change them.
#[test]
fn a_final_connection_error_is_not_retried() {
    let cases: [(ConnectError<Refused>, Error<Refused, Broken>, _, _); 2] = [
        (ConnectError::Untrusted(Refused), Error::Untrusted(Refused), Dps::Untrusted, Fault::Peer),
        (ConnectError::ProxyRefused(Refused), Error::ProxyRefused(Refused), Dps::ProxyRefused, Fault::Caller),
    ];
    for (refusal, expected, kind, fault) in cases {
        let mut provisioning = toaster();
        let mut attempts = 0;
        let mut connect = |_| {
            attempts += 1;
            Err::<Stream, _>(refusal)
        };
        let mut buffer = [0; 1024];
        let clock = || Duration::ZERO;
        provisioning.start(clock(), UNIX_TIME);
        let result =
            blocking::run(&mut provisioning, &mut toaster_key(), &mut buffer, &mut connect, clock, |_| (), |_| ());
        let error = result.unwrap_err();
        assert_eq!((error, error.kind(), error.fault()), (expected, kind, fault));
        assert_eq!(error.to_string(), format!("{kind}: connection refused"));
        assert_eq!(attempts, 1);
        assert!(!provisioning.register_was_sent());
    }
}

#[test]
fn a_refusal_after_a_network_fault_is_a_refusal() {
    let refusal = http("401 Unauthorized", "", r#"{"errorCode":401000}"#);
    let script = Script::new([vec![Act::Fail], vec![bytes(refusal)]]);
    let error = toaster_over(&script).unwrap_err();
    assert_eq!(error.fault(), Fault::Credential);
    assert!(matches!(error, Error::Provisioning(Dps::Refused(_))));
}

#[test]
fn the_buffer_may_be_too_small() {
    let mut provisioning = toaster();
    let assigned = ASSIGNED.replace("value1", &"x".repeat(1000));
    let answers =
        || Script::new([vec![bytes(http("202 Accepted", RETRY_3, ASSIGNING)), bytes(http("200 OK", "", &assigned))]]);
    let mut size = 0;
    let mut steps = 0;
    loop {
        let script = answers();
        let mut buffer = vec![0; size];
        match script.provision(&mut provisioning, &mut buffer) {
            Ok(_) => break,
            Err(Error::Provisioning(Dps::BufferTooSmall(error))) => {
                assert!(error.needed > size);
                size = error.needed;
            }
            Err(error) => panic!("{size}: {error}"),
        }
        steps += 1;
    }
    // The error names the exact size, first for the request, then for the body of the answer.
    assert_eq!(steps, 2);
}

#[test]
fn a_tight_budget_of_retries() {
    let policy = RetryPolicy::new().with_max_retries(0);
    let mut provisioning = toaster().with_retry_policy(policy);
    let script = Script::new([vec![Act::Fail], vec![bytes(http("200 OK", "", ASSIGNED))]]);
    assert_eq!(run(&mut provisioning, &script), Err(Error::Stream(RESET)));
    assert_eq!(run(&mut provisioning, &script).as_deref(), Ok(TOASTERS_HUB));
}
