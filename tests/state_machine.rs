//! The state machine on a virtual clock. Ten minutes of waiting take no real time.

mod support;

use std::time::Duration;

use azure_dps::{
    Attestation, Error, Provisioning, RetryPolicy,
    error::{ErrorCode, Fault, Malformed, TransportError},
    identity::{Sign, SignError},
    provisioning::{Answer, Progress, RETRY_AFTER_MAX, RETRY_AFTER_MIN, Step},
};
use support::*;

const SECOND: Duration = Duration::from_secs(1);
const NETWORK: Error = Error::Transport(TransportError::Stream);

fn error_body(code: u32) -> String {
    format!(
        r#"{{"errorCode":{code},"trackingId":"6d75a1fe-0129-4f41-844b-c253a6653d4f","message":"words","timestampUtc":"2026-01-02T03:04:05.6789012Z"}}"#
    )
}

fn failed_body(code: u32) -> String {
    format!(
        r#"{{"operationId":"{OPERATION}","status":"failed","registrationState":{{"registrationId":"{TOASTER}","status":"failed","errorCode":{code},"errorMessage":"words"}}}}"#
    )
}

/// Returns the next step of the run after the signature.
fn signed_step(provisioning: &mut Provisioning<'_>, now: Duration) -> Step {
    match provisioning.step(now) {
        Step::Sign => {
            provisioning.sign_with(&mut toaster_key(), &mut [0; 128]).unwrap();
            provisioning.step(now)
        }
        step => step,
    }
}

#[test]
fn register_poll_assigned() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    let result =
        bench.run(&[answers(202, Some(3), ASSIGNING), answers(202, Some(3), ASSIGNING), answers(200, None, ASSIGNED)]);
    assert_eq!(result, Ok((TOASTERS_HUB.into(), TOASTER.into())));
    assert_eq!(bench.requests(), ["register", "status", "status"]);
    assert_eq!(bench.waits, [3 * SECOND, 3 * SECOND]);
    // The service has finished the operation.
    assert_eq!(bench.provisioning.operation_id(), None);
    let expected = [Progress::Registering, Progress::Assigning, Progress::Assigning, Progress::Assigned];
    assert_eq!(bench.progress, expected);
}

#[test]
fn requests_are_those_of_the_rest_specification() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(202, Some(3), ASSIGNING), answers(200, None, ASSIGNED)]).unwrap();

    let (head, body) = bench.sent[0].split_once("\r\n\r\n").unwrap();
    let expected_body = format!(r#"{{"registrationId":"{TOASTER}","payload":{PAYLOAD}}}"#);
    assert_eq!(body, expected_body);
    let lines: Vec<_> = head.split("\r\n").collect();
    assert_eq!(lines[0], format!("PUT /{SCOPE}/registrations/{TOASTER}/register?api-version=2021-06-01 HTTP/1.1"));
    assert_eq!(lines[1], "Host: global.azure-devices-provisioning.net");
    let token = lines.iter().find_map(|line| line.strip_prefix("Authorization: ")).unwrap();
    let sr = format!("SharedAccessSignature sr={SCOPE}%2fregistrations%2f{TOASTER}&sig=");
    assert!(token.starts_with(&sr), "{token}");
    // The token is valid for one hour from the start.
    assert!(token.ends_with("&se=1700003600&skn=registration"), "{token}");
    assert!(lines.contains(&"Content-Type: application/json"));
    assert!(lines.contains(&format!("Content-Length: {}", expected_body.len()).as_str()));

    let lines: Vec<_> = bench.sent[1].split("\r\n").collect();
    assert_eq!(
        lines[0],
        format!("GET /{SCOPE}/registrations/{TOASTER}/operations/{OPERATION}?api-version=2021-06-01 HTTP/1.1")
    );
    // The run signs once, and uses the token again for the poll.
    assert!(lines.contains(&format!("Authorization: {token}").as_str()));
    assert!(bench.sent[1].ends_with("\r\n\r\n"));
}

#[test]
fn ids_are_escaped_in_paths() {
    let mut provisioning = Provisioning::new(registration("a:b"), Attestation::symmetric_key());
    let mut bench = Bench::start(&mut provisioning);
    let assigned = ASSIGNED.replace(TOASTER, "a:b");
    let odd = ASSIGNING.replace(OPERATION, r"4.a\u002fb c?");
    bench.run(&[answers(202, Some(1), odd), answers(200, None, assigned)]).unwrap();
    assert!(bench.sent[0].starts_with("PUT /0ne00002193/registrations/a%3Ab/register?"));
    assert!(bench.sent[0].contains("sr=0ne00002193%2fregistrations%2fa%3Ab&"));
    assert!(bench.sent[1].starts_with("GET /0ne00002193/registrations/a%3Ab/operations/4.a%2Fb%20c%3F?"));
}

#[test]
fn x509_sends_no_token_and_needs_no_wall_clock() {
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(202, Some(3), ASSIGNING), answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.sent.iter().all(|request| !request.contains("Authorization")));
}

#[test]
fn the_token_outlives_the_run() {
    let policy = RetryPolicy::new().with_timeout(Duration::from_secs(7200));
    let mut provisioning = toaster().with_token_lifetime(30).with_retry_policy(policy);
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.sent[0].contains("&se=1700007200&"));

    // Without a time-out, the token is valid for thirty days.
    let policy = RetryPolicy::new().with_timeout(Duration::MAX);
    let mut provisioning = toaster().with_retry_policy(policy);
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.sent[0].contains("&se=1702592000&"), "{}", bench.sent[0]);
}

#[test]
fn retry_after_is_obeyed_within_bounds() {
    for (retry_after, wait) in
        [(0, RETRY_AFTER_MIN), (1, SECOND), (120, 120 * SECOND), (301, RETRY_AFTER_MAX), (u32::MAX, RETRY_AFTER_MAX)]
    {
        let mut provisioning = toaster();
        let mut bench = Bench::start(&mut provisioning);
        bench.run(&[answers(202, Some(retry_after), ASSIGNING), answers(200, None, ASSIGNED)]).unwrap();
        assert_eq!(bench.waits, [wait]);
    }
}

