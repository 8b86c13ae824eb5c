//! The challenge: a new key. The TPM proves that it decrypted the key by signing with it.

use std::fmt;

use aws_lc_rs::error::Unspecified;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    activation::{authentication_key, random},
    keys::{EndorsementKey, StorageKey},
};
use crate::identity::key::SymmetricKey;

/// The two keys of a TPM that a device sends.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TpmKeys {
    pub(crate) endorsement_key: StorageKey,
    pub(crate) storage_root_key: StorageKey,
}

impl TpmKeys {
    /// Returns `true` if the TPM is the enrolled one.
    pub(crate) fn are_of(&self, endorsement_key: &EndorsementKey) -> bool {
        self.endorsement_key == endorsement_key.0
    }

    /// Creates a key, encrypted for this TPM: see [`authentication_key`].
    pub(crate) fn new_key(&self, resource: &str) -> Result<(IdentityKey, String), Unspecified> {
        let key = IdentityKey(random()?.into());
        let text = authentication_key(&self.endorsement_key, &self.storage_root_key, key.bytes(), resource)?;
        Ok((key, text))
    }
}

/// A key that the service creates for a TPM.
pub(crate) struct IdentityKey(Zeroizing<[u8; 32]>);

impl IdentityKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl From<IdentityKey> for SymmetricKey {
    fn from(key: IdentityKey) -> Self {
        Self::of_bytes(*key.0)
    }
}

/// Writes the key to disk as base64.
mod kept {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::IdentityKey;

    pub(super) fn serialize<S: Serializer>(key: &IdentityKey, serializer: S) -> Result<S::Ok, S::Error> {
        BASE64_STANDARD.encode(key.bytes()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IdentityKey, D::Error> {
        let bytes = BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| de::Error::custom("a TPM's key does not have 32 bytes"))?;
        Ok(IdentityKey(bytes.into()))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(****)")
    }
}

/// The last challenge of a TPM: the device has to sign with a key that only its TPM can decrypt.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Challenge {
    pub(crate) keys: TpmKeys,
    #[serde(with = "kept")]
    pub(crate) key: IdentityKey,
}
