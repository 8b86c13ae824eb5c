// Inline, all of it: what is compiled with the crate has a say in what the optimiser makes of the
// rest, also in programs that never call it.

use core::fmt;

use crate::{
    Assignment, BufferTooSmall, DeviceKey, Error, OwnedAssignment, Sign,
    json::Text,
    response::{is_device_id, split_hub},
    retry::fnv_1a,
    sas_token::{SCHEME, Signature},
    writer::{Writer, text},
};

/// The hub that a device was assigned to, and what its client connects with: user name, token
/// and connection string, written into the caller's buffer. The client is the caller's.
///
/// ```
/// use azure_dps::{DeviceKey, Hub, Sizes};
///
/// let hub = Hub::new("contoso-toasters-hub-1098.azure-devices.net", "breakroom499-contoso-tstrsd-007")?;
/// // … or `assignment.hub()`, `record.assignment().hub()`
///
/// // MQTT 3.1.1 over TLS:
/// assert_eq!((hub.host(), Hub::MQTT_PORT), ("contoso-toasters-hub-1098.azure-devices.net", 8883));
/// assert_eq!(hub.client_id().as_str(), Some("breakroom499-contoso-tstrsd-007"));
/// const SIZES: Sizes = Sizes::new("0ne00002193", "breakroom499-contoso-tstrsd-007");
/// let mut user_name = [0; SIZES.hub_user_name()];
/// assert_eq!(
///     hub.write_user_name(&mut user_name)?,
///     "contoso-toasters-hub-1098.azure-devices.net/breakroom499-contoso-tstrsd-007/?api-version=2021-04-12",
/// );
/// let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let mut password = [0; SIZES.hub_token()];
/// let in_an_hour = 1_700_003_600;
/// assert!(hub.write_token(&mut key, in_an_hour, &mut password)?.starts_with("SharedAccessSignature sr="));
///
/// // Any other client, such as one of Microsoft's SDKs:
/// let mut connection_string = [0; SIZES.hub_connection_string()];
/// assert!(hub.write_connection_string(&key, &mut connection_string)?.starts_with("HostName=contoso-"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: [using MQTT directly as a device](https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hub<'a> {
    /// Host and port, as the service names them.
    assigned_hub: &'a str,
    host: &'a str,
    port: Option<u16>,
    device_id: Text<'a>,
    api_version: &'a str,
    device_client_type: &'a str,
}

impl<'a> Hub<'a> {
    /// The port of MQTT over TLS. (MQTT over WebSocket has 443.)
    pub const MQTT_PORT: u16 = 8883;

    /// Creates a hub from an assigned hub and a device ID that were kept somewhere. Both are checked
    /// as those of a fresh answer are.
    ///
    /// `assigned_hub` is a host name, perhaps with `:` and a port:
    ///
    /// ```
    /// use azure_dps::Hub;
    ///
    /// let hub = Hub::new("localhost:8443", "dev-1")?;
    /// assert_eq!((hub.host(), hub.port()), ("localhost", Some(8443)));
    /// # Ok::<(), azure_dps::InvalidHub>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidHub`] says which of the two cannot be one.
    ///
    /// Source: [device identity properties](https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties).
    #[inline]
    pub fn new(assigned_hub: &'a str, device_id: &'a str) -> Result<Self, InvalidHub> {
        if split_hub(assigned_hub.as_bytes()).is_none() {
            return Err(InvalidHub::Host);
        }
        // What was kept is no JSON: a backslash is one, and no character of an ID.
        let device_id = Text::plain(device_id);
        if device_id.as_str().is_none() || !is_device_id(device_id) {
            return Err(InvalidHub::DeviceId);
        }
        Ok(Self::checked(assigned_hub, device_id))
    }

    #[inline]
    fn checked(assigned_hub: &'a str, device_id: Text<'a>) -> Self {
        let (host, port) = split_hub(assigned_hub.as_bytes()).unwrap_or_default();
        let host = assigned_hub.get(..host.len()).unwrap_or_default();
        Self { assigned_hub, host, port, device_id, api_version: "2021-04-12", device_client_type: "" }
    }

    /// Another `api-version` of the hub in the user name than `2021-04-12`; percent-encoded.
    pub const fn with_api_version(mut self, api_version: &'a str) -> Self {
        self.api_version = api_version;
        self
    }

    /// What the client calls itself, its name and version, say: added to the user name as
    /// `DeviceClientType`, percent-encoded. Empty, as it is at first, adds nothing.
    pub const fn with_device_client_type(mut self, device_client_type: &'a str) -> Self {
        self.device_client_type = device_client_type;
        self
    }

