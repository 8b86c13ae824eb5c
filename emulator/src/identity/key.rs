//! Symmetric keys: the keys of enrollments, and the device keys that are derived from group keys.

use std::{fmt, str::FromStr};

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, de};
use sha2::Sha256;

use super::error::CredentialError;

/// A symmetric key of 16 to 64 bytes. It has no `Display`, and its `Debug` hides the key.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct SymmetricKey(Vec<u8>);

impl SymmetricKey {
    /// Reads a key in the form that the portal shows: base64.
    ///
    /// ```
    /// use azure_dps_emulator::SymmetricKey;
    ///
    /// assert!(SymmetricKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZg==").is_ok());
    /// assert!(SymmetricKey::from_base64("too short").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not base64 of 16 to 64 bytes.
    pub fn from_base64(text: &str) -> Result<Self, CredentialError> {
        let bytes =
            BASE64_STANDARD.decode(text).map_err(|_| CredentialError("a symmetric key is not base64".into()))?;
        if (16..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(CredentialError(format!("a symmetric key has {} bytes; 16 to 64 are allowed", bytes.len())))
        }
    }

    /// Creates a key as the service does: 64 random bytes. Returns `None` if the system has no random numbers.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = vec![0; 64];
        rand::fill(&mut bytes).ok().map(|()| Self(bytes))
    }

    /// Creates a key of 32 bytes, such as the key for a TPM.
    pub(super) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes.into())
    }

    /// Returns the key in the form that the portal shows.
    pub(crate) fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns `true` for the default, which means that there is no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for SymmetricKey {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        Self::from_base64(text)
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(****)")
    }
}

impl<'de> Deserialize<'de> for SymmetricKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Writes a key to disk as base64. Keys are written nowhere else, so `SymmetricKey` has no `Serialize`.
pub(crate) mod kept {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::SymmetricKey;

    pub(crate) fn serialize<S: Serializer>(key: &SymmetricKey, serializer: S) -> Result<S::Ok, S::Error> {
        key.to_base64().serialize(serializer)
    }

    /// Reads a key, which may be the default.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SymmetricKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(SymmetricKey::default());
        }
        SymmetricKey::from_base64(&text).map_err(de::Error::custom)
    }
}

/// Writes an optional key to disk.
pub(crate) mod kept_option {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{SymmetricKey, kept};

    pub(crate) fn serialize<S: Serializer>(key: &Option<SymmetricKey>, serializer: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => kept::serialize(key, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SymmetricKey>, D::Error> {
        // An existing key is never empty.
        Option::<SymmetricKey>::deserialize(deserializer)
    }
}

/// Derives a device key: the HMAC of the registration ID with the group key.
pub(crate) fn derive_device_key(group_key: &SymmetricKey, registration_id: &str) -> SymmetricKey {
    SymmetricKey(mac(group_key.bytes()).map_or_else(Vec::new, |mut mac| {
        mac.update(registration_id.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }))
}

/// Returns the HMAC for a key. HMAC accepts keys of any length, so `None` cannot happen. With `None`, no token is
/// accepted.
pub(super) fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tutorial's group key. It is public.
    const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";

    /// "device key = base64(HMAC-SHA256(base64decode(groupKey), registrationId))".
    #[test]
    fn device_keys_are_those_of_the_tutorial() {
        let group = SymmetricKey::from_base64(GROUP_KEY).unwrap();
        for (registration_id, key) in [
            ("breakroom499-contoso-tstrsd-007", "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs="),
            ("mainbuilding167-contoso-hpsd-088", "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg="),
        ] {
            let derived = derive_device_key(&group, registration_id);
            assert_eq!(derived.to_base64(), key);
        }
    }
}
