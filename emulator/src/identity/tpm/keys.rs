//! The public keys of a TPM, as devices and enrollments have them.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    digest,
    error::Unspecified,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::RsaPublicKeyComponents,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::identity::error::CredentialError;

// TPM_ALG_ID
const RSA: u16 = 0x0001;
const AES: u16 = 0x0006;
pub(super) const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const CFB: u16 = 0x0043;

/// fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt: the key was created in its TPM, never leaves it,
/// and decrypts only TPM objects.
const STORAGE_ATTRIBUTES: u32 = 0x0003_0032;

/// The public part of a TPM's endorsement key. An individual enrollment identifies the TPM by this key.
#[derive(Clone, PartialEq)]
pub struct EndorsementKey(pub(super) StorageKey);

impl EndorsementKey {
    /// Reads the key in the form that TPM tools and the portal show: base64 of the marshalled TPM2B_PUBLIC.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not an RSA key of 2048 bits with the TCG's template.
    pub fn from_base64(text: &str) -> Result<Self, CredentialError> {
        StorageKey::from_base64(text)
            .map(Self)
            .map_err(|fault| CredentialError(format!("an endorsement key cannot be used: {fault}")))
    }
}

impl FromStr for EndorsementKey {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        Self::from_base64(text)
    }
}

impl fmt::Debug for EndorsementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndorsementKey").field(&self.0.to_base64()).finish()
    }
}

impl Serialize for EndorsementKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EndorsementKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The public area of a TPM's endorsement key or storage root key.
#[derive(Clone)]
pub(crate) struct StorageKey {
    /// The marshalled TPM2B_PUBLIC.
    public: Vec<u8>,
    pub(super) name: Vec<u8>,
    rsa: PublicEncryptingKey,
}

impl StorageKey {
    /// Reads base64 of a marshalled TPM2B_PUBLIC.
    pub(crate) fn from_base64(text: &str) -> Result<Self, KeyFault> {
        Self::parse(BASE64_STANDARD.decode(text).map_err(|_| KeyFault::NotBase64)?)
    }

    pub(super) fn parse(public: Vec<u8>) -> Result<Self, KeyFault> {
        let mut outer = Reader(&public);
        let area = outer.sized()?;
        outer.end()?;

        let mut reader = Reader(area);
        if reader.u16()? != RSA {
            return Err(KeyFault::NotRsa2048);
        }
        // Everything that is encrypted for a key uses the hash algorithm of its name.
        if reader.u16()? != SHA256 {
            return Err(KeyFault::NotSha256);
        }
        if reader.u32()? & STORAGE_ATTRIBUTES != STORAGE_ATTRIBUTES {
            return Err(KeyFault::NotStorage);
        }
        let _authorization_policy = reader.sized()?;
        let symmetric = (reader.u16()?, reader.u16()?, reader.u16()?);
        let scheme = reader.u16()?;
        if (symmetric, scheme) != ((AES, 128, CFB), NULL) {
            return Err(KeyFault::NotAes128);
        }
        let (bits, exponent, modulus) = (reader.u16()?, reader.u32()?, reader.sized()?);
        reader.end()?;
        // "When zero, indicates that the exponent is the default of 2^16 + 1."
        if bits != 2048 || !matches!(exponent, 0 | 65_537) || modulus.len() != 256 {
            return Err(KeyFault::NotRsa2048);
        }
        let rsa = RsaPublicKeyComponents { n: modulus, e: [1, 0, 1].as_slice() };
        let rsa = rsa.try_into().map_err(|Unspecified| KeyFault::NotRsa2048)?;
        Ok(Self { name: name_of(area), rsa, public })
    }

    fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.public)
    }

    /// Encrypts a secret for this key and one purpose. The purpose includes its final NUL.
    pub(super) fn encrypt(&self, secret: &[u8], purpose: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let key = OaepPublicEncryptingKey::new(self.rsa.clone())?;
        let mut encrypted = vec![0; key.ciphertext_size()];
        key.encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut encrypted, Some(purpose))?;
        Ok(encrypted)
    }
}

impl PartialEq for StorageKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for StorageKey {}

impl Serialize for StorageKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for StorageKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

/// Why a text is not a key that can encrypt for a TPM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyFault {
    NotBase64,
    /// The text ends too early or too late.
    NotPublic,
    NotRsa2048,
    NotSha256,
    NotStorage,
    NotAes128,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBase64 => "it is not base64",
            Self::NotPublic => "it is not one whole TPM2B_PUBLIC",
            Self::NotRsa2048 => "it is not an RSA key of 2048 bits with the exponent 65537",
            Self::NotSha256 => "its name algorithm is not SHA-256",
            Self::NotStorage => "it is not a restricted decryption key that was made in its TPM and stays there",
            Self::NotAes128 => "its children are not protected by AES-128 in CFB mode",
        })
    }
}

/// The bytes that have not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], KeyFault> {
        let (array, rest) = self.0.split_first_chunk().ok_or(KeyFault::NotPublic)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u16(&mut self) -> Result<u16, KeyFault> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, KeyFault> {
        self.array().map(u32::from_be_bytes)
    }

    fn sized(&mut self) -> Result<&'a [u8], KeyFault> {
        let length = self.u16()?;
        let (content, rest) = self.0.split_at_checked(length.into()).ok_or(KeyFault::NotPublic)?;
        self.0 = rest;
        Ok(content)
    }

    fn end(&self) -> Result<(), KeyFault> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyFault::NotPublic) }
    }
}

/// Returns the name of a public area: the algorithm and the digest.
pub(super) fn name_of(area: &[u8]) -> Vec<u8> {
    [&SHA256.to_be_bytes(), digest::digest(&digest::SHA256, area).as_ref()].concat()
}
