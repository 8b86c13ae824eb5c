//! Every kind of attestation over every transport, over TLS. Each cell of the table in `docs/attestation.md` is a test.
//! Another test compares the table.
//!
//! minreq reads its roots from `SSL_CERT_FILE`, which must exist before the process starts. So this program starts
//! itself again.

#[path = "support/network.rs"]
mod network;
mod support;
#[path = "support/tpm.rs"]
mod tpm;

use std::process::{Command, ExitCode};
use std::{env, fs};

use azure_dps::{
    Assignment, Attestation, DeviceKey, Error, GroupKey, Provisioning,
    error::ErrorCode,
    identity::{Csr, NoKey, Sign},
    provisioning::Endpoint,
};
use azure_dps_emulator::{
    Certificate, Config, Emulator, EndorsementKey, EnrollmentGroup, IndividualEnrollment, SymmetricKey, TpmAttestation,
    X509Attestation,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use libtest_mimic::{Arguments, Failed, Trial};
use network::{Tls, Transport, provision};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use support::{HEAT_PUMP, SCOPE, TOASTER, TOASTERS_HUB, registration};
use tpm::{Machine, OTHER_TPM, TPM, endorsement_key};

const ROOTS: &str = "SSL_CERT_FILE";
const SERVER: &str = "AZURE_DPS_TEST_SERVER";

const COLUMNS: [(Transport, &str); 4] = [
    (Transport::EmbeddedIoTls, "HTTP, `blocking`"),
    (Transport::EmbeddedIoAsyncTls, "HTTP, `asynch`"),
    (Transport::Minreq, "HTTP, `https`"),
    (Transport::MqttTls, "MQTT"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    IndividualKey,
    GroupKey,
    SecondaryKey,
    BothKeys,
    IndividualCertificate,
    GroupCertificate,
    Tpm,
    IssuedCertificate,
    LookUp,
}

const ROWS: [(Row, &str); 9] = [
    (Row::IndividualKey, "symmetric key, individual enrollment"),
    (Row::GroupKey, "symmetric key, derived from a group key"),
    (Row::SecondaryKey, "symmetric key, the secondary one"),
    (Row::BothKeys, "two symmetric keys (key rotation)"),
    (Row::IndividualCertificate, "X.509, individual enrollment"),
    (Row::GroupCertificate, "X.509, enrollment group, with an intermediate CA"),
    (Row::Tpm, "TPM, individual enrollment"),
    (Row::IssuedCertificate, "certificate issued for a `csr`"),
    (Row::LookUp, "status look-up"),
];

/// Returns why this combination does not exist.
fn not_offered(row: Row, transport: Transport) -> Option<&'static str> {
    match (row, transport) {
        (Row::IndividualCertificate | Row::GroupCertificate, Transport::Minreq) => {
            Some("no: minreq has no client certificates")
        }
        (Row::Tpm | Row::LookUp, Transport::MqttTls) => Some("no: not offered by DPS"),
        _ => None,
    }
}

fn main() -> ExitCode {
    if env::var_os(SERVER).is_none() {
        return again_with_roots();
    }
    let cells = ROWS.iter().flat_map(|(row, _)| COLUMNS.iter().map(move |(transport, _)| (*row, *transport)));
    let mut trials: Vec<_> = cells
        .map(|(row, transport)| {
            let name = format!("{row:?}::{transport:?}");
            Trial::test(name, move || {
                cell(row, transport);
                Ok(())
            })
        })
        .collect();
    trials.push(Trial::test("the_documentations_table", documentation));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Creates a server certificate from a CA that minreq trusts, and starts this program again.
fn again_with_roots() -> ExitCode {
    let ca = authority("root", None);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".into()]).unwrap().signed_by(&key, &ca).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    fs::write(path("ca.pem"), ca.pem()).unwrap();
    fs::write(path("server.pem"), server.pem()).unwrap();
    fs::write(path("server-key.pem"), key.serialize_pem()).unwrap();
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(env::args_os().skip(1)).env(ROOTS, path("ca.pem")).env(SERVER, directory.path());
    for name in network::PROXY_VARIABLES {
        again.env_remove(name);
    }
    let status = again.status().unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn documentation() -> Result<(), Failed> {
    let documentation = include_str!("../docs/attestation.md");
    for (row, name) in ROWS {
        let cells = COLUMNS.map(|(transport, _)| not_offered(row, transport).unwrap_or("yes")).join(" | ");
        let line = format!("| {name} | {cells} |");
        if !documentation.lines().any(|each| each == line) {
            return Err(format!("docs/attestation.md needs the line\n{line}").into());
        }
    }
    Ok(())
}

fn cell(row: Row, transport: Transport) {
    let cell = Cell::new(transport);
    if not_offered(row, transport).is_some() {
        return cell.refuses(row);
    }
    match row {
        Row::IndividualKey => cell.individual_key(),
        Row::GroupKey => cell.group_key(),
        Row::SecondaryKey => cell.secondary_keys(),
        Row::BothKeys => cell.both_keys(),
        Row::IndividualCertificate => cell.individual_certificate(),
        Row::GroupCertificate => cell.group_certificate(),
        Row::Tpm => cell.tpm(),
        Row::IssuedCertificate => cell.issued_certificate(),
        Row::LookUp => cell.look_up(),
    }
}

/// Each cell has its own emulator.
struct Cell {
    transport: Transport,
    emulator: Emulator,
    url: String,
    ca: String,
}

impl Cell {
    fn new(transport: Transport) -> Self {
        let directory = std::path::PathBuf::from(env::var_os(SERVER).unwrap());
        let read = |name| fs::read_to_string(directory.join(name)).unwrap();
        let config = Config {
            id_scope: SCOPE.into(),
            linked_hubs: vec![TOASTERS_HUB.into()],
            behaviour: azure_dps_emulator::Behaviour { retry_after: Some(1), ..Default::default() },
            ..Config::default()
        };
        let emulator = Emulator::builder(config)
            .https("127.0.0.1:0")
            .mqtts("127.0.0.1:0")
            .certificate(read("server.pem"), read("server-key.pem"))
            .start()
            .unwrap();
        let url = match transport {
            Transport::MqttTls => emulator.mqtts_url().unwrap().replace("mqtts", "https"),
            _ => emulator.https_url().unwrap().into(),
        };
        Self { transport, emulator, url, ca: read("ca.pem") }
    }

    fn enroll(&self, enrollment: IndividualEnrollment) {
        self.emulator.update(|config| config.individual_enrollments.push(enrollment));
    }

    fn enroll_group(&self, group: EnrollmentGroup) {
        let group = EnrollmentGroup { enrollment_group_id: "group".into(), ..group };
        self.emulator.update(|config| config.enrollment_groups.push(group));
    }

    /// Runs to the end, and returns the assignment.
    fn run<'p, T>(
        &'p self,
        provisioning: Provisioning<'p>,
        signer: &mut impl Sign,
        client: Option<(&str, &str)>,
        read: impl FnOnce(&Assignment<'_>) -> T,
    ) -> Result<T, Error> {
        let mut provisioning = provisioning.with_endpoint(Endpoint::parse(&self.url).unwrap());
        let mut buffer = vec![0; 16 * 1024];
        let assignment =
            provision(&mut provisioning, signer, self.transport, Tls { ca: &self.ca, client }, &mut buffer)?;
        assert_eq!(assignment.assigned_hub(), TOASTERS_HUB);
        Ok(read(&assignment))
    }

    fn with_key(&self, id: &'static str, key: &mut impl Sign) -> Result<(), Error> {
        self.run(Provisioning::new(registration(id), Attestation::symmetric_key()), key, None, |assignment| {
            assert_eq!(assignment.device_id(), id);
        })
    }

    fn with_certificate(&self, client: &Client) -> Result<(), Error> {
        let client = Some((client.chain.as_str(), client.key.as_str()));
        self.run(Provisioning::new(registration(TOASTER), Attestation::x509()), &mut NoKey, client, |_| ())
    }

    fn individual_key(&self) {
        let (text, mut key) = random_key();
        let primary_key = SymmetricKey::from_base64(&text).unwrap();
        self.enroll(IndividualEnrollment { registration_id: TOASTER.into(), primary_key, ..Default::default() });
        self.with_key(TOASTER, &mut key).unwrap();
        refused(self.with_key(TOASTER, &mut random_key().1), self.transport.refused_key());
    }

    fn group_key(&self) {
        let (text, _) = random_key();
        let primary_key = SymmetricKey::from_base64(&text).unwrap();
        self.enroll_group(EnrollmentGroup { primary_key, ..Default::default() });
        let group_key = GroupKey::from_base64(&text).unwrap();
        let derive = |id| group_key.derive(&registration(id).registration_id());
        for id in [TOASTER, HEAT_PUMP] {
            self.with_key(id, &mut derive(id)).unwrap();
        }
        refused(self.with_key(TOASTER, &mut derive(HEAT_PUMP)), self.transport.refused_key());
        // A group key is not a device key.
        let mut group_key = DeviceKey::from_base64(&text).unwrap();
        refused(self.with_key(TOASTER, &mut group_key), self.transport.refused_key());
    }

    fn secondary_keys(&self) {
        let [primary, individual, group] = [(); 3].map(|()| random_key());
        let enrolled = |(text, _): &(String, DeviceKey)| SymmetricKey::from_base64(text).unwrap();
        self.enroll(IndividualEnrollment {
            registration_id: TOASTER.into(),
            primary_key: enrolled(&primary),
            secondary_key: Some(enrolled(&individual)),
            ..Default::default()
        });
        self.enroll_group(EnrollmentGroup {
            primary_key: enrolled(&primary),
            secondary_key: Some(enrolled(&group)),
            ..Default::default()
        });
        self.with_key(TOASTER, &mut individual.1.clone()).unwrap();
        let group = GroupKey::from_base64(&group.0).unwrap();
        self.with_key(HEAT_PUMP, &mut group.derive(&registration(HEAT_PUMP).registration_id())).unwrap();
        refused(self.with_key(TOASTER, &mut random_key().1), self.transport.refused_key());
    }

    /// The caller passes both keys. The run uses the key that the enrollment has.
    fn both_keys(&self) {
        let (text, key) = random_key();
        let primary_key = SymmetricKey::from_base64(&text).unwrap();
        self.enroll(IndividualEnrollment { registration_id: TOASTER.into(), primary_key, ..Default::default() });
        let wrong = || random_key().1;
        let registers = || {
            let requests = self.emulator.requests();
            requests.iter().filter(|request| request.method == "PUT").count()
        };
        self.with_key(TOASTER, &mut [wrong(), key.clone()]).unwrap();
        self.with_key(TOASTER, &mut [key.clone(), wrong()]).unwrap();
        // The other key is tried once.
        let before = registers();
        refused(self.with_key(TOASTER, &mut [wrong(), wrong()]), self.transport.refused_key());
        assert_eq!(registers() - before, 2);
    }

    fn individual_certificate(&self) {
        let client = Client::self_signed(TOASTER);
        self.enroll(IndividualEnrollment {
            registration_id: TOASTER.into(),
            x509: Some(X509Attestation { primary: Certificate::from_pem(&client.chain).unwrap(), secondary: None }),
            ..Default::default()
        });
        self.with_certificate(&client).unwrap();
        // The same name with another key.
        refused(self.with_certificate(&Client::self_signed(TOASTER)), ErrorCode::CREDENTIAL_REFUSED);
    }

    fn group_certificate(&self) {
        let root = authority("group root", None);
        let intermediate = authority("group intermediate", Some(&root));
        self.enroll_group(EnrollmentGroup {
            x509: Some(X509Attestation { primary: Certificate::from_pem(&root.pem()).unwrap(), secondary: None }),
            ..Default::default()
        });
        self.with_certificate(&Client::issued(TOASTER, &intermediate)).unwrap();
        self.with_certificate(&Client::issued(TOASTER, &root)).unwrap();
        // A CA with the same name, and a certificate for another device.
        let other = authority("group root", None);
        refused(self.with_certificate(&Client::issued(TOASTER, &other)), ErrorCode::CREDENTIAL_REFUSED);
        refused(self.with_certificate(&Client::issued(HEAT_PUMP, &root)), ErrorCode::CREDENTIAL_REFUSED);
    }

    fn tpm(&self) {
        let endorsement_key = EndorsementKey::from_base64(&endorsement_key(&TPM)).unwrap();
        self.enroll(IndividualEnrollment {
            registration_id: TOASTER.into(),
            tpm: Some(TpmAttestation { endorsement_key, storage_root_key: None }),
            ..Default::default()
        });
        let run = |mut machine: Machine| {
            let mut buffer = [0; 2048];
            let provisioning = Provisioning::new(registration(TOASTER), machine.attestation());
            let len = self.run(provisioning, &mut machine, None, |assignment| {
                assignment.tpm_authentication_key().unwrap().text().copy_to(&mut buffer).unwrap().len()
            })?;
            assert!(len > 1000 && machine.activated.len() == 1);
            Ok(())
        };
        run(Machine::new(&TPM)).unwrap();
        // A TPM with the registration ID of another one, and one with its own ID.
        assert!(matches!(run(Machine { shown: &TPM, ..Machine::new(&OTHER_TPM) }), Err(Error::Tpm(_))));
        refused(run(Machine::new(&OTHER_TPM)), ErrorCode::ENROLLMENT_NOT_FOUND);
        run(Machine::new(&TPM)).unwrap();
    }

    fn issued_certificate(&self) {
        let (text, mut key) = random_key();
        self.enroll(IndividualEnrollment {
            registration_id: TOASTER.into(),
            primary_key: SymmetricKey::from_base64(&text).unwrap(),
            certificate_policy: Some("policy".into()),
            ..Default::default()
        });
        let mut request = |id: &str| {
            let key_pair = KeyPair::generate().unwrap();
            let request = params(id).serialize_request(&key_pair).unwrap();
            let csr = Csr::from_der(request.der()).unwrap();
            let provisioning = Provisioning::new(registration(TOASTER).with_csr(csr), Attestation::symmetric_key());
            self.run(provisioning, &mut key, None, |assignment| {
                let chain = assignment.issued_certificate_chain().unwrap();
                let mut buffer = [0; 2048];
                let leaf = chain.leaf(&csr, &mut buffer).unwrap().to_vec();
                (chain.count(), leaf, key_pair)
            })
        };
        let (count, leaf, key_pair) = request(TOASTER).unwrap();
        assert_eq!(count, 3);
        let error = request(HEAT_PUMP).unwrap_err();
        assert!(matches!(error, Error::Refused(refusal) if refusal.http_status == 400), "{error}");

        // The issued certificate is enough to provision.
        let primary = Certificate::from_pem(self.emulator.issuing_ca_pem()).unwrap();
        let (x509, client) = (Some(X509Attestation { primary, secondary: None }), Client::new(&[leaf], &key_pair));
        self.emulator.update(|config| config.individual_enrollments.clear());
        self.enroll_group(EnrollmentGroup { x509, ..Default::default() });
        if self.transport != Transport::Minreq {
            self.with_certificate(&client).unwrap();
        }
    }

    fn look_up(&self) {
        let (text, mut key) = random_key();
        let primary_key = SymmetricKey::from_base64(&text).unwrap();
        self.enroll(IndividualEnrollment { registration_id: TOASTER.into(), primary_key, ..Default::default() });
        let look_up = |key: &mut DeviceKey| {
            let provisioning = Provisioning::lookup(registration(TOASTER), Attestation::symmetric_key());
            self.run(provisioning, key, None, |assignment| assert_eq!(assignment.device_id(), TOASTER))
        };
        refused(look_up(&mut key), ErrorCode::ENROLLMENT_NOT_FOUND);
        self.with_key(TOASTER, &mut key).unwrap();
        look_up(&mut key).unwrap();
        refused(look_up(&mut random_key().1), self.transport.refused_key());
        assert_eq!(self.emulator.device(TOASTER).unwrap().registrations, 1);
    }

    /// Checks the library's error for a combination that does not exist.
    fn refuses(&self, row: Row) {
        let registration = registration(TOASTER);
        let provisioning = match row {
            Row::Tpm => Provisioning::new(registration, Machine::new(&TPM).attestation()),
            Row::LookUp => Provisioning::lookup(registration, Attestation::symmetric_key()),
            _ => Provisioning::new(registration, Attestation::x509()),
        };
        assert_eq!(self.run(provisioning, &mut random_key().1, None, |_| ()), Err(Error::Unsupported));
        // No request and no token was sent.
        assert_eq!(self.emulator.requests().len(), 0);
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: ErrorCode) {
    assert_eq!(result.unwrap_err().code(), Some(code));
}

fn random_key() -> (String, DeviceKey) {
    let bytes: [u8; 32] = std::array::from_fn(|_| rand_byte());
    let text = BASE64_STANDARD.encode(bytes);
    let key = DeviceKey::from_base64(&text).unwrap();
    (text, key)
}

fn rand_byte() -> u8 {
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).unwrap();
    byte[0]
}

/// A certificate chain and its key, as PEM.
struct Client {
    chain: String,
    key: String,
}

impl Client {
    fn new(chain: &[Vec<u8>], key: &KeyPair) -> Self {
        let chain = chain.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_slice()))).collect();
        Self { chain, key: key.serialize_pem() }
    }

    fn self_signed(id: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { chain: params(id).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    /// Creates a certificate that this CA issued, followed by the certificate of the CA.
    fn issued(id: &str, ca: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let leaf = params(id).signed_by(&key, ca).unwrap();
        Self { chain: leaf.pem() + &ca.pem(), key: key.serialize_pem() }
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, issuer: Option<&Authority>) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match issuer {
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
