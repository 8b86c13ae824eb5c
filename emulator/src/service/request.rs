//! The requests that `doors` pass to the service.

use rustls::pki_types::CertificateDer;

/// A request of a device, from every protocol.
pub(crate) struct DeviceRequest<'a> {
    pub(crate) id_scope: &'a str,
    pub(crate) registration_id: &'a str,
    pub(crate) credentials: Credentials<'a>,
    pub(crate) api_version: &'a str,
    pub(crate) body: &'a [u8],
}

/// The credentials of a device.
pub(crate) struct Credentials<'a> {
    /// The SAS token.
    pub(crate) authorization: Option<&'a str>,
    /// The certificates of the TLS session, the device's own first.
    pub(crate) certificates: &'a [CertificateDer<'static>],
    /// When the device showed them, in seconds since 1970.
    pub(crate) shown_at: u64,
    pub(crate) carrier: Carrier,
}

/// The protocol of a request, as far as it matters for attestation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    Http,
    Mqtt,
}

/// Which part of a query's result a client of the service API wants.
pub(crate) struct Page {
    /// The most items in the page.
    pub(crate) max_items: Option<usize>,
    /// The continuation that the previous page returned.
    pub(crate) continuation: Option<String>,
}

/// A page of a query's result.
pub(crate) struct QueryPage {
    /// The items as a JSON array.
    pub(crate) body: String,
    /// The continuation for the next page. `None` on the last page.
    pub(crate) continuation: Option<String>,
}
