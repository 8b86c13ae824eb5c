//! What a script does to the connection that carries an answer.

use crate::{net::fault::Fault, service::script::Action};

/// Prepares the connection for what a script does to the next answer. Returns `true` if the peer gets no answer at
/// all.
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