#[test]
fn without_retry_after_the_polls_are_spread() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    let mut peers = vec![answers(202, None, ASSIGNING); 50];
    peers.push(answers(200, None, ASSIGNED));
    bench.run(&peers).unwrap();
    assert!(bench.waits.iter().all(|wait| (3 * SECOND..=4500 * SECOND / 1000).contains(wait)), "{:?}", bench.waits);
    let mut different = bench.waits.clone();
    different.sort();
    different.dedup();
    assert!(different.len() > 25, "{:?}", bench.waits);
}

#[test]
fn no_policy_polls_without_a_pause() {
    let policy = RetryPolicy::new().with_poll_interval(Duration::ZERO);
    let mut provisioning = toaster().with_retry_policy(policy);
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(202, None, ASSIGNING), answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.waits[0] >= SECOND);
}

#[test]
fn the_spread_differs_between_starts() {
    let first_wait = |unix_time, seed| {
        let policy = RetryPolicy::new().with_jitter_seed(seed);
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509()).with_retry_policy(policy);
        first_wait(&mut provisioning, unix_time)
    };
    let distinct = |mut waits: Vec<Duration>| {
        waits.sort();
        waits.dedup();
        waits.len()
    };
    // The jitter differs between two consecutive seconds.
    assert!(distinct((0..100).map(|second| first_wait(UNIX_TIME + second, 0)).collect()) > 95);
    // It differs with a boot counter, without a clock.
    assert!(distinct((0..100).map(|boot| first_wait(0, boot)).collect()) > 95);
    // It differs between two runs, without clock and counter.
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
    assert!(distinct((0..100).map(|_| self::first_wait(&mut provisioning, 0)).collect()) > 95);
    // It is the same for the same inputs.
    assert_eq!(first_wait(UNIX_TIME, 3), first_wait(UNIX_TIME, 3));
}

fn first_wait(provisioning: &mut Provisioning<'_>, unix_time: u64) -> Duration {
    provisioning.start(Duration::ZERO, unix_time);
    provisioning.on_answer(Duration::ZERO, Answer::new(202, None, ASSIGNING.as_bytes()));
    let Step::Wait(wait) = provisioning.step(Duration::ZERO) else { panic!() };
    wait
}

/// The devices of a site start while the network is still down.
#[test]
fn devices_that_cannot_connect_do_not_retry_at_the_same_time() {
    let mut waits: Vec<_> = ["dev-1", "dev-2", "dev-3", "dev-4", TOASTER, HEAT_PUMP]
        .map(|id| {
            let mut provisioning = Provisioning::new(registration(id), Attestation::symmetric_key());
            provisioning.start(Duration::ZERO, UNIX_TIME);
            assert_eq!(signed_step(&mut provisioning, Duration::ZERO), Step::Send);
            provisioning.on_error(Duration::ZERO, Error::Transport(TransportError::Connect));
            let Step::Wait(wait) = provisioning.step(Duration::ZERO) else { panic!() };
            wait
        })
        .into();
    waits.sort();
    waits.dedup();
    assert_eq!(waits.len(), 6, "{waits:?}");
}

#[test]
fn failed_requests_are_repeated_after_growing_pauses() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    let mut peers = vec![Peer::Fails(NETWORK); 6];
    peers.push(answers(200, None, ASSIGNED));
    bench.run(&peers).unwrap();
    for (wait, base) in bench.waits.iter().zip([5, 10, 20, 40, 80, 80]) {
        let base = base * SECOND;
        assert!((base..=base * 3 / 2).contains(wait), "{wait:?} for {base:?}");
    }
    assert_eq!(bench.waits.len(), 6);
}

#[test]
fn a_failure_keeps_the_operation() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    bench
        .run(&[
            answers(202, Some(1), ASSIGNING),
            Peer::Fails(NETWORK),
            answers(500, None, error_body(500001)),
            answers(200, None, ASSIGNED),
        ])
        .unwrap();
    assert_eq!(bench.requests(), ["register", "status", "status", "status"]);
}

#[test]
fn a_concurrent_registration_is_repeated_shortly() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(409, None, error_body(409203)), answers(200, None, ASSIGNED)]).unwrap();
    assert!((SECOND..=SECOND * 2).contains(&bench.waits[0]));
    assert_eq!(bench.requests(), ["register", "register"]);
}

#[test]
fn the_number_of_network_failures_is_limited() {
    for (peer, error) in [
        (Peer::Fails(NETWORK), NETWORK),
        (Peer::Fails(Error::Transport(TransportError::Stalled)), Error::Transport(TransportError::Stalled)),
    ] {
        let policy = RetryPolicy::new().with_max_retries(3);
        let mut provisioning = toaster().with_retry_policy(policy);
        let mut bench = Bench::start(&mut provisioning);
        assert_eq!(bench.run(&[peer]), Err(error));
        assert_eq!(bench.sent.len(), 4);
    }
    // A truncated document does not count as an answer of the service.
    let policy = RetryPolicy::new().with_max_retries(3);
    let mut provisioning = toaster().with_retry_policy(policy);
    let mut bench = Bench::start(&mut provisioning);
    let error = bench.run(&[answers(200, None, &ASSIGNED[..50])]).unwrap_err();
    assert_eq!((error, bench.sent.len()), (Error::Transport(TransportError::Closed), 4));

    // Only consecutive failures count: any answer of the service, even a rejection, resets the count.
    let policy = RetryPolicy::new().with_max_retries(1);
    let mut provisioning = toaster().with_retry_policy(policy);
    let mut peers = Vec::new();
    for peer in [answers(503, None, ""), answers(429, Some(1), ""), answers(202, Some(1), ASSIGNING)] {
        peers.extend([Peer::Fails(NETWORK), peer]);
    }
    peers.push(answers(200, None, ASSIGNED));
    assert!(Bench::start(&mut provisioning).run(&peers).is_ok());
}

