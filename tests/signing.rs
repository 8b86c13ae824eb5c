//! Signing: one token for each run, with the primary or the secondary key.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, GroupKey, Provisioning, RegistrationId, RetryPolicy,
    error::TransportError,
    http::write_request,
    identity::{InvalidKey, KeyChoice, NoKey, Sign, SignError},
    mqtt,
    provisioning::{Answer, Progress, Step},
};
use support::*;

const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const NETWORK: Error = Error::Transport(TransportError::Stream);

/// The secondary key.
const OTHER_KEY: &str = "mLuX8iKJeTzKlqiDGmQ7zzEDeSxWiBHEsLGmL/BOEmQ=";

/// The numbers of signatures by the primary and the secondary key.
type Count = Rc<Cell<(usize, usize)>>;

/// One or two keys that count their signatures.
struct Counting {
    keys: [DeviceKey; 2],
    has_secondary_key: bool,
    count: Count,
}

impl Counting {
    fn new(has_secondary_key: bool) -> (Self, Count) {
        let count = Count::default();
        let keys = [toaster_key(), DeviceKey::from_base64(OTHER_KEY).unwrap()];
        (Self { keys, has_secondary_key, count: count.clone() }, count)
    }
}

impl Sign for Counting {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        self.count.update(|(primary, secondary)| (primary + 1, secondary));
        self.keys.sign(message, signature)
    }

    fn has_secondary_key(&self) -> bool {
        self.has_secondary_key
    }

    fn sign_with_secondary_key(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        assert!(self.has_secondary_key, "there is no secondary key");
        self.count.update(|(primary, secondary)| (primary, secondary + 1));
        self.keys.sign_with_secondary_key(message, signature)
    }
}

