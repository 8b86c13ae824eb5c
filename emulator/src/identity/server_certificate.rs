//! The certificate of the TLS listeners: the user's own, or one that the emulator's CA signs for the linked hubs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::{
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

use super::{
    ca::{Ca, validity},
    ids,
};
use crate::net::{host, tls};

/// The names that the certificate always has. The last one is for devices with a fixed host and an entry in the hosts
/// file.
const NAMES: [&str; 5] = ["localhost", "hub.localhost", "127.0.0.1", "::1", "global.azure-devices-provisioning.net"];

/// The most names of hubs in a certificate. TLS stacks on small devices cannot read a long certificate.
const MOST_HUBS: usize = 100;

/// Returns the hosts of hubs and gateways in the spelling of certificates, without duplicates. Hosts that a
/// certificate cannot name are left out.
pub(crate) fn host_names<'a>(hubs: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut names = Vec::new();
    for hub in hubs {
        let name = host::normal(ids::hub_host(hub));
        if ServerName::try_from(name.as_str()).is_ok() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Reads a name under which devices reach the emulator.
///
/// # Errors
///
/// Returns an error if the text is more than a host.
pub fn gateway_name(name: &str) -> Result<String, String> {
    let normal = host::normal(name);
    match ServerName::try_from(normal.as_str()) {
        Ok(_) => Ok(normal),
        Err(_) => Err(format!("{name:?} is not the name or address of a host, without scheme and port")),
    }
}

/// Reads the user's certificate, its chain and its key.
pub(crate) fn own(chain_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate's PEM cannot be read: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no PEM private key".to_owned(),
        error => format!("the key's PEM cannot be read: {error}"),
    })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| tls::explain_own(&error))
}

/// Returns a warning if the user's certificate lacks some of these names.
pub(crate) fn lacks_names(certificate: &CertifiedKey, names: &[String]) -> Option<String> {
    let parsed = certificate.end_entity_cert().and_then(ParsedCertificate::try_from).ok()?;
    let is_lacking = |name: &&String| {
        let name = ServerName::try_from(name.as_str());
        name.is_ok_and(|name| verify_server_name(&parsed, &name).is_err())
    };
    let lacking: Vec<_> = names.iter().filter(is_lacking).map(String::as_str).collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "the certificate of the TLS listeners does not name {}: a device that dials one of these hosts rejects \
             the certificate",
            lacking.join(", ")
        )
    })
}

/// Chooses the certificate of a handshake. At the start, it names every linked hub. If a client dials a hub that was
/// linked later or chosen by a webhook, this hub is added. CA and key stay the same.
pub(crate) struct HubNames<F> {
    ca: Ca,
    key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    /// The names that every certificate has.
    fixed: Vec<String>,
    is_hub: F,
    current: Mutex<Current>,
}

struct Current {
    hubs: Vec<String>,
    certificate: Arc<CertifiedKey>,
}

impl<F> HubNames<F> {
    pub(crate) fn new(ca: Ca, gateways: Vec<String>, hubs: &[String], is_hub: F) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let private_key = PrivateKeyDer::try_from(key.serialize_der())?;
        let signing_key = aws_lc_rs::sign::any_supported_type(&private_key).map_err(|error| error.to_string())?;
        let fixed: Vec<_> = NAMES.map(str::to_owned).into_iter().chain(gateways).collect();
        let mut hubs = host_names(hubs);
        hubs.truncate(MOST_HUBS);
        let certificate = certificate(&ca, &key, &signing_key, &fixed, &hubs).map_err(|error| error.to_string())?;
        Ok(Self { ca, key, signing_key, fixed, is_hub, current: Mutex::new(Current { hubs, certificate }) })
    }
}

fn certificate(
    ca: &Ca,
    key: &KeyPair,
    signing_key: &Arc<dyn SigningKey>,
    fixed: &[String],
    hubs: &[String],
) -> Result<Arc<CertifiedKey>, rcgen::Error> {
    let mut names = fixed.to_vec();
    names.extend(hubs.iter().filter(|hub| !fixed.contains(hub)).cloned());
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "azure-dps-emulator");
    (server.not_before, server.not_after) = validity();
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = ca.sign(&server, key)?;
    Ok(Arc::new(CertifiedKey::new(vec![server.der().clone()], Arc::clone(signing_key))))
}

impl<F: Fn(&str) -> bool + Send + Sync> ResolvesServerCert for HubNames<F> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = hello.server_name() {
            let is_there = [&self.fixed, &current.hubs].iter().any(|names| names.iter().any(|known| known == name));
            if !is_there && (self.is_hub)(name) {
                let kept = if current.hubs.len() < MOST_HUBS { current.hubs.as_slice() } else { &[] };
                let hubs: Vec<_> = kept.iter().cloned().chain([name.to_owned()]).collect();
                if let Ok(certificate) = certificate(&self.ca, &self.key, &self.signing_key, &self.fixed, &hubs) {
                    *current = Current { hubs, certificate };
                }
            }
        }
        Some(Arc::clone(&current.certificate))
    }
}

impl<F> fmt::Debug for HubNames<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubNames").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}
