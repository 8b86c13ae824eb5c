//! What the header repeats of the library: sizes of buffers, and names of results. A C compiler compares them.

use std::{
    ffi::{CStr, c_char},
    fmt::Write,
    fs,
    path::Path,
    process::Command,
};

use azure_dps::{IdScope, RegistrationId, after::twin, provisioning::Sizes};
use azure_dps_c as _;

unsafe extern "C" {
    safe fn azure_dps_result_name(result: i32) -> *const c_char;
}

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/azure_dps.h");

/// Has a C compiler check that each of these is true.
fn assert_in_c(name: &str, conditions: &str) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, format!("#include \"azure_dps.h\"\n{conditions}")).unwrap();
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let include = Path::new(HEADER).parent().unwrap();
    let status = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only", "-I"])
        .args([include, file.as_path()])
        .status();
    assert!(status.unwrap().success(), "see {}", file.display());
}

/// Sizes that are exactly those of the library.
fn exact(out: &mut String, expression: &str, size: usize) {
    writeln!(out, "_Static_assert({expression} == {size}, \"\");").unwrap();
}

/// Sizes that may be a little larger: the header takes a payload, and a long request, for granted.
fn ample(out: &mut String, expression: &str, size: usize) {
    writeln!(out, "_Static_assert({expression} >= {size} && {expression} <= {size} + 32, \"\");").unwrap();
}

