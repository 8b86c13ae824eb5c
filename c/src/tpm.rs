//! Attestation with a TPM: challenges, and the key for the hub.

use core::ffi::c_void;

use azure_dps::{
    Error,
    error::BufferTooSmall,
    identity::tpm::{AuthenticationKey, TpmError},
    json::Object,
};

use crate::{
    assignment::azure_dps_assignment,
    border::{
        Failure, azure_dps_bytes, azure_dps_str, buffer, bytes, enter, get, get_mut, outcome, put, put_if_wanted,
        structure,
    },
    client::{Client, Phase, azure_dps_client},
    error::{AZURE_DPS_ERR_BUFFER_TOO_SMALL, AZURE_DPS_ERR_NOT_FOUND, azure_dps_result},
    json::malformed,
    signer::{Signer, azure_dps_signer},
};

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `body` to `body_len` bytes, `challenge` to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_tpm_get_challenge(
    dps: *const azure_dps_client,
    body: *const c_void,
    body_len: usize,
    challenge: *mut azure_dps_str,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        client.check_phase(Phase::Activating)?;
        let found = client.provisioning.challenge(bytes(body, body_len)?).ok_or(Error::WrongBuffer)?;
        put(challenge, found.text().raw().into())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_tpm_on_activated(dps: *mut azure_dps_client) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_phase(Phase::Activating)?;
        client.provisioning.on_activated();
        client.phase = Phase::Started;
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `signer` to an `azure_dps_signer`, `body` to `body_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_tpm_activate(
    dps: *mut azure_dps_client,
    signer: *const azure_dps_signer,
    body: *const c_void,
    body_len: usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise. While the callback runs, the client is refused to everybody else.
    outcome(|| unsafe {
        let client = &mut *enter::<Client>(dps)?;
        client.check_phase(Phase::Activating)?;
        if signer.is_null() {
            return Err(Failure::ARGUMENT);
        }
        let mut signer = Signer::new(signer)?;
        client.provisioning.activate_with(&mut signer, bytes(body, body_len)?).map_err(|error| {
            client.io_error = signer.io_error;
            client.refuse(error)
        })?;
        client.phase = Phase::Started;
        Ok(())
    })
}

/// The parts of an encrypted key. See the header.
#[repr(C)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_tpm_encrypted_key {
    pub id_object: azure_dps_bytes,
    pub encrypted_secret: azure_dps_bytes,
    pub import_seed: azure_dps_bytes,
    pub duplicate: azure_dps_bytes,
    pub public_area: azure_dps_bytes,
    pub data: azure_dps_bytes,
}

/// See the header.
///
/// # Safety
/// `base64` is as many bytes as it says, `buffer` `size` others; `key` is NULL or points to its type; `needed` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_tpm_decode(
    base64: azure_dps_str,
    buffer: *mut c_void,
    size: usize,
    needed: *mut usize,
    key: *mut azure_dps_tpm_encrypted_key,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let base64 = base64.read()?;
        match AuthenticationKey::from_base64(base64).decode(self::buffer(buffer, size)?) {
            Ok(decoded) => put(
                key,
                azure_dps_tpm_encrypted_key {
                    id_object: decoded.id_object.into(),
                    encrypted_secret: decoded.encrypted_secret.into(),
                    import_seed: decoded.import_seed.into(),
                    duplicate: decoded.duplicate.into(),
                    public_area: decoded.public.into(),
                    data: decoded.data.into(),
                },
            ),
            Err(TpmError::BufferTooSmall(BufferTooSmall { needed: size, .. })) => {
                put_if_wanted(needed, size);
                Err(Failure::of(AZURE_DPS_ERR_BUFFER_TOO_SMALL))
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// See the header.
///
/// # Safety
/// `assignment` is NULL or points to an `azure_dps_assignment`, whose texts are as long as they say; `key` to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_tpm_get_authentication_key(
    assignment: *const azure_dps_assignment,
    key: *mut azure_dps_str,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let state = Object::parse(structure(assignment)?.registration_state.read()?).map_err(malformed)?;
        let found = AuthenticationKey::of_registration_state(state).ok_or(Failure::of(AZURE_DPS_ERR_NOT_FOUND))?;
        put(key, found.text().raw().into())
    })
}
