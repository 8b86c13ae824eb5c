//! The sizes of the caller's values, and the buffer sizes of `Sizes`.

mod support;

use std::time::Duration;

use azure_dps::http::write_request;
use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId,
    after::Hub,
    asynch,
    error::BufferTooSmall,
    identity::{Csr, KeyChoice, sas_token, tpm::TpmKeys},
    mqtt,
    provisioning::{Endpoint, MAX_OPERATION_ID, Sizes},
};
use proptest::prelude::*;
use support::*;

/// The tutorial's answers with all documented headers.
#[test]
fn the_tutorial_needs_1344_bytes_in_all() {
    let owned = size_of::<Provisioning<'_>>() + size_of::<DeviceKey>();
    assert!(size_of::<Provisioning<'_>>() < 550, "{}", size_of::<Provisioning<'_>>());
    let mut buffer = vec![0; 1344 - owned];

    let location = format!("https://global.azure-devices-provisioning.net/{SCOPE}/registrations/{TOASTER}/register");
    let headers = format!("Location: {location}\r\nRetry-After: 3\r\n");
    let script = Script::new([vec![
        Act::Bytes(http_chunked("202 Accepted", &headers, ASSIGNING, 4096), usize::MAX),
        Act::Bytes(http_chunked("202 Accepted", &headers, ASSIGNING, 4096), usize::MAX),
        Act::Bytes(http_chunked("200 OK", "", ASSIGNED, 4096), usize::MAX),
    ]]);
    let mut provisioning = toaster();
    let assignment = script.provision(&mut provisioning, &mut buffer).unwrap();
    assert_eq!(assignment.assigned_hub(), TOASTERS_HUB);
    assert_eq!(
        assignment.payload().unwrap().raw(),
        r#"{"property1":"value1","property2":{"propertyA":"valueA","property2-2":1234}}"#
    );
}

/// A registration with this scope and ID, and with everything that makes a request longer.
struct Longest {
    id_scope: String,
    registration_id: String,
    host: String,
    api_version: &'static str,
    payload: String,
    csr: Vec<u8>,
    operation_id: String,
}

