//! Checks the token or certificate of a device at its hub.

use rustls::pki_types::CertificateDer;

use crate::{
    identity::{certificate::Certificate, device_certificate::DeviceCertificate, key::SymmetricKey, token::SasToken},
    store::hub_device::Authentication,
};

/// The credentials of a device, and the identity that they must prove.
pub(super) struct Shown<'a> {
    pub(super) hub: &'a str,
    pub(super) device_id: &'a str,
    /// The common name of the device's certificates.
    pub(super) registration_id: &'a str,
    /// The password, if it is not empty.
    pub(super) password: Option<&'a str>,
    pub(super) certificates: &'a [CertificateDer<'static>],
    pub(super) shown_at: u64,
    /// How many seconds after its expiry a token is still accepted.
    pub(super) leeway: u64,
}

impl Shown<'_> {
    /// Checks the credentials against the identity that DPS created at the hub. Returns when the token expires, if
    /// there is one. The error is for the log only.
    ///
    /// A token takes precedence over a certificate, as at DPS.
    pub(super) fn check(
        &self,
        authentication: &Authentication,
        issuing_ca: &Certificate,
    ) -> Result<Option<u64>, String> {
        match (self.password, self.certificates) {
            (Some(password), _) => self.check_token(password, authentication).map(Some),
            (None, [leaf, intermediates @ ..]) => {
                self.check_certificate(leaf, intermediates, authentication, issuing_ca).map(|()| None)
            }
            (None, []) => Err(match authentication {
                Authentication::Certificates(_) | Authentication::Authorities(_) => {
                    "the device sent no client certificate in the TLS handshake, but its enrollment has X.509: \
                     connect over TLS with the certificate"
                }
                Authentication::Keys { .. } | Authentication::Unknown => {
                    "there is no password: send the token for the hub. Only a device with a certificate needs none"
                }
            }
            .to_owned()),
        }
    }

    fn check_token(&self, password: &str, authentication: &Authentication) -> Result<u64, String> {
        let token = SasToken::parse(password).map_err(|fault| {
            format!("the password is not a token: {fault}. A token begins with SharedAccessSignature sr=")
        })?;
        let key_name = token.key_name().filter(|name| !name.is_empty());
        if key_name.as_deref() == Some("registration") {
            return Err(format!(
                "the token is for DPS (its skn is registration): sign one for the hub, with {}/devices/{} as sr and \
                 without skn",
                self.hub, self.device_id
            ));
        }
        // The log does not show the skn: a client may have put its key there.
        if key_name.is_some() {
            return Err(
                "the token names a policy (skn): tokens of policies are not emulated. Sign with the key of the \
                        device, without skn"
                    .to_owned(),
            );
        }
        token.check_device(self.hub, self.device_id)?;
        token
            .check_expiry(self.shown_at, self.leeway)
            .map_err(|fault| format!("{fault}: sign a new one, and check the clock of the device"))?;
        match authentication {
            Authentication::Keys { primary, secondary } => {
                let mut keys = std::iter::once(primary).chain(secondary).filter(|key| !key.is_empty());
                if keys.any(|key: &SymmetricKey| token.is_signed_by(key.bytes())) {
                    Ok(token.expiry())
                } else {
                    Err("the token is signed with neither key of the device. A device of a group has a key derived \
                         from its registration ID. If the enrollment's keys were changed, the hub has the new ones \
                         after the device registers with DPS again"
                        .to_owned())
                }
            }
            Authentication::Certificates(_) | Authentication::Authorities(_) => Err(
                "the device sent a token, but its enrollment has X.509: leave the password out, and connect over TLS \
                 with the certificate"
                    .to_owned(),
            ),
            Authentication::Unknown => Err(UNKNOWN.to_owned()),
        }
    }

    fn check_certificate(
        &self,
        leaf: &CertificateDer<'static>,
        intermediates: &[CertificateDer<'static>],
        authentication: &Authentication,
        issuing_ca: &Certificate,
    ) -> Result<(), String> {
        let device = DeviceCertificate::read(leaf, intermediates, self.registration_id, self.shown_at)?;
        let why = match authentication {
            Authentication::Certificates(own) if own.contains(device.certificate()) => return Ok(()),
            Authentication::Certificates(_) => "the certificate is not that of the enrollment".to_owned(),
            Authentication::Authorities(authorities) => match device.signer(authorities.iter()) {
                Ok(_) => return Ok(()),
                Err(Some(fault)) => format!("no CA of the enrollment signed the certificate: {fault}"),
                Err(None) => "the enrollment names no CA".to_owned(),
            },
            Authentication::Keys { .. } => {
                "the device sent a certificate and no password, but its enrollment has keys: send a token as the \
                 password"
                    .to_owned()
            }
            Authentication::Unknown => UNKNOWN.to_owned(),
        };
        // Certificates that DPS issued are accepted in addition to those of the enrollment.
        device.check_signed_by(issuing_ca).map_err(|_| format!("{why}, and DPS did not issue it"))
    }
}

/// The reason if the emulator did not keep the identity of the device.
const UNKNOWN: &str = "an earlier version of the emulator assigned the device, and did not keep its credentials: register \
                       with DPS again";
