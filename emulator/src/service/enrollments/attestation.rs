//! The attestation of an enrollment as a client of the service API writes it: keys, certificates or a TPM.

use serde::Deserialize;

use crate::{
    config::{CaReferences, TpmAttestation, X509Attestation, enrollments::Attestation as Stored},
    identity::{certificate::Certificate, key::SymmetricKey, tpm::EndorsementKey},
    service::{
        error::ServiceError,
        json_body::{bad_member, object},
    },
    store::enrollments::Kind,
};

/// `AttestationMechanism`. It has no `Debug`, because it holds keys.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttestationInput {
    r#type: Option<String>,
    #[serde(default, deserialize_with = "object")]
    symmetric_key: Option<SymmetricKeyInput>,
    #[serde(default, deserialize_with = "object")]
    x509: Option<X509Input>,
    #[serde(default, deserialize_with = "object")]
    tpm: Option<TpmInput>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyInput {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct X509Input {
    #[serde(default, deserialize_with = "object")]
    client_certificates: Option<CertificatesInput>,
    #[serde(default, deserialize_with = "object")]
    signing_certificates: Option<CertificatesInput>,
    #[serde(default, deserialize_with = "object")]
    ca_references: Option<CaReferencesInput>,
}

#[derive(Default, Deserialize)]
struct CertificatesInput {
    #[serde(default, deserialize_with = "object")]
    primary: Option<CertificateInput>,
    #[serde(default, deserialize_with = "object")]
    secondary: Option<CertificateInput>,
}

/// `X509CertificateWithInfo`.
#[derive(Deserialize)]
struct CertificateInput {
    certificate: Option<String>,
    #[serde(default, deserialize_with = "object")]
    info: Option<InfoInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfoInput {
    sha256_thumbprint: Option<String>,
}

#[derive(Deserialize)]
struct CaReferencesInput {
    primary: Option<String>,
    secondary: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TpmInput {
    endorsement_key: Option<String>,
    storage_root_key: Option<String>,
}

/// The attestation of an enrollment that is created or changed.
#[derive(Debug)]
pub(super) enum Attestation {
    SymmetricKey { primary: SymmetricKey, secondary: Option<SymmetricKey> },
    X509(X509Attestation),
    CaReferences(CaReferences),
    Tpm(TpmAttestation),
}

impl AttestationInput {
    /// Reads the attestation. Keys and certificates that the client does not send stay as in `stored`. Missing keys
    /// are created.
    pub(super) fn read(self, kind: Kind, stored: Option<Stored<'_>>) -> Result<Attestation, ServiceError> {
        let expected = match kind {
            Kind::Group => "symmetricKey or x509 is expected",
            Kind::Individual => "symmetricKey, x509 or tpm is expected",
        };
        match self.r#type.unwrap_or_default().to_ascii_lowercase().as_str() {
            "symmetrickey" => self.symmetric_key.unwrap_or_default().read(stored),
            "x509" => self.x509.unwrap_or_default().read(kind, stored),
            "tpm" if kind == Kind::Individual => self.tpm.unwrap_or_default().read(),
            _ => Err(bad_member("attestation.type", expected)),
        }
    }
}

impl SymmetricKeyInput {
    fn read(self, stored: Option<Stored<'_>>) -> Result<Attestation, ServiceError> {
        let given = |key: Option<String>, name: &str| {
            key.filter(|key| !key.is_empty())
                .map(|key| SymmetricKey::from_base64(&key))
                .transpose()
                .map_err(|fault| bad_member(&format!("attestation.symmetricKey.{name}"), fault))
        };
        let (primary, secondary) = (given(self.primary_key, "primaryKey")?, given(self.secondary_key, "secondaryKey")?);
        let made = || SymmetricKey::random().ok_or_else(|| ServiceError::internal("the system has no random numbers"));
        let (primary, secondary) = match stored {
            Some(Stored::SymmetricKey { primary: stored_primary, secondary: stored_secondary }) => {
                (primary.unwrap_or_else(|| stored_primary.clone()), secondary.or_else(|| stored_secondary.cloned()))
            }
            _ => (primary.map_or_else(made, Ok)?, Some(secondary.map_or_else(made, Ok)?)),
        };
        Ok(Attestation::SymmetricKey { primary, secondary })
    }
}

impl X509Input {
    fn read(self, kind: Kind, stored: Option<Stored<'_>>) -> Result<Attestation, ServiceError> {
        let references = self.ca_references.and_then(|references| Some((references.primary?, references.secondary)));
        let (certificates, member) = match kind {
            Kind::Group => (self.signing_certificates, "attestation.x509.signingCertificates"),
            Kind::Individual => (self.client_certificates, "attestation.x509.clientCertificates"),
        };
        match (kind, certificates.filter(|certificates| certificates.primary.is_some()), references) {
            (_, Some(certificates), None) => certificates.read(member, stored).map(Attestation::X509),
            (Kind::Group, None, Some((primary, secondary))) => {
                Ok(Attestation::CaReferences(CaReferences { primary, secondary }))
            }
            (Kind::Group, Some(_), Some(_)) => {
                Err(bad_member("attestation.x509", "give signingCertificates or caReferences, not both"))
            }
            (Kind::Group, None, None) => Err(bad_member(
                "attestation.x509",
                "a group needs signingCertificates or caReferences, with a primary one",
            )),
            (Kind::Individual, _, _) => Err(bad_member(
                "attestation.x509",
                "an individual enrollment needs clientCertificates, with a primary one",
            )),
        }
    }
}

impl CertificatesInput {
    fn read(self, member: &str, stored: Option<Stored<'_>>) -> Result<X509Attestation, ServiceError> {
        let stored: Vec<_> = match stored {
            Some(Stored::X509(stored)) => stored.certificates().collect(),
            _ => Vec::new(),
        };
        let read = |input: CertificateInput, name: &str| input.read(&format!("{member}.{name}"), &stored);
        let primary = self.primary.map(|primary| read(primary, "primary")).transpose()?.flatten();
        let primary = primary.ok_or_else(|| bad_member(&format!("{member}.primary.certificate"), "it is missing"))?;
        let secondary = self.secondary.map(|secondary| read(secondary, "secondary")).transpose()?.flatten();
        Ok(X509Attestation { primary, secondary })
    }
}

impl CertificateInput {
    /// Reads a certificate. If the client sends only the `info` of a certificate, it means the stored one.
    fn read(self, member: &str, stored: &[&Certificate]) -> Result<Option<Certificate>, ServiceError> {
        if let Some(text) = self.certificate.filter(|text| !text.trim().is_empty()) {
            let certificate = Certificate::from_text(&text);
            return certificate.map(Some).map_err(|fault| bad_member(&format!("{member}.certificate"), fault));
        }
        let Some(thumbprint) = self.info.and_then(|info| info.sha256_thumbprint) else { return Ok(None) };
        let is_meant =
            |certificate: &&&Certificate| certificate.info().sha256_thumbprint().eq_ignore_ascii_case(&thumbprint);
        match stored.iter().find(is_meant) {
            Some(certificate) => Ok(Some((*certificate).clone())),
            None => {
                let why = "it is missing, and info fits no stored certificate";
                Err(bad_member(&format!("{member}.certificate"), why))
            }
        }
    }
}

impl TpmInput {
    fn read(self) -> Result<Attestation, ServiceError> {
        let endorsement_key = EndorsementKey::from_base64(&self.endorsement_key.unwrap_or_default())
            .map_err(|fault| bad_member("attestation.tpm.endorsementKey", fault))?;
        let storage_root_key = self.storage_root_key.filter(|key| !key.is_empty());
        Ok(Attestation::Tpm(TpmAttestation { endorsement_key, storage_root_key }))
    }
}
