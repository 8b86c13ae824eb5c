//! What a door hands to the service.

use rustls::pki_types::CertificateDer;

/// One request, whatever carried it.
pub(crate) struct DeviceRequest<'a> {
    pub(crate) id_scope: &'a str,
    pub(crate) registration_id: &'a str,
    pub(crate) credentials: Credentials<'a>,
    pub(crate) api_version: &'a str,
    pub(crate) body: &'a [u8],
}

/// What a device shows to be let in.
pub(crate) struct Credentials<'a> {
    /// A SAS token.
    pub(crate) authorization: Option<&'a str>,
    /// The certificates of its TLS session, the device's own first.
    pub(crate) certificates: &'a [CertificateDer<'static>],
    /// When it showed them: seconds since 1970.
    pub(crate) shown_at: u64,
    pub(crate) carrier: Carrier,
}

/// The protocols, as far as they make a difference to who is let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    Http,
    Mqtt,
}

/// Which part of a query's result a client of the service API wants.
pub(crate) struct Page {
    /// The most items.
    pub(crate) max_items: Option<usize>,
    /// What the part before ended with.
    pub(crate) continuation: Option<String>,
}

/// A part of a query's result.
pub(crate) struct QueryPage {
    /// A JSON array.
    pub(crate) body: String,
    /// What the client sends to get the next part. `None`: there is no more.
    pub(crate) continuation: Option<String>,
}