/// Signs if a signature is due.
fn signed(mut provisioning: Provisioning<'_>) -> Provisioning<'_> {
    provisioning.sign_with(&mut toaster_key(), &mut [0; 1024]).unwrap();
    provisioning
}

/// Returns the size that a codec reports for an empty buffer, with the longest signature.
fn needed<T: std::fmt::Debug>(written: Result<T, impl Into<Error>>) -> usize {
    match written.unwrap_err().into() {
        Error::BufferTooSmall(BufferTooSmall { needed, exact: true, .. }) => needed,
        error => panic!("{error}"),
    }
}

const NOW: Duration = Duration::ZERO;
/// A wall clock that makes the expiry of a token 20 digits long.
const FAR: u64 = u64::MAX - 1_000_000_000;

impl Longest {
    /// Creates the longest values that the types accept, with as many escapes as possible.
    fn new() -> Self {
        let csr = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate().unwrap());
        Self {
            id_scope: "s".repeat(IdScope::MAX_LEN),
            registration_id: ":".repeat(RegistrationId::MAX_LEN - 1) + "a",
            host: format!("{}:65535", "h".repeat(253)),
            api_version: "2025-07-01 preview",
            payload: format!(r#"{{"x":"{}"}}"#, "x".repeat(5000)),
            csr: csr.unwrap().der().to_vec(),
            operation_id: "%".repeat(MAX_OPERATION_ID),
        }
    }

    fn registration(&self) -> Registration<'_> {
        Registration::new(IdScope::new(&self.id_scope).unwrap(), RegistrationId::new(&self.registration_id).unwrap())
            .with_payload(&self.payload)
            .unwrap()
            .with_csr(Csr::from_der(&self.csr).unwrap())
    }

    fn sizes(&self) -> Sizes {
        Sizes::new(&self.id_scope, &self.registration_id)
            .with_host(self.host.len())
            .with_api_version(self.api_version)
            .with_payload(self.payload.len())
            .with_csr(self.csr.len())
            .with_operation_id(Sizes::longest(0, 0).mqtt_poll() - Sizes::longest(0, 0).with_operation_id(0).mqtt_poll())
    }

    fn provisioning<'a>(&'a self, attestation: Attestation<'a>) -> Provisioning<'a> {
        let endpoint = Endpoint::parse(&self.host).unwrap();
        let mut provisioning = Provisioning::new(self.registration(), attestation)
            .with_endpoint(endpoint)
            .with_api_version(self.api_version);
        provisioning.start(NOW, FAR);
        provisioning
    }

    /// Drives the run to its first poll.
    fn poll(&self, provisioning: &mut Provisioning<'_>) -> Duration {
        let assigning = format!(r#"{{"operationId":"{}","status":"assigning"}}"#, self.operation_id);
        provisioning.on_answer(NOW, azure_dps::provisioning::Answer::new(202, Some(1), assigning.as_bytes()));
        assert_eq!(provisioning.step(NOW + Duration::from_secs(1)), azure_dps::provisioning::Step::Send);
        NOW + Duration::from_secs(1)
    }
}

#[test]
fn the_sizes_of_http_requests_are_exact() {
    let longest = Longest::new();
    let mut provisioning = signed(longest.provisioning(Attestation::symmetric_key()));
    assert_eq!(needed(write_request(&mut provisioning, NOW, &mut [])), longest.sizes().http_register());
    // The calculated sizes equal the sizes of the objects.
    assert_eq!(provisioning.sizes().http_register(), longest.sizes().http_register());
    assert_eq!(
        provisioning.sizes(),
        Sizes::of(&longest.registration()).with_endpoint(provisioning.endpoint()).with_api_version(longest.api_version)
    );
    let now = longest.poll(&mut provisioning);
    assert_eq!(needed(write_request(&mut provisioning, now, &mut [])), longest.sizes().http_poll());

    // A TPM signs after its challenge.
    let tpm = TpmKeys { endorsement_key: &[1; 800], storage_root_key: &[2; 401] };
    let mut provisioning = longest.provisioning(Attestation::tpm(tpm));
    let sizes = longest.sizes().with_tpm(800, 401);
    assert!(needed(write_request(&mut provisioning, NOW, &mut [])) < sizes.http_register());
    provisioning.on_answer(NOW, azure_dps::provisioning::Answer::new(401, None, br#"{"authenticationKey":"AAAA"}"#));
    provisioning.on_activated();
    let mut provisioning = signed(provisioning);
    assert_eq!(needed(write_request(&mut provisioning, NOW, &mut [])), sizes.http_register());
    assert_eq!(provisioning.sizes().body(), sizes.body());

    // The requests of a look-up are shorter.
    let mut provisioning = Provisioning::lookup(longest.registration(), Attestation::symmetric_key())
        .with_endpoint(Endpoint::parse(&longest.host).unwrap())
        .with_api_version(longest.api_version);
    provisioning.start(NOW, FAR);
    let mut provisioning = signed(provisioning);
    assert!(needed(write_request(&mut provisioning, NOW, &mut [])) < longest.sizes().http_register());
}

#[test]
fn the_sizes_of_mqtt_texts_are_exact() {
    let longest = Longest::new();
    let sizes = longest.sizes();
    let mut key = toaster_key();
    let mut provisioning = longest.provisioning(Attestation::symmetric_key());
    // The message to sign is shorter than the token.
    let message = needed(provisioning.write_message(&mut []));
    assert!(message < sizes.sas_token());
    assert_eq!(needed(provisioning.sign_with(&mut key, &mut [])), message);
    provisioning.sign_with(&mut key, &mut vec![0; message]).unwrap();
    assert_eq!(needed(mqtt::write_user_name(&provisioning, &mut [])), sizes.mqtt_user_name());
    assert_eq!(needed(mqtt::write_password(&provisioning, &mut [])), sizes.sas_token());
    // The request number grows to its longest form.
    let mut buffer = vec![0; sizes.mqtt_register()];
    for _ in 1..10_000 {
        let publish = mqtt::write_publish(&mut provisioning, NOW, &mut buffer).unwrap();
        assert!(publish.topic.len() + publish.body.len() < sizes.mqtt_register());
    }
    assert_eq!(needed(mqtt::write_publish(&mut provisioning, NOW, &mut [])), sizes.mqtt_register());
    let now = longest.poll(&mut provisioning);
    assert_eq!(needed(mqtt::write_publish(&mut provisioning, now, &mut [])), sizes.mqtt_poll());
    assert_eq!(sizes.mqtt_publish(), sizes.mqtt_register().max(sizes.mqtt_poll()));

    let registration = longest.registration();
    let (id_scope, registration_id) = (registration.id_scope(), registration.registration_id());
    let token = sas_token::write(&mut key, id_scope, registration_id, u64::MAX, &mut []);
    assert_eq!(needed(token), sizes.sas_token());
}

/// A value known only by its length counts as the longest possible value of that length.
#[test]
fn sizes_from_lengths_are_sufficient() {
    let longest = Longest::new();
    let exact = longest.sizes();
    let by_length = Sizes::longest(IdScope::MAX_LEN, RegistrationId::MAX_LEN)
        .with_host(longest.host.len())
        .with_api_version(longest.api_version)
        .with_payload(longest.payload.len())
        .with_csr(longest.csr.len());
    // The last character of an ID is never escaped.
    assert_eq!(by_length.sas_token(), exact.sas_token() + 2);
    assert_eq!(by_length.http_register(), exact.http_register() + 4);
    assert_eq!(by_length.http_poll(), exact.http_poll() + 4);
    assert_eq!(by_length.mqtt_user_name(), exact.mqtt_user_name());
    assert_eq!(by_length.mqtt_register(), exact.mqtt_register());
    assert_eq!(by_length.mqtt_poll(), exact.mqtt_poll());
}

#[test]
fn the_sizes_of_hub_texts_are_exact() {
    let host = "h".repeat(253);
    let device_id = "#".repeat(128);
    let key = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [7; 64]);
    let mut key = DeviceKey::from_base64(&key).unwrap();
    let client_type = "a type / 1";
    for hub in
        [host.clone(), format!("{host}:65535"), format!("{host}:1"), TOASTERS_HUB.into(), "1:80".into(), "80".into()]
    {
        for device_id in [&device_id, "dev-1"] {
            let sizes = Sizes::new(SCOPE, TOASTER).with_hub(&hub).with_device_id(device_id);
            let hub = Hub::new(&hub, device_id).unwrap();
            assert_eq!(needed(hub.write_user_name(&mut [])), sizes.hub_user_name());
            let typed = hub.with_device_client_type(client_type);
            let with_type = sizes.with_device_client_type(client_type);
            assert_eq!(needed(typed.write_user_name(&mut [])), with_type.hub_user_name());
            assert_eq!(needed(hub.write_token(&mut key, u64::MAX, &mut [])), sizes.hub_token());
            assert_eq!(needed(hub.write_telemetry_topic(&[], &mut [])), sizes.hub_telemetry_topic());
            assert_eq!(needed(hub.write_connection_string(&key, &mut [])), sizes.hub_connection_string());
            assert_eq!(needed(hub.write_x509_connection_string(&mut [])), sizes.hub_x509_connection_string());
        }
    }
    let longest = Sizes::longest(IdScope::MAX_LEN, RegistrationId::MAX_LEN);
    let hub = format!("{host}:65535");
    let hub = Hub::new(&hub, &device_id).unwrap();
    assert_eq!(needed(hub.write_user_name(&mut [])), longest.hub_user_name());
    assert_eq!(needed(hub.write_token(&mut key, u64::MAX, &mut [])), longest.hub_token());
    assert_eq!(needed(hub.write_connection_string(&key, &mut [])), longest.hub_connection_string());
    // By default, the device ID has the length of the registration ID, and the hub is an Azure host.
    let typical = Sizes::new(SCOPE, TOASTER);
    let hub = Hub::new(TOASTERS_HUB, TOASTER).unwrap();
    assert!(needed(hub.write_token(&mut key, UNIX_TIME, &mut [])) <= typical.hub_token());
    assert!(needed(hub.write_user_name(&mut [])) <= typical.hub_user_name());
}

proptest! {
    #[test]
    fn sizes_from_lengths_are_sufficient_for_any_text(
        id_scope in "[a-z0-9._-]{1,64}",
        registration_id in "[a-zA-Z0-9._:-]{0,127}[a-z0-9]",
        payload in "[ -!#-\\[\\]-~]{0,300}",
        port in 1_u16..,
        expiry: u64,
    ) {
        let payload = format!(r#"{{"x":"{payload}"}}"#);
        let host = format!("hub.example:{port}");
        let endpoint = Endpoint::parse(&host).unwrap();
        let registration =
            Registration::new(IdScope::new(&id_scope).unwrap(), RegistrationId::new(&registration_id).unwrap());
        let registration = registration.with_payload(&payload).unwrap();
        let mut key = toaster_key();
        let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(endpoint);
        provisioning.start(NOW, expiry);
        let sizes = provisioning.sizes();
        let mut buffer = vec![0; sizes.http()];
        prop_assert!(provisioning.sign_with(&mut key, &mut buffer[..sizes.sas_token()]).is_ok());
        prop_assert!(write_request(&mut provisioning, NOW, &mut buffer).is_ok());
        prop_assert!(write_request(&mut provisioning, NOW, &mut buffer[..sizes.http_register()]).is_ok());
        prop_assert!(mqtt::write_user_name(&provisioning, &mut buffer[..sizes.mqtt_user_name()]).is_ok());
        prop_assert!(mqtt::write_password(&provisioning, &mut buffer[..sizes.sas_token()]).is_ok());
        prop_assert!(mqtt::write_publish(&mut provisioning, NOW, &mut buffer[..sizes.mqtt_register()]).is_ok());
        provisioning.on_answer(NOW, azure_dps::provisioning::Answer::new(202, Some(1), ASSIGNING.as_bytes()));
        let now = Duration::from_secs(1);
        let _ = provisioning.step(now);
        prop_assert!(write_request(&mut provisioning, now, &mut buffer[..sizes.http_poll()]).is_ok());
        prop_assert!(mqtt::write_publish(&mut provisioning, now, &mut buffer[..sizes.mqtt_poll()]).is_ok());
        let hub = Hub::new(TOASTERS_HUB, "dev-1").unwrap();
        prop_assert!(hub.write_token(&mut key, expiry, &mut buffer[..sizes.hub_token()]).is_ok());
    }
}

#[test]
fn answers_have_the_reported_size() {
    // Every field of a symmetric-key answer, with the longest dates and tags seen so far.
    let group = "contoso-custom-allocated-devices";
    let body = format!(
        r#"{{"operationId":"{OPERATION}","status":"assigned","registrationState":{{"symmetricKey":{{"enrollmentGroupId":"{group}"}},"registrationId":"{TOASTER}","createdDateTimeUtc":"2026-01-02T03:04:05.6789012Z","assignedHub":"{TOASTERS_HUB}","deviceId":"{TOASTER}","status":"assigned","substatus":"reprovisionedToInitialAssignment","lastUpdatedDateTimeUtc":"2026-01-02T03:04:06.1234567Z","etag":"IjAwMDBhYjAwLTAwMDAtMDcwMC0wMDAwLTYyZWFhZDFlMDAwMCI=","payload":{PAYLOAD}}}}}"#
    );
    let sizes = Sizes::new(SCOPE, TOASTER)
        .with_hub(TOASTERS_HUB)
        .with_enrollment_group(group.len())
        .with_returned_payload(PAYLOAD.len());
    assert!((body.len()..body.len() + 100).contains(&sizes.answer()), "{} for {}", sizes.answer(), body.len());
    // The same answer in the packet of an MQTT client.
    let packet = 5 + 2 + "$dps/registrations/res/200/?$rid=65535&retry-after=4294967295".len() + body.len();
    assert!((packet..packet + 100).contains(&sizes.mqtt_answer()));
    // The same answer in a record.
    let mut record = [0; 2048];
    let registration = registration(TOASTER);
    let assignment = assigned(&registration, &body).unwrap();
    let record = assignment.write_record(&registration, KeyChoice::Primary, &mut record).unwrap();
    assert!(record.len() <= sizes.record());
    // The buffer of a transport holds each of them.
    let parts = [sizes.http_register(), sizes.http_poll(), sizes.answer(), 512];
    assert_eq!(Some(sizes.http()), parts.into_iter().max());
}

/// An array for a transport can be sized at compile time.
#[test]
fn an_array_can_be_sized_at_compile_time() {
    const SIZES: Sizes =
        Sizes::new(SCOPE, TOASTER).with_payload(PAYLOAD.len()).with_hub(TOASTERS_HUB).with_returned_payload(76);
    let mut buffer = [0; SIZES.http()];
    assert!(buffer.len() < 900, "{}", buffer.len());
    let script = Script::new([vec![
        Act::Bytes(http("202 Accepted", "Retry-After: 3\r\n", ASSIGNING), usize::MAX),
        Act::Bytes(http("200 OK", "", ASSIGNED), usize::MAX),
    ]]);
    let mut provisioning = toaster();
    let assignment = script.provision(&mut provisioning, &mut buffer).unwrap();
    assert_eq!(assignment.assigned_hub(), TOASTERS_HUB);
}

/// A multi-threaded runtime needs `Send`.
#[test]
fn a_provisioning_can_be_sent_to_another_thread() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    send_and_sync(&toaster());
}

/// The future of a run is stored in an executor's task, in addition to the caller's own data. Measured on 64 bits, with
/// a connector and a stream of size zero.
#[test]
fn the_future_of_an_async_run_is_as_large_as_documented() {
    struct Nothing;
    impl embedded_io_async::ErrorType for Nothing {
        type Error = Broken;
    }
    impl embedded_io_async::Read for Nothing {
        async fn read(&mut self, _: &mut [u8]) -> Result<usize, Broken> {
            Ok(0)
        }
    }
    impl embedded_io_async::Write for Nothing {
        async fn write(&mut self, _: &[u8]) -> Result<usize, Broken> {
            Ok(0)
        }
        async fn flush(&mut self) -> Result<(), Broken> {
            Ok(())
        }
    }
    let mut connect = async |_| Ok::<_, asynch::ConnectError<Refused>>(Nothing);
    let (mut provisioning, mut key, mut buffer) = (toaster(), toaster_key(), [0; 1024]);
    let (clock, delay) = (|| NOW, async |_| ());
    let run = asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, clock, delay, |_| ());
    let size = size_of_val(&run);
    println!("the future of a run: {size} bytes");
    assert!(size <= 800, "{size}");
}

#[test]
fn an_owned_assignment_is_as_large_as_documented() {
    let fixed = size_of::<azure_dps::provisioning::OwnedAssignment<0>>();
    assert!(fixed <= 304, "{fixed}");
    assert!(size_of::<azure_dps::provisioning::OwnedAssignment<256>>() <= 304 + 256);
    // A payload may be longer than 64 KiB.
    assert!(size_of::<azure_dps::provisioning::OwnedAssignment<100_000>>() <= 304 + 100_000);
}