fn refused(code: u32) -> Peer {
    answers((code / 1000) as u16, None, format!(r#"{{"errorCode":{code}}}"#))
}

fn pending() -> Peer {
    answers(202, Some(3), ASSIGNING)
}

fn done() -> Peer {
    answers(200, None, ASSIGNED)
}

/// Returns the tokens of the requests.
fn tokens(bench: &Bench<'_, '_>) -> Vec<String> {
    let token = |request: &String| {
        let line = request.lines().find_map(|line| line.strip_prefix("Authorization: "));
        line.expect("a token").to_string()
    };
    bench.sent.iter().map(token).collect()
}

/// Returns the token that this key signs, in the form of the codecs.
fn token_of(key: &str, expiry: u64) -> String {
    let mut key = DeviceKey::from_base64(key).unwrap();
    let registration = registration(TOASTER);
    let (id_scope, registration_id) = (registration.id_scope(), registration.registration_id());
    let mut buffer = [0; 512];
    azure_dps::identity::sas_token::write(&mut key, id_scope, registration_id, expiry, &mut buffer).unwrap().into()
}

#[test]
fn a_run_is_signed_once_for_any_number_of_requests() {
    let (signer, count) = Counting::new(false);
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning).signed_by(signer);
    let lost = answers(404, None, r#"{"errorCode":404201}"#);
    let peers = [
        Peer::Fails(NETWORK),
        answers(429, Some(100), ""),
        answers(409, None, r#"{"errorCode":409203}"#),
        pending(),
        pending(),
        lost,
        pending(),
        done(),
    ];
    bench.run(&peers).unwrap();
    assert_eq!(bench.requests().iter().filter(|name| **name == "register").count(), 5);
    assert!(bench.clock.now() > 100 * SECOND);
    assert_eq!(count.get(), (1, 0));
    // All requests have the token of the start, which is valid for an hour.
    let token = token_of(TOASTER_KEY, UNIX_TIME + 3600);
    assert!(tokens(&bench).iter().all(|other| *other == token));

    // A new run has a new token with its own expiry.
    provisioning.start(NOW, UNIX_TIME + 5000);
    assert_eq!(provisioning.step(NOW), Step::Sign);
    provisioning.sign_with(&mut toaster_key(), &mut [0; 128]).unwrap();
    let mut buffer = [0; 512];
    assert_eq!(mqtt::write_password(&provisioning, &mut buffer).unwrap(), token_of(TOASTER_KEY, UNIX_TIME + 8600));
}

#[test]
fn the_expiry_is_fixed_at_the_start_and_never_before_the_end_of_the_run() {
    for (timeout, lifetime, valid_for) in [
        (Duration::from_secs(600), 3600, Duration::from_secs(3600)),
        (Duration::from_secs(600), 0, Duration::from_secs(600)),
        (Duration::from_secs(7200), 30, Duration::from_secs(7200)),
        (30 * DAY, 3600, 30 * DAY),
        // Part of a second longer than the token would be valid.
        (Duration::from_millis(7_200_900), 30, Duration::from_secs(7201)),
        // The time-out is limited, and so is the token.
        (30 * DAY + SECOND, 3600, 30 * DAY),
        (Duration::MAX, 3600, 30 * DAY),
        (Duration::from_secs(600), 40 * 24 * 3600, 40 * DAY),
    ] {
        let policy = RetryPolicy::new().with_timeout(timeout);
        let mut provisioning = toaster().with_retry_policy(policy).with_token_lifetime(lifetime);
        let start = 1000 * SECOND;
        provisioning.start(start, UNIX_TIME);
        let end = start + timeout.min(30 * DAY);
        // The expiry does not depend on the time of signing.
        let late = end - SECOND / 2;
        assert_eq!(provisioning.step(late), Step::Sign);
        let mut buffer = [0; 128];
        let message = provisioning.write_message(&mut buffer).unwrap();
        let expiry = std::str::from_utf8(message).unwrap().rsplit('\n').next().unwrap().parse::<u64>().unwrap();
        assert_eq!(expiry, UNIX_TIME + valid_for.as_secs(), "{timeout:?}");
        assert!(Duration::from_secs(expiry - UNIX_TIME) >= end - start, "{timeout:?}");
        // The deadline of a request is not later than the end of the run.
        assert_eq!(provisioning.request_deadline(late), end);
        assert_eq!(provisioning.step(end), Step::Finished);
        assert_eq!(provisioning.result(&[]), Err(Error::TimedOut));
    }
}

#[test]
fn signing_by_hand_equals_sign_with() {
    let hmac = |key: &str, message: &[u8]| {
        let mut signature = [0; 32];
        DeviceKey::from_base64(key).unwrap().sign(message, &mut signature).unwrap();
        signature
    };
    let password = |provisioning: &Provisioning<'_>| {
        let mut buffer = [0; 512];
        mqtt::write_password(provisioning, &mut buffer).map(str::to_string)
    };
    let mut provisioning = toaster();
    provisioning.start(NOW, UNIX_TIME);
    let mut buffer = [0; 128];
    let message = provisioning.write_message(&mut buffer).unwrap();
    assert_eq!(message, format!("{SCOPE}%2fregistrations%2f{TOASTER}\n{}", UNIX_TIME + 3600).as_bytes());
    let signature = hmac(TOASTER_KEY, message);
    provisioning.on_signature(&signature);
    assert_eq!(provisioning.step(NOW), Step::Send);
    let by_hand = password(&provisioning).unwrap();

    provisioning.start(NOW, UNIX_TIME);
    provisioning.sign_with(&mut toaster_key(), &mut buffer).unwrap();
    assert_eq!(password(&provisioning).unwrap(), by_hand);
    assert_eq!(by_hand, token_of(TOASTER_KEY, UNIX_TIME + 3600));

    // A signature without a request changes nothing.
    provisioning.on_signature(&[0; 32]);
    assert_eq!(password(&provisioning).unwrap(), by_hand);
    assert_eq!(provisioning.sign_with(&mut toaster_key(), &mut buffer), Err(Error::NotDue));
    let mut idle = toaster();
    idle.on_signature(&signature);
    assert_eq!(idle.step(NOW), Step::Finished);
    assert_eq!(idle.sign_with(&mut toaster_key(), &mut buffer), Err(Error::NotStarted));
    // A signature during a wait or after the end also changes nothing.
    provisioning.on_error(NOW, NETWORK);
    assert_eq!(provisioning.sign_with(&mut toaster_key(), &mut buffer), Err(Error::NotDue));
    provisioning.start(NOW, UNIX_TIME);
    provisioning.on_error(NOW, Error::Untrusted);
    provisioning.on_signature(&signature);
    assert_eq!(provisioning.step(NOW), Step::Finished);
    assert_eq!(password(&provisioning), Err(Error::NotDue));

    // A driver with two keys that signs itself declares both, and asks which one must sign.
    let mut provisioning = toaster().with_secondary_key();
    provisioning.start(NOW, UNIX_TIME);
    let mut keys = Vec::new();
    for expected in [Step::Send, Step::Finished] {
        assert_eq!(provisioning.step(NOW), Step::Sign);
        keys.push(provisioning.key());
        let key = if provisioning.key() == KeyChoice::Primary { TOASTER_KEY } else { OTHER_KEY };
        let signature = hmac(key, provisioning.write_message(&mut buffer).unwrap());
        provisioning.on_signature(&signature);
        assert_eq!(password(&provisioning).unwrap(), token_of(key, UNIX_TIME + 3600));
        provisioning.on_answer(NOW, Answer::new(401, None, br#"{"errorCode":401000}"#));
        assert_eq!(provisioning.step(NOW) == Step::Finished, expected == Step::Finished);
    }
    assert_eq!(keys, [KeyChoice::Primary, KeyChoice::Secondary]);
}

#[test]
fn no_codec_writes_a_request_before_its_signature() {
    let mut buffer = [0; 1024];
    let mut provisioning = toaster();
    for _ in 0..2 {
        provisioning.start(NOW, UNIX_TIME);
        assert_eq!(write_request(&mut provisioning, NOW, &mut buffer), Err(Error::NotDue));
        assert_eq!(mqtt::write_publish(&mut provisioning, NOW, &mut buffer), Err(Error::NotDue));
        assert_eq!(mqtt::write_password(&provisioning, &mut buffer), Err(Error::NotDue));
        assert!(!provisioning.register_was_sent());
        assert_eq!(provisioning.progress(), None);
        // Asking changed nothing.
        assert_eq!(provisioning.step(NOW), Step::Sign);
        provisioning.sign_with(&mut toaster_key(), &mut buffer).unwrap();
        assert_eq!(provisioning.step(NOW), Step::Send);
        assert!(mqtt::write_password(&provisioning, &mut buffer).is_ok());
        assert!(write_request(&mut provisioning, NOW, &mut buffer).is_ok());
    }
    // With a certificate there is no signature.
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
    provisioning.start(NOW, UNIX_TIME);
    assert_eq!(provisioning.sign_with(&mut NoKey, &mut buffer), Err(Error::NotDue));
    assert_eq!(provisioning.step(NOW), Step::Send);
    assert_eq!(mqtt::write_password(&provisioning, &mut buffer), Ok(""));
}

#[test]
fn an_empty_key_does_not_sign() {
    let empty = Error::Signer(SignError::new("no key was read"));
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning).signed_by(DeviceKey::new());
    assert_eq!(bench.run(&[done()]), Err(empty));
    assert!(bench.sent.is_empty());
    // A key that is empty after an invalid text does not sign, and a signer without a key does not either.
    let mut key = toaster_key();
    assert!(key.read_base64("JC8F96ea*").is_err());
    assert_eq!(Bench::start(&mut provisioning).signed_by(key).run(&[done()]), Err(empty));
    let error = Bench::start(&mut provisioning).signed_by(NoKey).run(&[done()]).unwrap_err();
    assert!(matches!(error, Error::Signer(error) if error.reason().contains("Attestation::x509")), "{error}");
    // The other key of a pair is not used instead: the service has rejected nothing.
    let pair = [DeviceKey::new(), toaster_key()];
    assert_eq!(Bench::start(&mut provisioning).signed_by(pair).run(&[done()]), Err(empty));
}

#[test]
fn a_signer_that_fails_ends_the_run_which_may_be_started_again() {
    struct Chip(usize, DeviceKey);
    impl Sign for Chip {
        fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
            self.0 += 1;
            // Half a signature is not a signature.
            *signature = [0xa5; 32];
            if self.0 == 1 { Err(SignError::new("no answer")) } else { Sign::sign(&mut self.1, message, signature) }
        }
    }
    let mut chip = Chip(0, toaster_key());
    let mut buffer = [0; 1024];
    let mut provisioning = toaster();
    provisioning.start(NOW, UNIX_TIME);
    let error = provisioning.sign_with(&mut chip, &mut buffer).unwrap_err();
    assert_eq!(error, Error::Signer(SignError::new("no answer")));
    assert!(!error.is_retryable());
    assert_eq!(write_request(&mut provisioning, NOW, &mut buffer), Err(Error::NotDue));
    provisioning.on_error(NOW, error);
    assert_eq!(provisioning.progress(), Some(Progress::Failed(error)));
    assert_eq!(provisioning.step(NOW), Step::Finished);
    assert_eq!(provisioning.result(&buffer), Err(error));

    let mut bench = Bench::start(&mut provisioning).signed_by(chip);
    assert!(bench.run(&[done()]).is_ok());
    assert_eq!(tokens(&bench), [token_of(TOASTER_KEY, UNIX_TIME + 3600)]);
}

/// The other key, with its own token.
#[test]
fn a_refused_key_is_replaced_once() {
    let [primary, secondary] = [TOASTER_KEY, OTHER_KEY].map(|key| token_of(key, UNIX_TIME + 3600));
    for code in [401000, 401002] {
        for (first, other, tokens_sent, count_of_both) in [
            (KeyChoice::Primary, KeyChoice::Secondary, [&primary, &secondary], (1, 1)),
            (KeyChoice::Secondary, KeyChoice::Primary, [&secondary, &primary], (1, 1)),
        ] {
            // The second key is not tried without need.
            let (signer, count) = Counting::new(true);
            let mut provisioning = toaster().with_first_key(first);
            let mut bench = Bench::start(&mut provisioning).signed_by(signer);
            bench.run(&[pending(), done()]).unwrap();
            assert_eq!(count.get(), if first == KeyChoice::Primary { (1, 0) } else { (0, 1) });
            assert_eq!(bench.provisioning.key(), first);

            let (signer, count) = Counting::new(true);
            let mut bench = Bench::start(&mut provisioning).signed_by(signer);
            bench.run(&[refused(code), pending(), done()]).unwrap();
            assert_eq!(bench.requests(), ["register", "register", "status"]);
            assert_eq!(tokens(&bench), [tokens_sent[0], tokens_sent[1], tokens_sent[1]].map(String::as_str));
            assert_eq!((count.get(), bench.provisioning.key()), (count_of_both, other));
            // The run retries at once, and reports the reason.
            assert_eq!(bench.waits, [3 * SECOND]);
            let Progress::Retrying { error, wait, failures } = bench.progress[1] else { panic!() };
            assert_eq!((error.code().map(|code| code.value()), wait, failures), (Some(code), NOW, 1));

            // If both keys are rejected, the second rejection is the outcome.
            let (signer, count) = Counting::new(true);
            let mut bench = Bench::start(&mut provisioning).signed_by(signer);
            let last = if code == 401000 { 401002 } else { 401000 };
            let error = bench.run(&[refused(code), refused(last), done()]).unwrap_err();
            assert_eq!(error.code().map(|code| code.value()), Some(last));
            assert_eq!((count.get(), bench.sent.len()), (count_of_both, 2));
            // A new run begins with the first key again.
            provisioning.start(NOW, UNIX_TIME);
            assert_eq!(provisioning.key(), first);
        }
    }
}

/// The run changes the key only after a rejected credential, and only if no credential was accepted before.
#[test]
fn other_faults_do_not_change_the_key() {
    for peers in [
        vec![pending(), refused(401000)],
        vec![refused(404202)],
        vec![answers(200, None, r#"{"status":"failed","registrationState":{"errorCode":401002}}"#)],
        vec![answers(400, None, "")],
        vec![Peer::Fails(Error::Untrusted)],
        vec![answers(429, Some(1), ""), Peer::Fails(NETWORK), pending(), refused(401002)],
    ] {
        let (signer, count) = Counting::new(true);
        let mut provisioning = toaster();
        let mut bench = Bench::start(&mut provisioning).signed_by(signer);
        assert!(bench.run(&peers).is_err());
        assert_eq!(bench.sent.len(), peers.len());
        assert_eq!((count.get(), provisioning.key()), ((1, 0), KeyChoice::Primary));
    }
    // With a certificate there is no other key, even if the signer has two.
    let (signer, count) = Counting::new(true);
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509()).with_secondary_key();
    let mut bench = Bench::start(&mut provisioning).signed_by(signer);
    assert!(bench.run(&[refused(401000)]).is_err());
    assert_eq!((bench.sent.len(), count.get()), (1, (0, 0)));
}

#[test]
fn a_lost_operation_is_registered_again_with_the_accepted_key() {
    let (signer, count) = Counting::new(true);
    let mut provisioning = toaster();
    let mut bench = Bench::start(&mut provisioning).signed_by(signer);
    let lost = answers(404, None, r#"{"errorCode":404201}"#);
    bench.run(&[refused(401000), pending(), lost.clone(), pending(), done()]).unwrap();
    assert_eq!(bench.requests(), ["register", "register", "status", "register", "status"]);
    let secondary = token_of(OTHER_KEY, UNIX_TIME + 3600);
    assert!(tokens(&bench)[1..].iter().all(|token| *token == secondary));
    assert_eq!((count.get(), provisioning.key()), ((1, 1), KeyChoice::Secondary));

    // Now the rejection is final: both keys were tried.
    let (signer, count) = Counting::new(true);
    let mut bench = Bench::start(&mut provisioning).signed_by(signer);
    assert!(bench.run(&[refused(401000), pending(), lost, refused(401000), done()]).is_err());
    assert_eq!((bench.sent.len(), count.get()), (4, (1, 1)));
}

/// An older record says `Secondary`, but the signer now has one key.
#[test]
fn a_signer_with_one_key_ignores_the_key_of_the_record() {
    let (signer, count) = Counting::new(false);
    let mut provisioning = toaster().with_first_key(KeyChoice::Secondary);
    let mut bench = Bench::start(&mut provisioning).signed_by(signer);
    bench.run(&[pending(), done()]).unwrap();
    assert_eq!((count.get(), bench.provisioning.key()), ((1, 0), KeyChoice::Primary));
    // There is no other key to try.
    let (signer, count) = Counting::new(false);
    let mut bench = Bench::start(&mut provisioning).signed_by(signer);
    assert!(bench.run(&[refused(401000), done()]).is_err());
    assert_eq!((bench.sent.len(), count.get()), (1, (1, 0)));
}

/// The number of keys of one signer does not affect the next signer.
#[test]
fn the_second_key_of_an_earlier_run_is_forgotten() {
    let mut provisioning = toaster();
    let (two, _) = Counting::new(true);
    Bench::start(&mut provisioning).signed_by(two).run(&[done()]).unwrap();
    let (one, count) = Counting::new(false);
    let mut bench = Bench::start(&mut provisioning).signed_by(one);
    assert!(bench.run(&[refused(401000), done()]).is_err());
    assert_eq!((bench.sent.len(), count.get()), (1, (1, 0)));
}

#[test]
fn a_blocking_run_on_a_finished_machine_is_not_started() {
    use azure_dps::blocking;
    let assigned = || vec![Act::Bytes(http("200 OK", "", ASSIGNED), usize::MAX)];
    let refused = || vec![Act::Bytes(http("400 Bad Request", "", ""), usize::MAX)];
    let script = Script::new([assigned(), refused(), assigned()]);
    let mut connect = |_| script.connect();
    let mut buffer = [0; 1024];
    let mut provisioning = toaster();
    let mut run = |provisioning: &mut Provisioning<'_>| {
        let clock = || script.clock.now();
        let result = blocking::run(
            provisioning,
            &mut toaster_key(),
            &mut buffer,
            &mut connect,
            clock,
            |wait| script.clock.advance(wait),
            |_| (),
        );
        result.map_err(|error| error.kind())
    };
    assert_eq!(run(&mut provisioning), Err(Error::NotStarted));
    for expected in [true, false, true] {
        provisioning.start(script.clock.now(), UNIX_TIME);
        assert_eq!(run(&mut provisioning).is_ok(), expected);
        for _ in 0..2 {
            assert_eq!(run(&mut provisioning), Err(Error::NotStarted));
        }
    }
    assert_eq!(script.requests().len(), 3);
}

#[test]
fn everything_is_reported_once_and_in_order() {
    let mut buffer = [0; 1024];
    let mut provisioning = toaster();
    let mut reported = Vec::new();
    let mut report = |provisioning: &mut Provisioning<'_>| {
        reported.extend(provisioning.progress());
        assert_eq!(provisioning.progress(), None);
    };
    // Nothing happens without a run.
    provisioning.on_connected();
    report(&mut provisioning);
    let mut now = NOW;
    provisioning.start(now, UNIX_TIME);
    report(&mut provisioning);
    provisioning.sign_with(&mut [toaster_key(), toaster_key()], &mut buffer).unwrap();
    report(&mut provisioning);
    let throttled = Answer::new(429, Some(5), b"");
    let refused = Answer::new(401, None, br#"{"errorCode":401000}"#);
    let pending = Answer::new(202, Some(3), ASSIGNING.as_bytes());
    let done = Answer::new(200, None, ASSIGNED.as_bytes());
    let mut waits = Vec::new();
    for answer in [throttled, refused, pending, pending, done] {
        match provisioning.step(now) {
            Step::Sign => provisioning.sign_with(&mut [toaster_key(), toaster_key()], &mut buffer).unwrap(),
            step => assert_eq!(step, Step::Send),
        }
        report(&mut provisioning);
        provisioning.on_connected();
        report(&mut provisioning);
        write_request(&mut provisioning, now, &mut buffer).unwrap();
        report(&mut provisioning);
        provisioning.on_answer(now, answer);
        report(&mut provisioning);
        if let Step::Wait(wait) = provisioning.step(now) {
            report(&mut provisioning);
            waits.push(wait);
            now += wait;
        }
    }
    // The end is not reported.
    assert_eq!(provisioning.step(now), Step::Finished);
    provisioning.on_connected();
    report(&mut provisioning);
    use Progress::*;
    let [Retrying { error: busy, .. }, Retrying { error: credential, .. }] = [reported[2], reported[5]] else {
        panic!("{reported:?}")
    };
    let expected = [
        Connected,
        Registering,
        Retrying { error: busy, wait: waits[0], failures: 1 },
        Connected,
        Registering,
        Retrying { error: credential, wait: NOW, failures: 2 },
        Connected,
        Registering,
        Assigning,
        // The poll is not reported. Its connection and its answer are.
        Connected,
        Assigning,
        Connected,
        Assigned,
    ];
    assert_eq!(reported, expected);
}

#[test]
fn a_device_id_with_escapes_is_decoded() {
    for (sent, device_id) in [
        (r"a\u002bb", "a+b"),
        (r"a\u0027b", "a'b"),
        (r"\u002b\u002B\u0027", "++'"),
        (r"\u0064ev-1", "dev-1"),
        (TOASTER, TOASTER),
    ] {
        let body = ASSIGNED.replace(&format!(r#""deviceId":"{TOASTER}""#), &format!(r#""deviceId":"{sent}""#));
        let mut provisioning = toaster();
        let (_, read) = Bench::start(&mut provisioning).run(&[answers(200, None, body.clone())]).unwrap();
        assert_eq!(read, device_id);
        let assignment = provisioning.result(body.as_bytes()).unwrap();
        let text: &str = assignment.device_id();
        assert_eq!(text, device_id);
        assert_eq!((assignment.hub().device_id(), assignment.hub().client_id()), (device_id, device_id));
    }
}

/// Returns the text of a key, or `None` if the key is empty.
fn text_of(key: &DeviceKey) -> Option<String> {
    let mut buffer = [0; 88];
    let text = key.write_base64(&mut buffer).unwrap();
    (!text.is_empty()).then(|| text.to_string())
}

#[test]
fn reading_a_key_replaces_the_earlier_key() {
    let [short, middle, long] =
        [16, 32, 64].map(|len| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, vec![0xa5; len]));
    let signature = |key: &mut DeviceKey| {
        let mut signature = [0; 32];
        key.sign(b"message", &mut signature).map(|()| signature)
    };
    let mut key = DeviceKey::new();
    assert_eq!(text_of(&key), None);
    for text in [&long, &short, &middle, &long, &middle, &short] {
        key.read_base64(text).unwrap();
        assert_eq!(text_of(&key).as_ref(), Some(text));
        // No byte of an earlier, longer key is left. It would change the signature.
        assert_eq!(signature(&mut key), signature(&mut DeviceKey::from_base64(text).unwrap()));
    }
    for (broken, expected) in [
        ("JC8F96ea*", InvalidKey::NotBase64 { position: 8 }),
        ("", InvalidKey::Length),
        ("JC8F96ea", InvalidKey::Length),
        (&long.repeat(2).replace('=', ""), InvalidKey::Length),
    ] {
        key.read_base64(&long).unwrap();
        assert_eq!(key.read_base64(broken), Err(expected), "{broken}");
        assert_eq!(text_of(&key), None, "{broken}");
        assert_eq!(signature(&mut key), Err(SignError::new("no key was read")), "{broken}");
        key.read_base64(&short).unwrap();
        assert_eq!(signature(&mut key), signature(&mut DeviceKey::from_base64(&short).unwrap()), "{broken}");
    }
}

#[test]
fn deriving_a_device_key_replaces_the_earlier_key() {
    let id = RegistrationId::new(TOASTER).unwrap();
    let long = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [0xa5; 64]);
    let mut group_key = GroupKey::new();
    let mut key = DeviceKey::from_base64(&long).unwrap();
    // Deriving from an empty key gives an empty key.
    assert_eq!(group_key.derive_into(&id, &mut key), Err(InvalidKey::Empty));
    assert_eq!(text_of(&key), None);
    assert_eq!(text_of(&group_key.derive(&id)), None);
    assert_eq!(InvalidKey::Empty.to_string(), "the symmetric key is empty: read it first");

    key.read_base64(&long).unwrap();
    group_key.read_base64(GROUP_KEY).unwrap();
    group_key.derive_into(&id, &mut key).unwrap();
    assert_eq!(text_of(&key).as_deref(), Some(TOASTER_KEY));
    let mut signatures = [[0; 32]; 2];
    key.sign(b"message", &mut signatures[0]).unwrap();
    toaster_key().sign(b"message", &mut signatures[1]).unwrap();
    assert_eq!(signatures[0], signatures[1]);
    // A group key that a broken text has emptied derives nothing either.
    assert!(group_key.read_base64("*").is_err());
    assert_eq!(group_key.derive_into(&id, &mut key), Err(InvalidKey::Empty));
    assert_eq!(text_of(&key), None);
}
