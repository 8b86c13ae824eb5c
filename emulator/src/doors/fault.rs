//! Faults of scripts that break the connection of an answer.

use crate::{net::fault::Fault, service::script::Action};

/// Prepares the connection for the fault of a script. Returns `true` if the client gets no answer at all.
pub(super) fn breaks(action: &Action, fault: &Fault) -> bool {
    match action {
        Action::Cut(bytes) => {
            fault.cut_after(*bytes);
            *bytes == 0
        }
        Action::Raw(bytes) => {
            fault.replace_by(bytes.clone());
            true
        }
        _ => false,
    }
}
