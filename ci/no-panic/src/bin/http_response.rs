//! `http::ResponseReader`.

#![no_std]
#![no_main]

use azure_dps::http::ResponseReader;
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    let mut reader = ResponseReader::new();
    for _ in 0..number() {
        used(reader.space(room).is_ok());
        used(reader.is_untouched());
        if let Ok(Some(response)) = reader.received(room, number()) {
            used(response.answer(room));
        }
    }
}
