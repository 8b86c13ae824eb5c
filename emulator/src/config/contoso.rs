//! How the function of Microsoft's tutorial behaves.

use std::{fmt, num::NonZeroU32};

use serde::Deserialize;

/// What the function does beyond the tutorial's.
#[derive(Clone, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ContosoOptions {
    /// Returns the concept document's payload, `{"property1":"value1"}`, to the device.
    pub return_payload: bool,
    /// Looks for the model in the device's payload, not in the registration ID: in `deviceModel`,
    /// or else in `modelId`, the substring `contoso-tstrsd-007` or `contoso-hpsd-088`. The
    /// tutorial names this as the other way: "This could also be used to pass the device type
    /// instead of examining the registration ID."
    pub by_model: bool,
    /// The key without which the function answers 401: as `?code=…`, or in the header
    /// `x-functions-key`.
    pub function_key: Option<String>,
    /// Answers every so many-th call with 429 and nothing else, upon which the service calls again.
    pub throttle_every: Option<NonZeroU32>,
}

impl fmt::Debug for ContosoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContosoOptions")
            .field("return_payload", &self.return_payload)
            .field("by_model", &self.by_model)
            .field("function_key", &self.function_key.as_ref().map(|_| "****"))
            .field("throttle_every", &self.throttle_every)
            .finish()
    }
}
