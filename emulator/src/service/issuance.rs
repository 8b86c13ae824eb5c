//! The CA that issues certificates to devices, and the certificate requests of devices.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber,
    SubjectPublicKeyInfo,
};
use uuid::Uuid;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use super::error::ServiceError;
use crate::{
    config::Behaviour,
    identity::{
        ca::{Ca, validity},
        certificate::{self, Certificate},
        error::CredentialError,
    },
};

/// A root, and its intermediate, which signs the certificates of devices.
pub(crate) struct IssuingCa {
    pub(super) root: Ca,
    pub(super) intermediate: Ca,
}

impl IssuingCa {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let root = Ca::root(ca("azure-dps-emulator issuing root", 1))?;
        let intermediate = Ca::under(ca("azure-dps-emulator issuing CA", 0), &root)?;
        Ok(Self { root, intermediate })
    }

    /// Returns the certificate of the intermediate, followed by that of the root.
    pub(crate) fn pem(&self) -> String {
        self.intermediate.pem().to_owned() + self.root.pem()
    }

    /// Returns the certificate of the intermediate.
    pub(crate) fn certificate(&self) -> Result<Certificate, CredentialError> {
        Certificate::from_pem(self.intermediate.pem())
    }

    /// Issues a certificate for a TLS client. Returns the chain from leaf to root, each certificate as base64 of its
    /// DER.
    pub(crate) fn issue(&self, request: &CertificateRequest) -> Result<Vec<String>, rcgen::Error> {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, &*request.registration_id);
        (leaf.not_before, leaf.not_after) = validity();
        // The default is derived from the key, but a device may send the same key again.
        leaf.serial_number = Some(SerialNumber::from_slice(Uuid::new_v4().as_bytes()));
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = self.intermediate.sign(&leaf, &request.key)?;
        Ok([leaf.der(), self.intermediate.der(), self.root.der()].map(|der| BASE64_STANDARD.encode(der)).to_vec())
    }
}

fn ca(name: &str, path_length: u8) -> CertificateParams {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, name);
    (ca.not_before, ca.not_after) = validity();
    ca.use_authority_key_identifier_extension = true;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca
}

/// The PKCS#10 request of a device: the key, with a proof that the device holds it. Everything else in the request is
/// ignored, such as a wish to be a CA.
pub(crate) struct CertificateRequest {
    registration_id: String,
    key: SubjectPublicKeyInfo,
}

impl CertificateRequest {
    /// Reads the device's request, if its enrollment has a policy for issuing certificates.
    pub(super) fn wanted(
        csr: Option<&str>,
        registration_id: &str,
        has_policy: bool,
        behaviour: &Behaviour,
    ) -> Result<Option<Self>, ServiceError> {
        match csr {
            Some(csr) if has_policy => Self::read(csr, registration_id).map(Some),
            Some(_) if !behaviour.ignore_csr_without_policy => {
                Err(ServiceError::bad_request("the enrollment has no policy for issuing certificates"))
            }
            _ => Ok(None),
        }
    }

    /// Reads the base64 of the request's DER.
    fn read(csr: &str, registration_id: &str) -> Result<Self, ServiceError> {
        let refused = |why: &str| ServiceError::bad_request(format!("the csr {why}"));
        let der = BASE64_STANDARD.decode(csr).map_err(|_| refused("is not base64 of DER"))?;
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(refused("is not a PKCS#10 request"));
        };
        request.verify_signature().map_err(|_| refused("is not signed with its own key"))?;
        let info = &request.certification_request_info;
        // "The subject's common name must be the registration ID."
        if !certificate::common_name(&info.subject).is_some_and(|name| name.eq_ignore_ascii_case(registration_id)) {
            return Err(refused("has another common name than the registration ID"));
        }
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|_| refused("has a key of a kind that is not supported"))?;
        Ok(Self { registration_id: registration_id.to_owned(), key })
    }
}