    /// The host name without a port: what to resolve, and what the certificate must be for. User
    /// name and token have this name, too. Derive nothing from its shape.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The port, if the service names one, as mock services on the own machine do. A hub in Azure has
    /// none: its port is that of the protocol, such as [`MQTT_PORT`](Self::MQTT_PORT).
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The device ID: 1 to 128 characters of printable ASCII. [`Text::as_str`] is free of
    /// charge unless the service wrote it with JSON escapes; [`Text::copy_to`] always works.
    pub const fn device_id(&self) -> Text<'a> {
        self.device_id
    }

    /// The client identifier of MQTT's CONNECT: the device ID.
    pub const fn client_id(&self) -> Text<'a> {
        self.device_id
    }

    /// Writes the user name of MQTT's CONNECT into `buffer`, which must hold
    /// [`Sizes::hub_user_name`](crate::Sizes::hub_user_name) bytes.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    ///
    /// Source: [using MQTT directly as a device](https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub).
    #[inline]
    pub fn write_user_name<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b str, BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        writer.str(self.host);
        writer.byte(b'/');
        // As it is: the hub does not decode it.
        self.write_device_id(&mut writer);
        writer.str("/?api-version=");
        writer.percent(self.api_version.as_bytes());
        if !self.device_client_type.is_empty() {
            writer.str("&DeviceClientType=");
            writer.percent(self.device_client_type.as_bytes());
        }
        writer.finish().map(|user_name| text(user_name))
    }

    /// Signs a token for this device at this hub and writes it into `buffer`, which is also
    /// where it is signed: the password of MQTT's CONNECT, or the `Authorization` of a request.
    /// `buffer` must hold [`Sizes::hub_token`](crate::Sizes::hub_token) bytes.
    ///
    /// `expiry` is Unix time in seconds; the hub ends the session then. The token is a secret
    /// for as long as it is valid. `signer` holds the key that the device registered with
    /// (for a group, the derived one), or for TPM the key of the assignment.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with a size that suffices whatever the signature;
    /// [`Error::Signer`].
    ///
    /// Source: [SAS tokens of IoT Hub](https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas).
    #[inline]
    pub fn write_token<'b>(&self, signer: &mut dyn Sign, expiry: u64, buffer: &'b mut [u8]) -> Result<&'b str, Error> {
        let mut signature = Signature::new(expiry);
        let mut writer = Writer::new(buffer);
        writer.str(SCHEME);
        let signed = signature.sign_resource(signer, &mut writer, |writer| {
            writer.str(self.host);
            writer.str("%2Fdevices%2F");
            for character in self.device_id.chars() {
                writer.percent(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        });
        // The size first: a buffer that is too small to sign in is too small for the token.
        signature.write_signature(&mut writer);
        let token = writer.finish()?;
        signed?;
        Ok(text(token))
    }

    /// Writes the connection string that Microsoft's SDKs and tools take into `buffer`, which must
    /// hold [`Sizes::hub_connection_string`](crate::Sizes::hub_connection_string) bytes. It has the hub as
    /// the service names it, with a port if there is one.
    ///
    /// The key is in it: wipe the buffer afterwards, also after an error.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    ///
    /// Source: [IotHubConnectionStringBuilder](https://learn.microsoft.com/dotnet/api/microsoft.azure.devices.client.iothubconnectionstringbuilder).
    #[inline]
    pub fn write_connection_string<'b>(
        &self,
        key: &DeviceKey,
        buffer: &'b mut [u8],
    ) -> Result<&'b str, BufferTooSmall> {
        let mut writer = self.begin_connection_string(buffer);
        writer.str(";SharedAccessKey=");
        key.write(&mut writer);
        writer.finish().map(|connection_string| text(connection_string))
    }

    /// The same for a device whose TLS stream presents a client certificate, in
    /// [`Sizes::hub_x509_connection_string`](crate::Sizes::hub_x509_connection_string) bytes. Nothing in it
    /// is secret.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    #[inline]
    pub fn write_x509_connection_string<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b str, BufferTooSmall> {
        let mut writer = self.begin_connection_string(buffer);
        writer.str(";x509=true");
        writer.finish().map(|connection_string| text(connection_string))
    }

    // Neither a hub nor a device ID has a semicolon.
    #[inline]
    fn begin_connection_string<'b>(&self, buffer: &'b mut [u8]) -> Writer<'b> {
        let mut writer = Writer::new(buffer);
        writer.str("HostName=");
        writer.str(self.assigned_hub);
        writer.str(";DeviceId=");
        self.write_device_id(&mut writer);
        writer
    }

    #[inline]
    fn write_device_id(&self, writer: &mut Writer<'_>) {
        for character in self.device_id.chars() {
            writer.str(character.encode_utf8(&mut [0; 4]));
        }
    }

    /// Tells one hub and device ID from another.
    #[inline]
    pub(crate) fn fingerprint(&self) -> u32 {
        // A device ID is ASCII.
        let device_id = self.device_id.chars().map(|character| character as u8);
        fnv_1a(self.assigned_hub.bytes().chain([b'/']).chain(device_id))
    }
}

impl<'b> Assignment<'b> {
    /// The hub to connect to, and as whom.
    #[inline]
    pub fn hub(&self) -> Hub<'b> {
        Hub::checked(self.assigned_hub(), self.device_id())
    }
}

impl<const PAYLOAD: usize> OwnedAssignment<PAYLOAD> {
    /// The hub to connect to, and as whom.
    #[inline]
    pub fn hub(&self) -> Hub<'_> {
        Hub::checked(self.assigned_hub(), Text::plain(self.device_id()))
    }
}

/// Why two texts are not a hub and a device ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHub {
    /// The hub is not a host name of 1 to 253 letters, digits, `-` and `.`, with or without `:` and a
    /// port from 1 to 65535.
    Host,
    /// The device ID is not 1 to 128 of the characters that IoT Hub allows.
    DeviceId,
}

impl core::error::Error for InvalidHub {}

impl fmt::Display for InvalidHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidHub::Host => "the hub must be a host name (1 to 253 letters, digits, - .), with or without : and a port from 1 to 65535",
            InvalidHub::DeviceId => "the device ID must be 1 to 128 of the characters that IoT Hub allows",
        })
    }
}
