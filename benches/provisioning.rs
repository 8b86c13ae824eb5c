//! The time of each step of a provisioning run on this machine: `cargo bench`
//!
//! Compare only steps of the same run. `ci/cost/run.sh` counts instructions on a microcontroller.

use std::hint::black_box;
use std::time::Duration;

use azure_dps::http::{self, ResponseReader};
use azure_dps::{
    Attestation, DeviceKey, GroupKey, IdScope, Provisioning, Registration, RegistrationId, identity::sas_token, json,
    provisioning::Answer,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const DEVICE_KEY: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
const ASSIGNED: &str = include_str!("../tests/vectors/operation-assigned.json");
const UNIX_TIME: u64 = 1_700_000_000;
const NOW: Duration = Duration::ZERO;

fn registration() -> Registration<'static> {
    let id = RegistrationId::new("breakroom499-contoso-tstrsd-007").unwrap();
    Registration::new(IdScope::new("0ne00002193").unwrap(), id).with_payload(PAYLOAD).unwrap()
}

fn keys_and_tokens(c: &mut Criterion) {
    let registration = registration();
    let (scope, id) = (registration.id_scope(), registration.registration_id());
    c.bench_function("derive", |b| {
        b.iter(|| {
            let (mut group_key, mut key) = (GroupKey::new(), DeviceKey::new());
            group_key.read_base64(black_box(GROUP_KEY)).unwrap();
            group_key.derive_into(&id, &mut key).unwrap();
            key.write_base64(&mut [0; 44]).is_ok()
        })
    });
    c.bench_function("token", |b| {
        b.iter(|| {
            let mut key = DeviceKey::new();
            key.read_base64(black_box(DEVICE_KEY)).unwrap();
            sas_token::write(&mut key, scope, id, black_box(UNIX_TIME), &mut [0; 256]).is_ok()
        })
    });
}

fn request(c: &mut Criterion) {
    let mut key = DeviceKey::new();
    key.read_base64(DEVICE_KEY).unwrap();
    let mut provisioning = Provisioning::new(registration(), Attestation::symmetric_key());
    let mut buffer = [0; 1024];
    c.bench_function("request, signed", |b| {
        b.iter(|| {
            provisioning.start(NOW, black_box(UNIX_TIME));
            provisioning.sign_with(&mut key, &mut buffer).unwrap();
            http::write_request(&mut provisioning, NOW, &mut buffer).unwrap()
        })
    });
}

fn parse(c: &mut Criterion) {
    let mut provisioning = Provisioning::new(registration(), Attestation::symmetric_key());
    c.bench_function("http answer", |b| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ASSIGNED}", ASSIGNED.len());
        let mut buffer = [0; 1024];
        b.iter(|| {
            let mut reader = ResponseReader::new();
            reader.space(&mut buffer).unwrap()[..answer.len()].copy_from_slice(black_box(answer.as_bytes()));
            reader.received(&mut buffer, answer.len()).unwrap()
        })
    });
    c.bench_function("result", |b| {
        b.iter(|| {
            provisioning.start(NOW, UNIX_TIME);
            let body = black_box(ASSIGNED.as_bytes());
            provisioning.on_answer(NOW, Answer::new(200, None, body));
            provisioning.result(body).unwrap().payload().map(|payload| payload.raw().len())
        })
    });
    // The time must grow linearly with the payload.
    let mut group = c.benchmark_group("payload");
    for times in [1, 10, 100] {
        let payload = format!("{{\"a\":[{}]}}", vec![PAYLOAD; times].join(","));
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_with_input(BenchmarkId::new("json", times), &payload, |b, payload| {
            b.iter(|| json::Object::parse(black_box(payload)).is_ok())
        });
        group.bench_with_input(BenchmarkId::new("serde_json", times), &payload, |b, payload| {
            b.iter(|| serde_json::from_str::<&serde_json::value::RawValue>(black_box(payload)).is_ok())
        });
    }
    group.finish();
}

criterion_group!(benches, keys_and_tokens, request, parse);
criterion_main!(benches);