/// The service misbehaves for this time, then it assigns the device.
fn after(outage: Duration, fault: &Peer, good: &[Peer]) -> (Result<(String, String), Error>, Duration, usize) {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    let clock = bench.clock;
    let mut good = good.iter();
    let outcome = bench.run_with(|| if clock.now() < outage { fault } else { good.next().unwrap() }.clone());
    (outcome, clock.now(), bench.sent.len())
}

#[test]
fn waits_that_the_service_requests_are_limited_only_by_the_run() {
    let good = [answers(202, Some(3), ASSIGNING), answers(200, None, ASSIGNED)];
    for (minutes, attempts) in [(1, 5), (5, 10)] {
        for fault in [
            answers(429, None, error_body(429001)),
            answers(429, Some(3), error_body(429001)),
            answers(503, None, ""),
            answers(500, Some(3), error_body(500001)),
            answers(408, None, ""),
        ] {
            let (outcome, time, sent) = after(minutes * 60 * SECOND, &fault, &good);
            assert_eq!(outcome.unwrap().0, TOASTERS_HUB);
            assert!(time <= minutes * 60 * SECOND + 123 * SECOND, "{time:?}");
            assert!(sent <= attempts + 2, "{sent}");
        }
        let (outcome, time, sent) = after(minutes * 60 * SECOND, &answers(409, None, error_body(409203)), &good);
        assert_eq!(outcome.unwrap().0, TOASTERS_HUB);
        assert!(time <= minutes * 60 * SECOND + 63 * SECOND, "{time:?}");
        assert!(sent <= 25, "{sent}");
    }
    // If it never recovers, the error names the reason.
    for (fault, code) in [
        (answers(429, Some(1), error_body(429001)), 429001),
        (answers(409, Some(1), error_body(409203)), 409203),
        (answers(503, Some(1), error_body(503001)), 503001),
    ] {
        let (outcome, time, _) = after(Duration::MAX, &fault, &[]);
        let error = outcome.unwrap_err();
        assert_eq!((error.code().map(ErrorCode::value), error.fault()), (Some(code), Fault::Busy));
        assert!((480 * SECOND..600 * SECOND).contains(&time), "{time:?}");
    }
}

/// Each wait is between the listed seconds and twice that. The last wait is the longest, and differs between runs.
#[test]
fn waits_and_their_spread_grow() {
    let refused = |status, code| move |retry_after| answers(status, retry_after, error_body(code));
    let throttled: &dyn Fn(Option<u32>) -> Peer = &refused(429, 429001);
    let failing = &refused(500, 500001);
    let registering = &refused(409, 409203);
    for (peer, retry_after, waits) in [
        (throttled, None, [10, 20, 40, 60, 60, 60]),
        (throttled, Some(3), [10, 20, 40, 60, 60, 60]),
        (throttled, Some(30), [30, 30, 40, 60, 60, 60]),
        (throttled, Some(300), [300; 6]),
        (failing, None, [10, 20, 40, 60, 60, 60]),
        (failing, Some(45), [45, 45, 45, 60, 60, 60]),
        (registering, None, [1, 2, 4, 8, 16, 30]),
        (registering, Some(3), [3, 3, 4, 8, 16, 30]),
    ] {
        let mut spread = [Duration::MAX, Duration::ZERO];
        for seed in 0..50 {
            let policy = RetryPolicy::new().with_timeout(Duration::MAX).with_jitter_seed(seed);
            let mut provisioning = toaster().with_retry_policy(policy);
            let mut bench = Bench::start(&mut provisioning);
            let mut peers = vec![peer(retry_after); waits.len()];
            peers.push(answers(200, None, ASSIGNED));
            bench.run(&peers).unwrap();
            for (wait, seconds) in bench.waits.iter().zip(waits) {
                assert!((seconds * SECOND..=2 * seconds * SECOND).contains(wait), "{wait:?} for {seconds} s");
            }
            let last = bench.waits[waits.len() - 1];
            spread = [spread[0].min(last), spread[1].max(last)];
        }
        let longest = waits[waits.len() - 1] * SECOND;
        assert!(spread[1] - spread[0] > longest * 3 / 4, "{spread:?}");
    }
}

#[test]
fn a_retry_is_reported_with_its_reason_and_its_wait() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    let peers = [
        Peer::Fails(NETWORK),
        answers(429, None, error_body(429001)),
        answers(202, Some(3), ASSIGNING),
        answers(503, None, ""),
        answers(200, None, ASSIGNED),
    ];
    bench.run(&peers).unwrap();
    let waits = [bench.waits[0], bench.waits[1], bench.waits[3]];
    let retries: Vec<_> = bench
        .progress
        .iter()
        .filter_map(|progress| match progress {
            Progress::Retrying { error, wait, failures } => Some((error.fault(), *wait, *failures)),
            _ => None,
        })
        .collect();
    let expected = [(Fault::Transport, waits[0], 1), (Fault::Busy, waits[1], 2), (Fault::Busy, waits[2], 1)];
    assert_eq!(retries, expected);
}

/// The service loses operations in a fail-over or restart.
#[test]
fn an_operation_that_is_lost_is_registered_again_once() {
    let pending = answers(202, Some(3), ASSIGNING);
    let lost = [answers(404, None, error_body(404201)), answers(404, Some(1), ""), answers(404, None, "<html>")];
    for lost in &lost {
        let mut waits = Vec::new();
        for seed in 0..20 {
            let policy = RetryPolicy::new().with_jitter_seed(seed);
            let mut provisioning = toaster().with_retry_policy(policy);
            let mut bench = Bench::start(&mut provisioning);
            let peers = [pending.clone(), lost.clone(), pending.clone(), answers(200, None, ASSIGNED)];
            assert_eq!(bench.run(&peers).unwrap().0, TOASTERS_HUB);
            assert_eq!(bench.requests(), ["register", "status", "register", "status"]);
            assert!((10 * SECOND..=20 * SECOND).contains(&bench.waits[1]), "{:?}", bench.waits);
            waits.push(bench.waits[1]);
        }
        // A fail-over hits all devices at once.
        waits.sort();
        assert!(waits[19] - waits[0] > 5 * SECOND, "{waits:?}");

        let mut provisioning = toaster();
        let mut bench = Bench::start(&mut provisioning);
        let twice = [pending.clone(), lost.clone(), pending.clone(), lost.clone()];
        let error = bench.run(&twice).unwrap_err();
        assert!(matches!(error, Error::OperationLost(refusal) if refusal.http_status == 404), "{error:?}");
        assert_eq!(error.fault(), Fault::Busy);
        assert!(!error.to_string().contains("enrollment"), "{error}");
        assert_eq!(bench.requests(), ["register", "status", "register", "status"]);
        // A new run may try again.
        let mut bench = Bench::start(&mut provisioning);
        let peers = [pending.clone(), lost.clone(), answers(200, None, ASSIGNED)];
        assert!(bench.run(&peers).is_ok());
    }
    // The error answers the register request itself: there is no enrollment.
    for peers in [vec![lost[0].clone()], vec![pending, lost[0].clone(), lost[0].clone()]] {
        let mut provisioning = toaster();
        let error = Bench::start(&mut provisioning).run(&peers).unwrap_err();
        assert!(matches!(error, Error::Refused(_)) && error.fault() == Fault::Refused, "{error:?}");
    }
}