#[test]
fn sizes_of_buffers() {
    let mut out = String::new();
    let longest_id = "i".repeat(RegistrationId::MAX_LEN);
    let longest_scope = "s".repeat(IdScope::MAX_LEN);
    for (id_scope, registration_id) in [
        ("0ne00002193", "breakroom499-contoso-tstrsd-007"),
        ("s", "i"),
        (&longest_scope, &longest_id),
        // As long as `sn:007` in a URL.
        ("0ne00002193", "sn--:007"),
    ] {
        let sizes = Sizes::new(id_scope, registration_id);
        let colons = registration_id.matches(':').count();
        let (scope, id) = (id_scope.len(), registration_id.len() + 2 * colons);
        exact(&mut out, &format!("AZURE_DPS_SAS_TOKEN_SIZE({scope}, {id})"), sizes.sas_token() + 1);
        ample(&mut out, &format!("AZURE_DPS_MQTT_USER_NAME_SIZE({scope}, {id})"), sizes.mqtt_user_name() + 1);
        for (payload, returned) in [(0, 0), (78, 120), (9_000, 0), (98_000, 9_000)] {
            let sizes = match payload {
                0 => sizes,
                _ => sizes.with_payload(payload),
            };
            let sizes = sizes.with_returned_payload(returned);
            let size = format!("AZURE_DPS_HTTP_SIZE({scope}, {id}, {payload}, {returned})");
            ample(&mut out, &size, sizes.http());
            ample(&mut out, &format!("AZURE_DPS_MQTT_PUBLISH_SIZE({id}, {payload})"), sizes.mqtt_publish() + 1);
            ample(&mut out, &format!("AZURE_DPS_MQTT_ANSWER_SIZE({id}, {returned})"), sizes.mqtt_answer());
            ample(&mut out, &format!("AZURE_DPS_ANSWER_SIZE({id}, {returned})"), sizes.answer());
            ample(&mut out, &format!("AZURE_DPS_RECORD_SIZE({id}, {returned})"), sizes.record());
        }
        for (csr, endorsement_key, storage_root_key) in [(0, 316, 316), (1, 2, 3), (600, 122, 314)] {
            let sizes = sizes.with_csr(csr).with_tpm(endorsement_key, storage_root_key);
            let body =
                format!("AZURE_DPS_CSR_IN_BODY({csr}) + AZURE_DPS_TPM_IN_BODY({endorsement_key}, {storage_root_key})");
            ample(&mut out, &format!("AZURE_DPS_HTTP_SIZE({scope}, {id}, {body}, 0)"), sizes.http());
        }
    }
    // Exactly what is needed, if there is nothing that the header takes for granted.
    let sizes = Sizes::new("0ne00002193", "dev-1").with_payload(300);
    exact(&mut out, "AZURE_DPS_MQTT_PUBLISH_SIZE(5, 300)", sizes.mqtt_publish() + 1);
    exact(&mut out, "AZURE_DPS_MQTT_USER_NAME_SIZE(11, 5)", sizes.mqtt_user_name() + 1);
    exact(&mut out, "AZURE_DPS_ANSWER_SIZE(5, 0)", sizes.answer());
    exact(&mut out, "AZURE_DPS_RECORD_SIZE(5, 0)", sizes.record());

    for (hub, device_id) in [("hub.azure-devices.net", "dev-1"), ("localhost:8883", "d"), ("h", "a:b")] {
        let sizes = Sizes::new("s", "i").with_hub(hub).with_device_id(device_id);
        let encoded = device_id.len() + 2 * device_id.matches(':').count();
        let arguments = format!("({}, {encoded})", hub.len());
        ample(&mut out, &format!("AZURE_DPS_HUB_USER_NAME_SIZE{arguments}"), sizes.hub_user_name() + 1);
        ample(&mut out, &format!("AZURE_DPS_HUB_PASSWORD_SIZE{arguments}"), sizes.hub_token() + 1);
        ample(&mut out, &format!("AZURE_DPS_HUB_CONNECTION_STRING_SIZE{arguments}"), sizes.hub_connection_string() + 1);
        let x509 = format!("AZURE_DPS_HUB_X509_CONNECTION_STRING_SIZE{arguments}");
        ample(&mut out, &x509, sizes.hub_x509_connection_string() + 1);
        let topic = format!("AZURE_DPS_HUB_TELEMETRY_TOPIC_SIZE({encoded})");
        ample(&mut out, &topic, sizes.hub_telemetry_topic() + 1);
    }
    let sizes = Sizes::new("s", "i").with_hub("hub.azure-devices.net").with_device_id("dev-1");
    exact(&mut out, "AZURE_DPS_HUB_USER_NAME_SIZE(21, 5)", sizes.hub_user_name() + 1);
    exact(&mut out, "AZURE_DPS_HUB_PASSWORD_SIZE(21, 5)", sizes.hub_token() + 1);
    exact(&mut out, "AZURE_DPS_HUB_CONNECTION_STRING_SIZE(21, 5)", sizes.hub_connection_string() + 1);
    exact(&mut out, "AZURE_DPS_HUB_X509_CONNECTION_STRING_SIZE(21, 5)", sizes.hub_x509_connection_string() + 1);
    exact(&mut out, "AZURE_DPS_HUB_TELEMETRY_TOPIC_SIZE(5)", sizes.hub_telemetry_topic() + 1);

    exact(&mut out, "AZURE_DPS_TWIN_TOPIC_SIZE", twin::TOPIC_LEN + 1);
    exact(&mut out, "AZURE_DPS_ID_SCOPE_MAX", IdScope::MAX_LEN);
    exact(&mut out, "AZURE_DPS_REGISTRATION_ID_MAX", RegistrationId::MAX_LEN);
    exact(&mut out, "sizeof AZURE_DPS_VERSION", env!("CARGO_PKG_VERSION").len() + 1);
    assert_in_c("sizes.c", &out);
}

/// The code and the name of every result in the header.
fn results() -> Vec<(i32, String)> {
    let header = fs::read_to_string(HEADER).unwrap();
    let lines = header.lines().filter_map(|line| line.strip_prefix("#define "));
    let results = lines.filter(|line| line.starts_with("AZURE_DPS_ERR_") || line.starts_with("AZURE_DPS_OK "));
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let code = words.next()?.trim_matches(['(', ')']).parse().ok()?;
        Some((code, name))
    };
    results.map(|line| read(line).expect(line)).collect()
}

#[test]
fn names_of_results() {
    // SAFETY: the function returns static text.
    let name = |code| unsafe { CStr::from_ptr(azure_dps_result_name(code)) }.to_str().unwrap();
    let results = results();
    assert!(results.len() > 40);
    for (code, expected) in &results {
        assert_eq!(name(*code), expected);
    }
    for code in (-200..=100).filter(|code| !results.iter().any(|(known, _)| known == code)) {
        assert_eq!(name(code), "?");
    }
}
