// Inline, all of it: what is compiled with the crate changes what the optimiser makes of the rest, also
// in programs that never call it.

use crate::{
    error::Error,
    identity::{
        DeviceKey, InvalidHub, SIGNATURE_LEN, Sign,
        hub_name::{is_device_id, split_hub},
        sas_token,
    },
    provisioning::{Assignment, OwnedAssignment, fnv_1a},
    text::{
        BufferTooSmall,
        writer::{Writer, text},
    },
};

/// The hub that a device was assigned to, and what its client connects with: user name, token
/// and connection string, written into the caller's buffer. The client is the caller's.
///
/// User name and token are those of a classic hub. If your device may meet another one, look at
/// [`Assignment::connection_profile`] first.
///
/// ```
/// use azure_dps::{DeviceKey, after::Hub, provisioning::Sizes};
///
/// let hub = Hub::new("contoso-toasters-hub-1098.azure-devices.net", "breakroom499-contoso-tstrsd-007")?;
/// // … or `assignment.hub()`, `record.assignment().hub()`
///
/// // MQTT 3.1.1 over TLS:
/// assert_eq!((hub.host(), Hub::MQTT_PORT), ("contoso-toasters-hub-1098.azure-devices.net", 8883));
/// assert_eq!(hub.client_id(), "breakroom499-contoso-tstrsd-007");
/// const SIZES: Sizes = Sizes::new("0ne00002193", "breakroom499-contoso-tstrsd-007");
/// let mut user_name = [0; SIZES.hub_user_name()];
/// assert_eq!(
///     hub.write_user_name(&mut user_name)?,
///     "contoso-toasters-hub-1098.azure-devices.net/breakroom499-contoso-tstrsd-007/?api-version=2021-04-12",
/// );
/// let mut key = DeviceKey::new();
/// key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
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
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Hub<'a> {
    /// Host and port, as the service names them.
    assigned_hub: &'a str,
    host: &'a str,
    port: Option<u16>,
    device_id: &'a str,
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
    /// use azure_dps::after::Hub;
    ///
    /// let hub = Hub::new("localhost:8443", "dev-1")?;
    /// assert_eq!((hub.host(), hub.port()), ("localhost", Some(8443)));
    /// # Ok::<(), azure_dps::Error>(())
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
        if !is_device_id(device_id.as_bytes()) {
            return Err(InvalidHub::DeviceId);
        }
        Ok(Self::checked(assigned_hub, device_id))
    }

    #[inline]
    fn checked(assigned_hub: &'a str, device_id: &'a str) -> Self {
        let (host, port) = split_hub(assigned_hub.as_bytes()).unwrap_or_default();
        let host = assigned_hub.get(..host.len()).unwrap_or_default();
        Self { assigned_hub, host, port, device_id, api_version: "2021-04-12", device_client_type: "" }
    }

    /// Sets the hub's `api-version` in the user name, percent-encoded; `2021-04-12` by default.
    pub const fn with_api_version(mut self, api_version: &'a str) -> Self {
        self.api_version = api_version;
        self
    }

    /// Sets what the client calls itself, such as its name and version. It is added to the user name as
    /// `DeviceClientType`, percent-encoded. An empty text, the default, adds nothing.
    pub const fn with_device_client_type(mut self, device_client_type: &'a str) -> Self {
        self.device_client_type = device_client_type;
        self
    }

    /// Returns the host name without a port: what to resolve, and what the certificate must be for. User
    /// name and token have this name, too, because the name of a hub in Azure has no port. So a service can
    /// not tell two hubs apart whose names differ in the port alone. Derive nothing from the name's shape.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the port, if the service names one, as mock services on the own machine do. A hub in Azure has
    /// none: its port is that of the protocol, such as [`MQTT_PORT`](Self::MQTT_PORT).
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the device ID: 1 to 128 characters of printable ASCII.
    pub const fn device_id(&self) -> &'a str {
        self.device_id
    }

    /// Returns the client identifier of MQTT's CONNECT: the device ID.
    pub const fn client_id(&self) -> &'a str {
        self.device_id
    }

    /// Writes the user name of MQTT's CONNECT into `buffer`, which must hold
    /// [`Sizes::hub_user_name`](crate::provisioning::Sizes::hub_user_name) bytes.
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
        writer.str(self.device_id);
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
    /// `buffer` must hold [`Sizes::hub_token`](crate::provisioning::Sizes::hub_token) bytes.
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
    pub fn write_token<'b>(
        &self,
        signer: &mut (impl Sign + ?Sized),
        expiry: u64,
        buffer: &'b mut [u8],
    ) -> Result<&'b str, Error> {
        Ok(sas_token::sign(signer, buffer, expiry, "", |writer| self.write_resource(writer))?)
    }

    /// Writes what is to be signed for a token into `buffer`: the bytes for HMAC-SHA256. Use this for a
    /// signer that does not block; [`write_signed_token`](Self::write_signed_token) comes next. `buffer`
    /// must hold [`Sizes::hub_token`](crate::provisioning::Sizes::hub_token) bytes.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    #[inline]
    pub fn write_message<'b>(&self, expiry: u64, buffer: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        self.write_resource(&mut writer);
        sas_token::write_end(expiry, &mut writer);
        writer.finish().map(|message| &*message)
    }

    /// Writes the token that has this signature of [`write_message`](Self::write_message). `buffer` must
    /// hold [`Sizes::hub_token`](crate::provisioning::Sizes::hub_token) bytes.
    ///
    /// ```
    /// use azure_dps::{DeviceKey, after::Hub, identity::SignAsync};
    ///
    /// # async fn token(chip: &mut impl SignAsync) -> Result<(), azure_dps::Error> {
    /// let hub = Hub::new("hub.azure-devices.net", "dev-1")?;
    /// let (mut buffer, mut signature) = ([0; 256], [0; 32]);
    /// let in_an_hour = 1_700_003_600;
    /// chip.sign(hub.write_message(in_an_hour, &mut buffer)?, &mut signature).await?;
    /// let password = hub.write_signed_token(&signature, in_an_hour, &mut buffer)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BufferTooSmall`] with a size that is sufficient for any signature.
    #[inline]
    pub fn write_signed_token<'b>(
        &self,
        signature: &[u8; SIGNATURE_LEN],
        expiry: u64,
        buffer: &'b mut [u8],
    ) -> Result<&'b str, BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        writer.str(sas_token::SCHEME);
        self.write_resource(&mut writer);
        sas_token::write_signature(signature, expiry, &mut writer);
        writer.finish().map(|token| text(token))
    }

    /// Writes the topic of a message from the device to the cloud (telemetry) into `buffer`, which must hold
    /// [`Sizes::hub_telemetry_topic`](crate::provisioning::Sizes::hub_telemetry_topic) bytes and the
    /// percent-encoded `properties`, with a `=` and a `&` each.
    ///
    /// ```
    /// use azure_dps::after::Hub;
    ///
    /// let hub = Hub::new("hub.azure-devices.net", "dev-1")?;
    /// let mut topic = [0; 128];
    /// assert_eq!(hub.write_telemetry_topic(&[], &mut topic)?, "devices/dev-1/messages/events/");
    /// // The hub's routes can look into the message.
    /// let json = [("$.ct", "application/json"), ("$.ce", "utf-8")];
    /// assert_eq!(
    ///     hub.write_telemetry_topic(&json, &mut topic)?,
    ///     "devices/dev-1/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8",
    /// );
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    ///
    /// Source: [sending device-to-cloud messages](https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub#sending-device-to-cloud-messages).
    #[inline]
    pub fn write_telemetry_topic<'b>(
        &self,
        properties: &[(&str, &str)],
        buffer: &'b mut [u8],
    ) -> Result<&'b str, BufferTooSmall> {
        self.write_telemetry_topic_of(properties.iter().copied(), buffer)
    }

    /// Does what [`write_telemetry_topic`](Self::write_telemetry_topic) does, for properties that are not in a
    /// slice.
    ///
    /// ```
    /// use azure_dps::after::Hub;
    ///
    /// let hub = Hub::new("hub.azure-devices.net", "dev-1")?;
    /// let properties = ["unit", "slot"].into_iter().zip(["K", "3"]);
    /// let mut topic = [0; 128];
    /// assert_eq!(hub.write_telemetry_topic_of(properties, &mut topic)?, "devices/dev-1/messages/events/unit=K&slot=3");
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    #[inline]
    pub fn write_telemetry_topic_of<'p, 'b>(
        &self,
        properties: impl IntoIterator<Item = (&'p str, &'p str)>,
        buffer: &'b mut [u8],
    ) -> Result<&'b str, BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        writer.str("devices/");
        writer.str(self.device_id);
        writer.str("/messages/events/");
        let mut separator = "";
        for (name, value) in properties {
            writer.str(separator);
            writer.percent(name.as_bytes());
            writer.byte(b'=');
            writer.percent(value.as_bytes());
            separator = "&";
        }
        writer.finish().map(|topic| text(topic))
    }

    #[inline]
    fn write_resource(&self, writer: &mut Writer<'_>) {
        writer.str(self.host);
        writer.str("%2Fdevices%2F");
        writer.percent(self.device_id.as_bytes());
    }

    /// Writes the connection string that Microsoft's SDKs and tools take into `buffer`, which must
    /// hold [`Sizes::hub_connection_string`](crate::provisioning::Sizes::hub_connection_string) bytes. It has the hub as
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

    /// Does the same for a device whose TLS stream presents a client certificate, in
    /// [`Sizes::hub_x509_connection_string`](crate::provisioning::Sizes::hub_x509_connection_string) bytes. Nothing in it
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
        writer.str(self.device_id);
        writer
    }

    /// Tells one hub and device ID from another.
    #[inline]
    pub(crate) fn fingerprint(&self) -> u32 {
        fnv_1a(self.assigned_hub.bytes().chain([b'/']).chain(self.device_id.bytes()))
    }
}

impl<'b> Assignment<'b> {
    /// Returns the hub to connect to, and the device ID to connect as.
    #[inline]
    pub fn hub(&self) -> Hub<'b> {
        Hub::checked(self.assigned_hub(), self.device_id())
    }
}

impl<const PAYLOAD: usize> OwnedAssignment<PAYLOAD> {
    /// Returns the hub to connect to, and the device ID to connect as.
    #[inline]
    pub fn hub(&self) -> Hub<'_> {
        Hub::checked(self.assigned_hub(), self.device_id())
    }
}
