//! The options of the Contoso webhook.

use std::{fmt, num::NonZeroU32};

use serde::Deserialize;

/// What the function does in addition to the tutorial's function.
#[derive(Clone, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ContosoOptions {
    /// Returns the concept document's payload, `{"property1":"value1"}`, to the device.
    pub return_payload: bool,
    /// Looks for the model in the device's payload instead of the registration ID: the substring `contoso-tstrsd-007`
    /// or `contoso-hpsd-088` in `deviceModel`, or else in `modelId`. The tutorial suggests this: "This could also be
    /// used to pass the device type instead of examining the registration ID."
    pub by_model: bool,
    /// The function key. Without it, in `?code=…` or in the header `x-functions-key`, the function answers 401.
    pub function_key: Option<String>,
    /// Answers every n-th call with 429 and an empty body. The service then repeats the call.
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
