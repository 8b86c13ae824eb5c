//! Configurations. An accepted one is TOML, is usable, and admits no device without proof. A rejected one lists all
//! errors. Each error has a position inside the text, and quotes no key.

#![no_main]

use std::sync::LazyLock;

use azure_dps_emulator::fuzzing::Request;
use azure_dps_emulator::{Config, Document, Finding, Operation};
use azure_dps_fuzz::secrets::{FUNCTION_KEY, SECRETS};
use azure_dps_fuzz::{Emulator, NOW, check_answer, said};
use libfuzzer_sys::fuzz_target;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

fuzz_target!(|text: &str| {
    let findings = Document::read(text).findings();
    for finding in &findings {
        check_finding(text, finding);
    }
    let config = match Config::from_toml(text) {
        Ok(config) => config,
        Err(error) => {
            let errors: Vec<_> = findings.into_iter().filter(Finding::is_error).collect();
            assert!(!errors.is_empty() && error.findings() == errors, "{error}");
            return;
        }
    };
    assert!(!findings.iter().any(Finding::is_error), "{findings:?}");
    EMULATOR.run(false, async |service| {
        let ids = config.individual_enrollments.iter().map(|each| each.registration_id.clone());
        let ids: Vec<String> = ids.chain(["d".to_owned()]).collect();
        let id_scope = config.id_scope.clone();
        let unknown_id_scope_code = config.behaviour.unknown_id_scope_code;
        let _ = format!("{config:?}");
        service.update(config).unwrap();
        for registration_id in &ids {
            for id_scope in [&*id_scope, "another"] {
                let request = Request {
                    operation: Operation::Register,
                    operation_id: "",
                    id_scope,
                    registration_id,
                    authorization: None,
                    certificates: &[],
                    shown_at: NOW,
                    body: b"",
                };
                let (status, body) = service.answer(&request).await;
                if id_scope == "another" && status == u16::try_from(unknown_id_scope_code / 1000).unwrap_or(500) {
                    continue;
                }
                let json = check_answer(status, body.as_bytes());
                assert!(matches!(status, 400..500) || said(&json) == Some("failed"), "{json}");
            }
        }
        assert!(service.forget().is_empty());
    });
});

/// The place is in the text, and no key is quoted.
fn check_finding(text: &str, finding: &Finding) {
    if let (Some(line), Some(column)) = (finding.line(), finding.column()) {
        let line = text.split('\n').nth(line - 1).unwrap();
        assert!((1..=line.chars().count() + 1).contains(&column), "{finding}");
    }
    let told = format!("{finding} {finding:?} {}", serde_json::to_string(finding).unwrap());
    for key in SECRETS {
        // A function key is a secret in a URL only.
        let with_name = format!("code={key}");
        if key != FUNCTION_KEY || text.matches(key).count() == text.matches(&with_name).count() {
            assert!(!told.contains(key), "{finding}");
        }
    }
}
