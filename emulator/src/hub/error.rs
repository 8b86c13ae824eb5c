//! The reasons why a hub does not read or change a device.

use std::{error::Error, fmt};

use serde_json::json;

use crate::{clock::wall_time, identity::ids, store::shared::NotKept};

/// The reasons why a hub does not read or change a device.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HubError {
    /// No such device has registered.
    NoDevice,
    /// The device is at no hub: it was not assigned yet, or it was removed from its hub.
    NotAtHub,
    /// The change of the twin is not the JSON that it has to be.
    Json(String),
    /// The twin would exceed a limit of the hub.
    Limit(String),
    /// The emulator has no room for more twins.
    Full,
    /// The change could not be written to the data folder.
    NotKept(String),
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("no such device has registered"),
            Self::NotAtHub => f.write_str("the device is at no hub and has no twin"),
            Self::Json(why) | Self::Limit(why) | Self::NotKept(why) => f.write_str(why),
            Self::Full => f.write_str("the emulator has no room for more twins"),
        }
    }
}

impl Error for HubError {}

impl From<NotKept> for HubError {
    fn from(NotKept(why): NotKept) -> Self {
        Self::NotKept(why)
    }
}

impl HubError {
    /// Returns the status of the answer to a device.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::NoDevice | Self::NotAtHub => 404,
            Self::Json(_) | Self::Limit(_) => 400,
            Self::Full => 429,
            Self::NotKept(_) => 503,
        }
    }

    /// Returns the body of the answer to a device. Microsoft's client for Python uses the status, and the client for
    /// Node uses only the `errorCode`.
    pub(crate) fn body(&self) -> String {
        let code = match self {
            Self::NoDevice | Self::NotAtHub => 404_001,
            Self::Limit(_) => 400_004,
            Self::Json(_) => 400_006,
            Self::Full => 429_001,
            Self::NotKept(_) => 503_001,
        };
        let body = json!({
            "errorCode": code,
            "message": self.to_string(),
            "trackingId": ids::guid(),
            "timestampUtc": wall_time::now(),
            "info": null,
        });
        body.to_string()
    }
}
