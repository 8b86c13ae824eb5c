#[cfg(not(feature = "tpm"))]
use core::{convert::Infallible, marker::PhantomData};

use crate::identity::tpm::TpmKeys;

/// How a device proves who it is.
///
/// ```
/// use azure_dps::Attestation;
///
/// let with_a_key = Attestation::symmetric_key();
/// let with_a_certificate = Attestation::x509();
/// ```
///
/// Source: [attestation mechanisms](https://learn.microsoft.com/azure/iot-dps/concepts-service#attestation-mechanism).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Attestation<'a>(Kind<'a>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
enum Kind<'a> {
    SymmetricKey,
    X509,
    #[cfg(feature = "tpm")]
    Tpm(TpmKeys<'a>),
    /// A variant without values: the compiler removes the code for TPMs.
    #[cfg(not(feature = "tpm"))]
    #[expect(dead_code, reason = "names the lifetime")]
    Tpm(Infallible, PhantomData<&'a ()>),
}

impl<'a> Attestation<'a> {
    /// Creates the attestation of a device with a symmetric key. A [`Sign`](crate::identity::Sign) signs the
    /// token of the run.
    pub const fn symmetric_key() -> Self {
        Self(Kind::SymmetricKey)
    }

    /// Creates the attestation of a device with an X.509 certificate.
    ///
    /// The caller's TLS stream presents the certificate. The run has no token. Pass
    /// [`NoKey`](crate::identity::NoKey) to a transport as the signer.
    pub const fn x509() -> Self {
        Self(Kind::X509)
    }

    /// Creates the attestation of a device with a TPM 2.0, for HTTP only. See
    /// [`tpm`](crate::identity::tpm).
    #[cfg(feature = "tpm")]
    pub const fn tpm(keys: TpmKeys<'a>) -> Self {
        Self(Kind::Tpm(keys))
    }

    pub(crate) const fn is_symmetric_key(&self) -> bool {
        matches!(self.0, Kind::SymmetricKey)
    }

    #[cfg(feature = "minreq")]
    pub(crate) const fn is_x509(&self) -> bool {
        matches!(self.0, Kind::X509)
    }

    pub(crate) const fn tpm_keys(&self) -> Option<TpmKeys<'a>> {
        match self.0 {
            #[cfg(feature = "tpm")]
            Kind::Tpm(keys) => Some(keys),
            _ => None,
        }
    }
}