/// Without an answer, the error is not `StillAssigning`.
#[test]
fn a_timed_out_run_names_the_pending_step() {
    const LATE: Duration = Duration::from_secs(601);
    let connect = Error::Transport(TransportError::Connect);
    let throttled = Answer::new(429, None, br#"{"errorCode":429001}"#);
    let pending = Answer::new(202, Some(3), ASSIGNING.as_bytes());
    let mut buffer = [0; 1024];
    let mut provisioning = toaster();
    let mut out_of_time = |story: &dyn Fn(&mut Provisioning<'_>, &mut [u8])| {
        provisioning.start(Duration::ZERO, UNIX_TIME);
        story(&mut provisioning, &mut buffer);
        assert_eq!(provisioning.step(LATE), Step::Finished);
        provisioning.result(&buffer).unwrap_err()
    };
    let send = |provisioning: &mut Provisioning<'_>, at, buffer: &mut [u8]| {
        assert_eq!(signed_step(provisioning, at), Step::Send);
        azure_dps::http::write_request(provisioning, at, buffer).unwrap();
    };

    // The driver asked for a step too late.
    assert_eq!(out_of_time(&|_, _| ()), Error::TimedOut);
    // A future that was dropped during an exchange.
    assert_eq!(out_of_time(&|run, buffer| send(run, Duration::ZERO, buffer)), Error::TimedOut);
    // No connection, and then a second attempt without a report.
    let failed_then_lost = |run: &mut Provisioning<'_>, buffer: &mut [u8]| {
        send(run, Duration::ZERO, buffer);
        run.on_error(SECOND, connect);
        send(run, 20 * SECOND, buffer);
    };
    assert_eq!(out_of_time(&failed_then_lost), connect);
    // Throttled, and resumed late.
    let error = out_of_time(&|run, buffer| {
        send(run, Duration::ZERO, buffer);
        run.on_answer(SECOND, throttled);
    });
    assert_eq!(error.code(), Some(ErrorCode::THROTTLED));
    // Assigning, with the last poll not reported or not sent.
    for is_sent in [false, true] {
        let error = out_of_time(&|run, buffer| {
            send(run, Duration::ZERO, buffer);
            run.on_answer(SECOND, pending);
            if is_sent {
                send(run, 5 * SECOND, buffer);
            }
        });
        assert_eq!(error, Error::StillAssigning);
    }
    // Assigning, and then the network failed.
    let error = out_of_time(&|run, buffer| {
        send(run, Duration::ZERO, buffer);
        run.on_answer(SECOND, pending);
        send(run, 5 * SECOND, buffer);
        run.on_error(6 * SECOND, connect);
    });
    assert_eq!(error, connect);
}

