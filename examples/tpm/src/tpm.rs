//! The machine's TPM, through Linux's TPM software stack. Copy this file.

use std::fmt;

use azure_dps::identity::{
    SIGNATURE_LEN, Sign, SignError,
    tpm::{AuthenticationKey, EncryptedKey, TpmError, TpmKeys},
};
use tss_esapi::{
    Context, Error, WrapperErrorKind,
    abstraction::ek::create_ek_public_from_default_template,
    attributes::ObjectAttributesBuilder,
    constants::{CapabilityType, SessionType},
    handles::{AuthHandle, KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::{AsymmetricAlgorithm, HashingAlgorithm, PublicAlgorithm},
        dynamic_handles::Persistent,
        key_bits::RsaKeyBits,
        resource_handles::{Hierarchy, Provision},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        CapabilityData, Data, Digest, EncryptedSecret, IdObject, MaxBuffer, Nonce, Private, Public, PublicBuilder,
        PublicKeyRsa, PublicRsaParametersBuilder, RsaExponent, RsaScheme, SymmetricDefinition,
        SymmetricDefinitionObject,
    },
    tcti_ldr::TctiNameConf,
    traits::{Marshall, UnMarshall},
};

/// The handles that the TCG reserves for these keys. Microsoft's C SDK uses them too.
const ENDORSEMENT_KEY: u32 = 0x8101_0001;
const STORAGE_ROOT_KEY: u32 = 0x8100_0001;
/// The handle at which Microsoft's C SDK keeps the key for the hub.
pub const IDENTITY_KEY: u32 = 0x8100_0100;

pub struct MachineTpm {
    context: Context,
    endorsement_key: PrimaryKey,
    storage_root_key: PrimaryKey,
    /// The last activated key. It is transient: a restart removes it.
    identity_key: Option<KeyHandle>,
    /// The TPM's last error.
    refusal: Option<Error>,
}

impl MachineTpm {
    /// Finds the TPM's two keys, and creates the missing ones.
    pub fn open(tcti: TctiNameConf) -> Result<Self, Unusable> {
        let mut context = Context::new(tcti)?;
        let template = create_ek_public_from_default_template(AsymmetricAlgorithm::Rsa, None)?;
        let endorsement_key = PrimaryKey::find(&mut context, ENDORSEMENT_KEY, Hierarchy::Endorsement, template)?;
        let template = storage_root_key_template()?;
        let storage_root_key = PrimaryKey::find(&mut context, STORAGE_ROOT_KEY, Hierarchy::Owner, template)?;
        Ok(Self { context, endorsement_key, storage_root_key, identity_key: None, refusal: None })
    }

    /// Returns copies of the public parts of the TPM's two keys. The TPM itself is borrowed during a run.
    pub fn public_keys(&self) -> PublicKeys {
        PublicKeys {
            endorsement_key: self.endorsement_key.public.clone(),
            storage_root_key: self.storage_root_key.public.clone(),
        }
    }

    /// Makes the last activated key persistent, and removes the earlier one.
    pub fn keep_key(&mut self) -> Result<(), Error> {
        let key = self.identity_key()?;
        if let Some(old) = find(&mut self.context, IDENTITY_KEY)? {
            evict_control(&mut self.context, old, IDENTITY_KEY)?;
        }
        evict_control(&mut self.context, key.into(), IDENTITY_KEY)?;
        Ok(())
    }

    /// Returns the TPM's last error.
    pub fn refusal(&self) -> Option<Error> {
        self.refusal
    }

    fn identity_key(&self) -> Result<KeyHandle, Error> {
        self.identity_key.ok_or(Error::WrapperError(WrapperErrorKind::ParamsMissing))
    }

    fn take_in(&mut self, key: &EncryptedKey<'_>) -> Result<(), Error> {
        // A TPM has space for three transient keys.
        if let Some(last) = self.identity_key.take() {
            self.context.flush_context(last.into())?;
        }
        let inner_key = self.activate_credential(key)?;
        self.identity_key = Some(self.import(key, &inner_key)?);
        Ok(())
    }

    /// Decrypts the inner key. Only the TPM with both keys can do this.
    fn activate_credential(&mut self, key: &EncryptedKey<'_>) -> Result<Digest, Error> {
        let (endorsement_key, storage_root_key) = (self.endorsement_key.handle, self.storage_root_key.handle);
        let credential = IdObject::try_from(key.id_object)?;
        let secret = EncryptedSecret::try_from(key.encrypted_secret)?;

        let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        let session = self.context.start_auth_session(None, None, None, SessionType::Policy, cipher, hash)?;
        let session = session.ok_or(Error::WrapperError(WrapperErrorKind::WrongValueFromTpm))?;
        let handle = SessionHandle::from(session).into();
        self.context.execute_with_temporary_object(handle, |context, _| {
            // The authorization of the endorsement hierarchy is also that of its key.
            let policy = PolicySession::try_from(session)?;
            context.execute_with_session(Some(AuthSession::Password), |context| {
                let nothing = (Nonce::default(), Digest::default(), Nonce::default());
                context.policy_secret(policy, AuthHandle::Endorsement, nothing.0, nothing.1, nothing.2, None)
            })?;
            let sessions = (Some(AuthSession::Password), Some(session), None);
            context.execute_with_sessions(sessions, |context| {
                context.activate_credential(storage_root_key, endorsement_key, credential, secret)
            })
        })
    }

