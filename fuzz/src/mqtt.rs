//! MQTT packets, as the targets write and read them.

/// A packet of this kind, with its length put in.
pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    while length > 0x7f {
        packet.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend_from_slice(body);
    packet
}

/// Takes the first packet off, which a server sent: its kind and its body.
pub fn split_off<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&kind, mut rest) = bytes.split_first()?;
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let (&byte, others) = rest.split_first().unwrap();
        rest = others;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (body, rest) = rest.split_at(length);
    *bytes = rest;
    Some((kind, body))
}

/// A string and what follows it, as a server writes it.
pub fn string(bytes: &[u8]) -> (&str, &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (text, rest) = rest.split_at(u16::from_be_bytes(*length).into());
    (str::from_utf8(text).unwrap(), rest)
}
