//! What the caller owns, in bytes, and the formulas of the crate documentation.

mod support;

use azure_dps::{Credential, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId};
use support::*;

/// The tutorial's answers as a microcontroller sees them, with all documented headers.
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
    let mut key = toaster_key();
    let mut provisioning = toaster(&mut key);
    let assignment = script.provision(&mut provisioning, &mut buffer).unwrap();
    assert_eq!(assignment.assigned_hub(), TOASTERS_HUB);
    assert_eq!(
        assignment.payload().unwrap().raw(),
        r#"{"property1":"value1","property2":{"propertyA":"valueA","property2-2":1234}}"#
    );
}

#[test]
fn requests_stay_within_the_documented_formula() {
    let mut key = toaster_key();
    let ids = ["a".to_string(), TOASTER.into(), "a".repeat(128), ":".repeat(127) + "a"];
    for scope in ["0ne00002193", "s"] {
        for id in &ids {
            for payload in ["{}", PAYLOAD] {
                let colons = id.matches(':').count();
                let (id_scope, registration_id) = (IdScope::new(scope).unwrap(), RegistrationId::new(id).unwrap());
                let registration = Registration::new(id_scope, registration_id).with_payload(payload).unwrap();
                let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key));
                provisioning.start(Default::default(), UNIX_TIME);
                // The measure of a request whose signature is not known yet is its maximum.
                let error = azure_dps::http::write_request(&mut provisioning, Default::default(), &mut []).unwrap_err();
                let Error::BufferTooSmall(error) = error else { panic!("{error}") };
                let formula = 480 + 2 * scope.len() + 3 * id.len() + 4 * colons + payload.len();
                assert!(error.needed <= formula, "{} > {formula}", error.needed);
                assert!(error.needed + 100 >= formula, "{} is far below {formula}", error.needed);

                let operation = "x".repeat(128);
                let assigning = format!(r#"{{"operationId":"{operation}","status":"assigning"}}"#);
                let answer = azure_dps::Answer::new(202, Some(1), assigning.as_bytes());
                provisioning.on_answer(Default::default(), answer);
                let now = core::time::Duration::from_secs(2);
                let _ = provisioning.step(now);
                let error = azure_dps::http::write_request(&mut provisioning, now, &mut []).unwrap_err();
                let Error::BufferTooSmall(error) = error else { panic!("{error}") };
                let formula = 430 + 2 * scope.len() + 2 * id.len() + 4 * colons + operation.len();
                assert!(error.needed <= formula, "{} > {formula}", error.needed);
                assert!(error.needed + 100 >= formula, "{} is far below {formula}", error.needed);
            }
        }
    }
}

#[test]
fn answers_stay_within_the_documented_formula() {
    // Every field of a symmetric-key answer, with the longest dates and tags that were seen.
    let group = "contoso-custom-allocated-devices";
    let body = format!(
        r#"{{"operationId":"{OPERATION}","status":"assigned","registrationState":{{"symmetricKey":{{"enrollmentGroupId":"{group}"}},"registrationId":"{TOASTER}","createdDateTimeUtc":"2026-01-02T03:04:05.6789012Z","assignedHub":"{TOASTERS_HUB}","deviceId":"{TOASTER}","status":"assigned","substatus":"reprovisionedToInitialAssignment","lastUpdatedDateTimeUtc":"2026-01-02T03:04:06.1234567Z","etag":"IjAwMDBhYjAwLTAwMDAtMDcwMC0wMDAwLTYyZWFhZDFlMDAwMCI=","payload":{PAYLOAD}}}}}"#
    );
    let formula = 480 + 2 * TOASTER.len() + TOASTERS_HUB.len() + group.len() + PAYLOAD.len();
    assert!(body.len() <= formula, "{} > {formula}", body.len());
    assert!(body.len() + 100 >= formula, "{} is far below {formula}", body.len());
}

/// What a multi-threaded runtime wants of a run that it moves about.
#[test]
fn a_provisioning_can_be_sent_to_another_thread() {
    fn send<T: Send>(_: &T) {}
    let mut key = toaster_key();
    send(&toaster(&mut key));
}

#[test]
fn an_owned_assignment_is_as_large_as_documented() {
    let fixed = size_of::<azure_dps::OwnedAssignment<0>>();
    assert!(fixed <= 264, "{fixed}");
    assert!(size_of::<azure_dps::OwnedAssignment<256>>() <= 264 + 256);
}