    /// Imports and loads the key, as a child of the storage root key.
    fn import(&mut self, key: &EncryptedKey<'_>, inner_key: &Digest) -> Result<KeyHandle, Error> {
        let parent = self.storage_root_key.handle;
        let public = Public::unmarshall(key.public)?;
        let inner_key = Data::try_from(inner_key.value())?;
        let duplicate = Private::try_from(key.duplicate)?;
        let seed = EncryptedSecret::try_from(key.import_seed)?;
        self.context.execute_with_session(Some(AuthSession::Password), |context| {
            let cipher = SymmetricDefinitionObject::AES_128_CFB;
            let private = context.import(parent.into(), Some(inner_key), public.clone(), duplicate, seed, cipher)?;
            context.load(parent, private, public)
        })
    }

    fn hmac(&mut self, message: &[u8]) -> Result<Digest, Error> {
        let key = self.identity_key()?.into();
        let message = MaxBuffer::try_from(message)?;
        self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.hmac(key, message, HashingAlgorithm::Sha256)
        })
    }
}

/// The TPM's public keys, which the device sends to the service.
pub struct PublicKeys {
    pub endorsement_key: Vec<u8>,
    storage_root_key: Vec<u8>,
}

impl PublicKeys {
    pub fn as_tpm_keys(&self) -> TpmKeys<'_> {
        TpmKeys { endorsement_key: &self.endorsement_key, storage_root_key: &self.storage_root_key }
    }
}

impl Sign for MachineTpm {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        let hmac = self.hmac(message).map_err(|error| {
            self.refusal = Some(error);
            SignError::new("the TPM refused to sign")
        })?;
        *signature = hmac.value().try_into().map_err(|_| SignError::new("a signature of another length"))?;
        Ok(())
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let mut buffer = [0; 2048];
        let key = key.decode(&mut buffer)?;
        self.take_in(&key).map_err(|error| {
            self.refusal = Some(error);
            TpmError::new("the TPM refused the key")
        })
    }
}

/// Why the TPM cannot be used.
pub enum Unusable {
    Refused(Error),
    /// The key at this handle is not an RSA key. Some Linux distributions put an ECC key there. Microsoft's clients send
    /// RSA keys, and no document says that the service accepts others.
    NotRsa(u32),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NotRsa(place) => write!(f, "its key at {place:#x} is not an RSA key"),
        }
    }
}

/// A persistent key of the TPM.
struct PrimaryKey {
    handle: KeyHandle,
    /// The marshalled TPM2B_PUBLIC.
    public: Vec<u8>,
}

impl PrimaryKey {
    fn find(context: &mut Context, place: u32, hierarchy: Hierarchy, template: Public) -> Result<Self, Unusable> {
        let handle = match find(context, place)? {
            Some(handle) => handle,
            None => {
                let key = context.execute_with_session(Some(AuthSession::Password), |context| {
                    context.create_primary(hierarchy, template, None, None, None, None)
                })?;
                context.execute_with_temporary_object(key.key_handle.into(), |context, key| {
                    evict_control(context, key, place)
                })?
            }
        };
        let handle = handle.into();
        let (public, ..) = context.read_public(handle)?;
        if !matches!(public, Public::Rsa { .. }) {
            return Err(Unusable::NotRsa(place));
        }
        let area = public.marshall()?;
        let length = u16::try_from(area.len()).map_err(|_| Error::WrapperError(WrapperErrorKind::WrongParamSize))?;
        Ok(Self { handle, public: [&length.to_be_bytes(), &*area].concat() })
    }
}

/// Returns the template of Microsoft's C SDK, so that both programs have the same key.
fn storage_root_key_template() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicRsaParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_scheme(RsaScheme::Null)
        .with_key_bits(RsaKeyBits::Rsa2048)
        .with_exponent(RsaExponent::default())
        .with_is_decryption_key(true)
        .with_restricted(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_rsa_parameters(parameters)
        .with_rsa_unique_identifier(PublicKeyRsa::default())
        .build()
}

/// Returns the object at this handle. Reading the handle directly is shorter, but then the stack logs an error if there is
/// no object.
fn find(context: &mut Context, place: u32) -> Result<Option<ObjectHandle>, Error> {
    let place = TpmHandle::Persistent(PersistentTpmHandle::new(place)?);
    match context.get_capability(CapabilityType::Handles, place.into(), 1)?.0 {
        CapabilityData::Handles(handles) if handles.first() == Some(&place) => {
            context.tr_from_tpm_public(place).map(Some)
        }
        _ => Ok(None),
    }
}

/// Makes an object persistent, or removes a persistent one.
fn evict_control(context: &mut Context, object: ObjectHandle, place: u32) -> Result<ObjectHandle, Error> {
    let place = Persistent::Persistent(PersistentTpmHandle::new(place)?);
    context.execute_with_session(Some(AuthSession::Password), |context| {
        context.evict_control(Provision::Owner, object, place)
    })
}