/// One of the two statuses is late.
#[test]
fn assigned_and_assigning_is_polled_again() {
    let answer = |outer, inner| {
        let hub = r#""assignedHub":"h.azure-devices.net","deviceId":"d""#;
        let state = format!(r#"{{"status":"{inner}",{hub}}}"#);
        answers(200, Some(1), format!(r#"{{"operationId":"4.x","status":"{outer}","registrationState":{state}}}"#))
    };
    for (outer, inner) in [
        ("assigned", "assigning"),
        ("assigned", "unassigned"),
        ("assigned", "Assigning"),
        ("assigning", "assigned"),
        ("unassigned", "assigned"),
    ] {
        let mut provisioning = toaster();
        let mut bench = Bench::start(&mut provisioning);
        bench.run(&[answer(outer, inner), answers(200, None, ASSIGNED)]).unwrap();
        assert_eq!(bench.requests(), ["register", "status"], "{outer}, {inner}");
        let error = Bench::start(&mut provisioning).run(&[answer(outer, inner)]).unwrap_err();
        assert_eq!(error, Error::StillAssigning);
    }
    let contradiction = Error::Malformed(Malformed::Contradiction("registrationState.status"));
    for (outer, inner) in [
        ("assigned", "failed"),
        ("assigned", "disabled"),
        ("assigned", "somethingNew"),
        ("failed", "assigned"),
        ("disabled", "assigned"),
        ("somethingNew", "assigned"),
    ] {
        let mut provisioning = toaster();
        let error = Bench::start(&mut provisioning).run(&[answer(outer, inner)]).unwrap_err();
        assert_eq!(error, contradiction, "{outer}, {inner}");
    }
}

#[test]
fn the_run_has_a_time_limit() {
    // The service never finishes the assignment.
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    assert_eq!(bench.run(&[answers(202, Some(3), ASSIGNING)]), Err(Error::StillAssigning));
    assert!(bench.clock.now() <= 600 * SECOND, "{:?}", bench.clock.now());
    assert!(bench.sent.len() > 190);

    // Throttled with a wait beyond the deadline. The run ends at once, and the error names the reason.
    let policy = RetryPolicy::new().with_timeout(60 * SECOND);
    let mut provisioning = toaster().with_retry_policy(policy);
    let mut bench = Bench::start(&mut provisioning);
    let error = bench.run(&[answers(429, Some(100), error_body(429001))]).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::THROTTLED));
    assert_eq!(bench.waits, []);
    assert_eq!(bench.progress, [Progress::Registering, Progress::Failed(error)]);
}

/// `operation_id` is known from the first answer to the end of the run. After an assignment there is no operation.
#[test]
fn the_operation_is_known_while_there_is_one() {
    let mut provisioning = toaster();
    assert_eq!(provisioning.operation_id(), None);
    let pending = answers(202, Some(1), ASSIGNING);
    Bench::start(&mut provisioning).run(&[pending.clone(), answers(401, None, "")]).unwrap_err();
    assert_eq!(provisioning.operation_id(), Some(OPERATION));
    provisioning.start(Duration::ZERO, UNIX_TIME);
    assert_eq!(provisioning.operation_id(), None);
    for peers in [vec![answers(200, None, ASSIGNED)], vec![pending, answers(200, None, ASSIGNED)]] {
        Bench::start(&mut provisioning).run(&peers).unwrap();
        assert_eq!(provisioning.operation_id(), None);
    }
}

#[test]
fn a_run_can_be_repeated_after_any_end() {
    let mut provisioning = toaster();
    for peer in [
        Peer::Fails(NETWORK),
        answers(202, Some(300), ASSIGNING),
        answers(401, None, error_body(401000)),
        answers(200, None, failed_body(400207)),
        answers(200, None, "garbage"),
    ] {
        assert!(Bench::start(&mut provisioning).run(&[peer]).is_err());
        let mut bench = Bench::start(&mut provisioning);
        let result = bench.run(&[answers(202, Some(1), ASSIGNING), answers(200, None, ASSIGNED)]);
        assert_eq!(result.unwrap().0, TOASTERS_HUB);
        assert_eq!(bench.requests(), ["register", "status"]);
    }
}

/// <https://learn.microsoft.com/azure/iot-dps/tutorial-custom-allocation-policies#troubleshooting-custom-allocation-policies>
#[test]
fn the_tutorials_troubleshooting_table_as_answers() {
    let run = |peers: &[Peer]| {
        let mut provisioning = toaster();
        Bench::start(&mut provisioning).run(peers)
    };
    let failed = |code| run(&[answers(202, Some(3), ASSIGNING), answers(200, None, failed_body(code))]).unwrap_err();

    assert!(run(&[answers(202, Some(3), ASSIGNING), answers(200, None, ASSIGNED)]).is_ok());
    for (code, expected) in [
        (400208, ErrorCode::CUSTOM_ALLOCATION_IOT_HUB_NOT_SPECIFIED),
        (400209, ErrorCode::CUSTOM_ALLOCATION_UNAUTHORIZED_ACCESS),
        (400207, ErrorCode::CUSTOM_ALLOCATION_FAILED),
    ] {
        let error = failed(code);
        assert!(matches!(error, Error::Failed(refusal) if refusal.http_status == 200));
        assert_eq!((error.code(), error.fault()), (Some(expected), Fault::Refused));
    }
    let disabled = format!(
        r#"{{"operationId":"","status":"disabled","registrationState":{{"registrationId":"{TOASTER}","status":"disabled"}}}}"#
    );
    assert_eq!(run(&[answers(200, None, disabled)]), Err(Error::Disabled));
    // Webhook ≥ 429: the service retries, and the device sees `assigning` meanwhile.
    let mut peers = vec![answers(202, Some(3), ASSIGNING); 100];
    peers.push(answers(200, None, ASSIGNED));
    assert!(run(&peers).is_ok());
}

#[test]
fn every_known_code_in_both_places() {
    for (code, fault, sent) in [
        (400004, Fault::Refused, 1..=1),
        (400207, Fault::Refused, 1..=1),
        (400208, Fault::Refused, 1..=1),
        (400209, Fault::Refused, 1..=1),
        (401000, Fault::Credential, 1..=1),
        (401002, Fault::Credential, 1..=1),
        (404201, Fault::Refused, 1..=1),
        (404202, Fault::Refused, 1..=1),
        (409203, Fault::Busy, 13..=30),
        (429001, Fault::Busy, 7..=13),
        (412123, Fault::Refused, 1..=1),
        (500123, Fault::Busy, 7..=13),
    ] {
        let mut provisioning = toaster();
        let mut bench = Bench::start(&mut provisioning);
        let error = bench.run(&[answers((code / 1000) as u16, Some(1), error_body(code))]).unwrap_err();
        let Error::Refused(refusal) = error else { panic!("{error:?}") };
        assert_eq!(refusal.code.map(ErrorCode::value), Some(code));
        assert_eq!(refusal.tracking_id.unwrap().to_string(), "6d75a1fe-0129-4f41-844b-c253a6653d4f");
        assert_eq!(error.fault(), fault, "{code}");
        assert!(sent.contains(&bench.sent.len()), "{code}: {}", bench.sent.len());
        assert!(error.to_string().contains(&code.to_string()));
        let with_state = error_body(code).replace('}', r#","registrationState":{}}"#);
        let mut bench = Bench::start(&mut provisioning);
        let error = bench.run(&[answers((code / 1000) as u16, Some(1), with_state)]).unwrap_err();
        assert_eq!(error.code().map(ErrorCode::value), Some(code));

        // A status of `failed` is final.
        let mut bench = Bench::start(&mut provisioning);
        let error = bench.run(&[answers(200, None, failed_body(code))]).unwrap_err();
        assert!(matches!(error, Error::Failed(_)));
        // The credential was accepted, so a 401 in the document is not about the device.
        let fault = if fault == Fault::Credential { Fault::Refused } else { fault };
        assert_eq!((error.code().map(ErrorCode::value), error.fault()), (Some(code), fault), "{code}");
        assert_eq!(bench.sent.len(), 1);
    }
}

#[test]
fn statuses_without_an_error_document() {
    for (status, body, fault) in [
        (400, "", Fault::Refused),
        (401, "<html>proxy</html>", Fault::Credential),
        (403, "", Fault::Credential),
        (404, "[]", Fault::Refused),
        (415, r#"{"errorCode":"x"}"#, Fault::Refused),
        (429, "", Fault::Busy),
        // Servers answer 408 to an idle connection.
        (408, "", Fault::Busy),
        (503, "<html>", Fault::Busy),
        (407, "", Fault::Peer),
        (511, "", Fault::Peer),
        (404, r#"{"errorCode":"x","registrationState":{}}"#, Fault::Refused),
        (302, "", Fault::Peer),
        (101, "", Fault::Peer),
        (0, "", Fault::Peer),
        (999, "", Fault::Busy),
    ] {
        let policy = RetryPolicy::new().with_max_retries(0);
        let mut provisioning = toaster().with_retry_policy(policy);
        let error = Bench::start(&mut provisioning).run(&[answers(status, None, body)]).unwrap_err();
        assert!(matches!(error, Error::Refused(refusal) if refusal.http_status == status && refusal.code.is_none()));
        assert_eq!(error.fault(), fault, "{status}");
    }
}

#[test]
fn the_services_message_stays_readable() {
    let mut provisioning = toaster();
    let body = error_body(401000).replace('}', r#","info":{"k":"v"}}"#);
    Bench::start(&mut provisioning).run(&[answers(401, None, body.clone())]).unwrap_err();
    let details = provisioning.details(body.as_bytes()).unwrap();
    assert!(details.message().unwrap() == "words");
    assert!(details.tracking_id().unwrap() == "6d75a1fe-0129-4f41-844b-c253a6653d4f");
    assert!(details.timestamp().unwrap() == "2026-01-02T03:04:05.6789012Z");
    assert!(details.info().unwrap().get("k").unwrap().text().unwrap() == "v");

    let body = failed_body(400207);
    Bench::start(&mut provisioning).run(&[answers(200, None, body.clone())]).unwrap_err();
    assert!(provisioning.details(body.as_bytes()).unwrap().message().unwrap() == "words");

    let html = "<html>captive portal</html>";
    Bench::start(&mut provisioning).run(&[answers(302, None, html)]).unwrap_err();
    assert_eq!(provisioning.details(html.as_bytes()), None);
    assert_eq!(provisioning.body(html.as_bytes()), html.as_bytes());
}

#[test]
fn an_incomplete_success_is_malformed() {
    let assigned = |state: &str| format!(r#"{{"operationId":"4.x","status":"assigned","registrationState":{state}}}"#);
    let hub_and_id = r#""assignedHub":"h.azure-devices.net","deviceId":"d""#;
    for (body, expected) in [
        (r#"{"status":"assigned"}"#.into(), Malformed::Missing("registrationState")),
        (assigned("null"), Malformed::Missing("registrationState")),
        (assigned("[]"), Malformed::Invalid("registrationState")),
        (assigned("{}"), Malformed::Missing("assignedHub")),
        (assigned(r#"{"assignedHub":null,"deviceId":"d"}"#), Malformed::Missing("assignedHub")),
        (assigned(r#"{"assignedHub":"","deviceId":"d"}"#), Malformed::Invalid("assignedHub")),
        (assigned(r#"{"assignedHub":7,"deviceId":"d"}"#), Malformed::Invalid("assignedHub")),
        (assigned(r#"{"assignedHub":"h;SharedAccessKey=x","deviceId":"d"}"#), Malformed::Invalid("assignedHub")),
        (assigned(r#"{"assignedHub":"h\u000d\u000a","deviceId":"d"}"#), Malformed::Invalid("assignedHub")),
        (assigned(r#"{"assignedHub":"h"}"#), Malformed::Missing("deviceId")),
        (assigned(r#"{"assignedHub":"h","deviceId":""}"#), Malformed::Invalid("deviceId")),
        (assigned(r#"{"assignedHub":"h","deviceId":"a\nb"}"#), Malformed::Invalid("deviceId")),
        (assigned(r#"{"assignedHub":"h","deviceId":"d;HostName=evil"}"#), Malformed::Invalid("deviceId")),
        (assigned(r#"{"assignedHub":"h","deviceId":"d/e"}"#), Malformed::Invalid("deviceId")),
        (
            assigned(&format!(r#"{{"assignedHub":"h","deviceId":"{}"}}"#, "d".repeat(129))),
            Malformed::Invalid("deviceId"),
        ),
        (
            assigned(&format!(r#"{{{hub_and_id},"status":"failed"}}"#)),
            Malformed::Contradiction("registrationState.status"),
        ),
        (
            assigned(&format!(r#"{{{hub_and_id},"registrationId":"another-device"}}"#)),
            Malformed::Contradiction("registrationId"),
        ),
        (assigned(&format!(r#"{{{hub_and_id},"assignedHub":"evil"}}"#)), Malformed::Duplicate("assignedHub")),
        (assigned(&format!(r#"{{{hub_and_id}}},"status":"assigned""#)), Malformed::Duplicate("status")),
        ("{}".into(), Malformed::Missing("status")),
        (r#"{"status":"assigning"}"#.into(), Malformed::Missing("operationId")),
        (r#"{"operationId":"","status":"assigning"}"#.into(), Malformed::Missing("operationId")),
        (r#"{"operationId":7,"status":"assigning"}"#.into(), Malformed::Invalid("operationId")),
        (r#"{"operationId":"4.x","status":7}"#.into(), Malformed::Invalid("status")),
        (format!(r#"{{"operationId":"{}","status":"assigning"}}"#, "x".repeat(129)), Malformed::Invalid("operationId")),
    ] {
        let mut provisioning = toaster();
        let result = Bench::start(&mut provisioning).run(&[answers(200, None, body.clone())]);
        assert_eq!(result, Err(Error::Malformed(expected)), "{body}");
    }
}

/// A truncated answer is requested again.
#[test]
fn a_truncated_document_is_a_network_fault_at_any_length() {
    let mut provisioning = toaster();
    for len in 0..ASSIGNED.len() {
        let cut = answers(200, None, &ASSIGNED[..len]);
        let result = Bench::start(&mut provisioning).run(std::slice::from_ref(&cut));
        assert_eq!(result, Err(Error::Transport(TransportError::Closed)), "{len}");
        let result = Bench::start(&mut provisioning).run(&[cut, answers(200, None, ASSIGNED)]);
        assert_eq!(result.unwrap().0, TOASTERS_HUB);
    }
}

#[test]
fn an_invalid_success_is_reported_as_a_failure() {
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning);
    let other = ASSIGNED.replace(TOASTER, "another-device");
    let error = bench.run(&[answers(200, None, other)]).unwrap_err();
    assert_eq!(bench.progress, [Progress::Registering, Progress::Failed(error)]);
}

#[test]
fn the_inner_status_does_not_hide_a_failure() {
    let mut provisioning = toaster();
    let failed = failed_body(400207).replacen("\"failed\",\"errorCode\"", "\"assigning\",\"errorCode\"", 1);
    assert!(failed.contains("assigning"));
    let error = Bench::start(&mut provisioning).run(&[answers(200, None, failed)]).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CUSTOM_ALLOCATION_FAILED));
    let disabled = r#"{"operationId":"","status":"disabled","registrationState":{"status":"unassigned"}}"#;
    assert_eq!(Bench::start(&mut provisioning).run(&[answers(200, None, disabled)]), Err(Error::Disabled));
}

#[test]
fn odd_but_legal_answers_are_tolerated() {
    for answer in [
        // The result in the first answer, members in another order, statuses in another case, unknown members and
        // values, another device ID, and white space.
        ASSIGNED.into(),
        ASSIGNED.replace("\"assigned\"", "\"Assigned\""),
        ASSIGNED.replace("initialAssignment", "somethingNew"),
        ASSIGNED.replace(TOASTER, "BREAKROOM499-contoso-TSTRSD-007"),
        format!(
            "\r\n\t {{ \"new\" : [ {{ }} , 1e-9 ] , \"registrationState\" : {{ \"deviceId\" : \"x\" , \"assignedHub\" : \"{TOASTERS_HUB}\" }} , \"status\" : \"assigned\" }} \n"
        ),
        ASSIGNED.replace("\"assignedHub\"", r#""assigned\u0048ub""#),
        ASSIGNED.replace("\"payload\":{", "\"errorCode\":null,\"payload\":{"),
    ] {
        let mut provisioning = toaster();
        let (hub, _) = Bench::start(&mut provisioning).run(&[answers(200, None, answer)]).unwrap();
        assert_eq!(hub, TOASTERS_HUB);
    }
    for pending in [
        format!(r#"{{"operationId":"{OPERATION}"}}"#),
        format!(r#"{{"operationId":"{OPERATION}","status":null}}"#),
        format!(r#"{{"operationId":"{OPERATION}","status":"unassigned"}}"#),
        format!(r#"{{"operationId":"{OPERATION}","status":"pendingApproval"}}"#),
        format!(
            r#"{{"operationId":"{OPERATION}","status":"assigning","registrationState":{{"registrationId":"{TOASTER}","status":"assigning"}}}}"#
        ),
    ] {
        let mut provisioning = toaster();
        let mut bench = Bench::start(&mut provisioning);
        // The status decides, not the HTTP status 200 or 202.
        let peers = [answers(200, Some(1), pending), answers(202, Some(1), ASSIGNED)];
        assert!(bench.run(&peers).is_ok());
        assert_eq!(bench.requests(), ["register", "status"]);
    }
    // The answer to a poll may omit the operation ID.
    let mut provisioning = toaster();
    let peers = [
        answers(202, Some(1), ASSIGNING),
        answers(202, Some(1), r#"{"status":"assigning"}"#),
        answers(200, None, ASSIGNED),
    ];
    assert!(Bench::start(&mut provisioning).run(&peers).is_ok());
}

#[test]
fn misuse_is_a_typed_error() {
    let mut provisioning = toaster();
    assert_eq!(provisioning.result(&[]), Err(Error::NotStarted));
    assert_eq!(provisioning.step(Duration::ZERO), Step::Finished);
    // No request is pending: an answer changes nothing.
    let assigned = Answer::new(200, None, ASSIGNED.as_bytes());
    provisioning.on_answer(Duration::ZERO, assigned);
    provisioning.on_error(Duration::ZERO, NETWORK);
    assert_eq!(provisioning.result(ASSIGNED.as_bytes()), Err(Error::NotStarted));

    let mut buffer = [0; 1024];
    let mut write = |provisioning: &mut Provisioning<'_>, now| {
        azure_dps::http::write_request(provisioning, now, &mut buffer).map(|_| ())
    };
    assert_eq!(write(&mut provisioning, Duration::ZERO), Err(Error::NotStarted));
    assert!(!provisioning.is_running());

    // During a wait, no request, answer or failure is due.
    provisioning.start(Duration::ZERO, UNIX_TIME);
    provisioning.on_answer(Duration::ZERO, Answer::new(429, Some(200), b""));
    assert_eq!(write(&mut provisioning, SECOND), Err(Error::NotDue));
    for _ in 0..20 {
        provisioning.on_error(SECOND, NETWORK);
    }
    provisioning.on_answer(SECOND, assigned);
    assert!(matches!(provisioning.step(SECOND), Step::Wait(wait) if wait >= 199 * SECOND));

    provisioning.start(Duration::ZERO, UNIX_TIME);
    assert_eq!(provisioning.result(ASSIGNED.as_bytes()), Err(Error::NotFinished));
    provisioning.on_answer(Duration::ZERO, assigned);
    assert_eq!(write(&mut provisioning, SECOND), Err(Error::NotDue));
    // The buffer was overwritten, or is a different one.
    assert_eq!(provisioning.result(&[]), Err(Error::WrongBuffer));
    assert_eq!(provisioning.result(&[b'x'; 2000]), Err(Error::WrongBuffer));
    assert_eq!(provisioning.result(&[0xff; 2000]), Err(Error::WrongBuffer));
    assert!(provisioning.result(ASSIGNED.as_bytes()).is_ok());
}

/// <https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/register-device>:
/// the payload is optional.
#[test]
fn a_request_without_a_payload() {
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::symmetric_key());
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.sent[0].ends_with(&format!("\r\n\r\n{{\"registrationId\":\"{TOASTER}\"}}")), "{}", bench.sent[0]);
}

/// The number of requests that the service may bill: register requests that a codec has written.
#[test]
fn a_register_request_counts_once_it_is_written() {
    struct Broken;
    impl Sign for Broken {
        fn sign(&mut self, _: &[u8], _: &mut [u8; 32]) -> Result<(), SignError> {
            Err(SignError::new("no answer"))
        }
    }
    fn signed_by(signer: &mut dyn Sign, buffer: &mut [u8]) -> (Result<(), Error>, bool) {
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::symmetric_key());
        provisioning.start(Duration::ZERO, UNIX_TIME);
        let written = provisioning.sign_with(signer, &mut [0; 128]).and_then(|()| {
            assert!(!provisioning.register_was_sent());
            azure_dps::http::write_request(&mut provisioning, Duration::ZERO, buffer).map(|_| ())
        });
        (written, provisioning.register_was_sent())
    }
    assert_eq!(signed_by(&mut toaster_key(), &mut [0; 1024]), (Ok(()), true));
    assert_eq!(signed_by(&mut Broken, &mut [0; 1024]), (Err(Error::Signer(SignError::new("no answer"))), false));
    assert!(matches!(signed_by(&mut toaster_key(), &mut [0; 100]), (Err(Error::BufferTooSmall(_)), false)));

    let mut provisioning = toaster();
    assert!(!provisioning.register_was_sent());
    for (size, was_sent) in [(100, false), (1024, true)] {
        provisioning.start(Duration::ZERO, UNIX_TIME);
        let mut buffer = vec![0; size];
        // The token of a session is not a request.
        let mut password = [0; 320];
        provisioning.sign_with(&mut toaster_key(), &mut password).unwrap();
        let _ = azure_dps::mqtt::write_password(&provisioning, &mut password).unwrap();
        assert!(!provisioning.register_was_sent());
        let publish = azure_dps::mqtt::write_publish(&mut provisioning, Duration::ZERO, &mut buffer);
        assert_eq!(publish.is_ok(), was_sent);
        assert_eq!(provisioning.register_was_sent(), was_sent);
    }
    // The outcome of the request does not matter.
    for error in [NETWORK, Error::Transport(TransportError::Connect), Error::Untrusted] {
        provisioning.on_error(Duration::ZERO, error);
        assert!(provisioning.register_was_sent());
        while let Step::Wait(wait) = provisioning.step(10 * SECOND) {
            assert!(provisioning.register_was_sent(), "{wait:?}");
            let _ = provisioning.step(10 * SECOND + wait);
        }
    }
    provisioning.start(Duration::ZERO, UNIX_TIME);
    assert!(!provisioning.register_was_sent());

    let mut lookup = Provisioning::lookup(registration(TOASTER), Attestation::x509());
    lookup.start(Duration::ZERO, UNIX_TIME);
    azure_dps::http::write_request(&mut lookup, Duration::ZERO, &mut [0; 1024]).unwrap();
    assert!(!lookup.register_was_sent());
}

#[test]
fn an_unanswered_request_is_due_again() {
    let mut provisioning = toaster();
    provisioning.start(Duration::ZERO, UNIX_TIME);
    let mut buffer = [0; 1024];
    for second in 0..3 {
        let now = second * SECOND;
        assert_eq!(signed_step(&mut provisioning, now), Step::Send);
        let len = azure_dps::http::write_request(&mut provisioning, now, &mut buffer).unwrap();
        assert!(buffer[..len].starts_with(b"PUT "));
    }
    // The deadline is the whole request time-out, but not later than the deadline of the run.
    assert_eq!(provisioning.step(120 * SECOND), Step::Send);
    assert_eq!(provisioning.request_deadline(120 * SECOND), 180 * SECOND);
    assert_eq!(provisioning.step(600 * SECOND), Step::Finished);
    assert_eq!(provisioning.result(&[]), Err(Error::TimedOut));
}

/// The buffer of the last answer now holds a request with the token.
#[test]
fn a_request_is_never_mistaken_for_an_answer() {
    let mut provisioning = toaster();
    let mut buffer = [b'x'; 1024];
    provisioning.start(Duration::ZERO, UNIX_TIME);
    provisioning.on_answer(Duration::ZERO, Answer::new(503, Some(1), &buffer[..700]));
    let now = 20 * SECOND;
    assert_eq!(provisioning.step(now), Step::Sign);
    // The same holds for the message to sign.
    assert_eq!(provisioning.body(&buffer), b"");
    provisioning.sign_with(&mut toaster_key(), &mut buffer).unwrap();
    assert_eq!(provisioning.step(now), Step::Send);
    azure_dps::http::write_request(&mut provisioning, now, &mut buffer).unwrap();
    provisioning.on_error(now, NETWORK);
    assert_eq!(provisioning.body(&buffer), b"");
}

#[test]
fn a_small_buffer_error_names_the_size_of_the_request() {
    let mut provisioning = toaster();
    let mut size = 0;
    let needed = loop {
        provisioning.start(Duration::ZERO, UNIX_TIME);
        assert_eq!(signed_step(&mut provisioning, Duration::ZERO), Step::Send);
        match azure_dps::http::write_request(&mut provisioning, Duration::ZERO, &mut vec![0; size]) {
            Ok(len) => break len,
            Err(Error::BufferTooSmall(error)) => {
                assert!(error.exact && error.needed > size);
                size += 1;
            }
            Err(error) => panic!("{error}"),
        }
    };
    // Signatures need different numbers of escapes. The named size is sufficient for all of them.
    assert!(needed <= size);
    for unix_time in 0..1000 {
        provisioning.start(Duration::ZERO, unix_time * 7919 + UNIX_TIME);
        assert_eq!(signed_step(&mut provisioning, Duration::ZERO), Step::Send);
        azure_dps::http::write_request(&mut provisioning, Duration::ZERO, &mut vec![0; size]).unwrap();
        let error = azure_dps::http::write_request(&mut provisioning, Duration::ZERO, &mut vec![0; size - 1]);
        assert!(matches!(error, Err(Error::BufferTooSmall(error)) if error.needed == size), "{error:?}");
    }
}
