//! Finds the environment variable that names a proxy for HTTPS.

use std::{env, ffi::OsString};

/// Returns the variable that names a proxy for HTTPS, and its value. An empty variable counts as unset.
pub(super) fn variable() -> Option<(&'static str, OsString)> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name, value));
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find_map(set)
}
