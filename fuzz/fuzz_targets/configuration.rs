//! A configuration: one that is accepted is TOML, can be used as it is, and lets nobody in who shows
//! nothing; one that is refused is told the line.

#![no_main]

use std::sync::LazyLock;

use azure_dps_emulator::fuzzing::Request;
use azure_dps_emulator::{Config, Operation};
use azure_dps_fuzz::{Emulator, NOW, check_answer, said};
use libfuzzer_sys::fuzz_target;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

fuzz_target!(|text: &str| {
    let config = match Config::from_toml(text) {
        Ok(config) => config,
        Err(error) => {
            let error = error.to_string();
            if let Some(line) = error.strip_prefix("line ") {
                let line: usize = line.split_once(':').unwrap().0.parse().unwrap();
                assert!(line <= text.matches('\n').count() + 1, "{error}");
            }
            return;
        }
    };
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
