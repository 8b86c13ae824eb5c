// All functions here are inline. Code that is compiled with the crate changes how the optimizer compiles the
// rest of the crate, even in programs that do not call this code.

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

/// The hub of a device. Writes the user name, the token and the connection string for any hub client.
///
/// The user name and the token are for a classic hub. If you set an `api-version` with other hubs, check
/// [`Assignment::connection_profile`] first.
///
/// ```
/// use azure_dps::{DeviceKey, after::Hub, provisioning::Sizes};
///
/// let hub = Hub::new("contoso-toasters-hub-1098.azure-devices.net", "breakroom499-contoso-tstrsd-007")?;
/// // After a run: `assignment.hub()`. From a record: `record.assignment().hub()`.
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
    /// The host, with its port if the service sent one.
    assigned_hub: &'a str,
    host: &'a str,
    port: Option<u16>,
    device_id: &'a str,
    api_version: &'a str,
    device_client_type: &'a str,
}

impl<'a> Hub<'a> {
    /// The port of MQTT over TLS. MQTT over WebSocket uses 443.
    pub const MQTT_PORT: u16 = 8883;

    /// Creates a hub from an assigned hub and a device ID that you have stored. Checks both texts.
    ///
    /// `assigned_hub` is a host name with an optional `:` and port:
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
    /// [`InvalidHub`] names the text that is invalid.
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

    /// Sets the `api-version` in the user name. The default is `2021-04-12`.
    pub const fn with_api_version(mut self, api_version: &'a str) -> Self {
        self.api_version = api_version;
        self
    }

    /// Sets the name of the client, such as its product and version. The default is none.
    ///
    /// The user name contains the text, percent-encoded, as `DeviceClientType`.
    pub const fn with_device_client_type(mut self, device_client_type: &'a str) -> Self {
        self.device_client_type = device_client_type;
        self
    }

    /// Returns the host name without a port.
    ///
    /// Resolve this name, and check that the hub's certificate is for this name. The user name and the token
    /// contain it too, without a port. Do not parse the name: its form may change.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the port, if the service sent one.
    ///
    /// A hub in Azure has no port here: use that of the protocol, such as [`MQTT_PORT`](Self::MQTT_PORT). A test
    /// service on the local machine may send a port.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the device ID: 1 to 128 characters of printable ASCII.
    pub const fn device_id(&self) -> &'a str {
        self.device_id
    }

    /// Returns the client identifier for MQTT's CONNECT, which is the device ID.
    pub const fn client_id(&self) -> &'a str {
        self.device_id
    }

    /// Writes the user name for MQTT's CONNECT into `buffer`.
    /// [`Sizes::hub_user_name`](crate::provisioning::Sizes::hub_user_name) bytes are sufficient.
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
        // Not percent-encoded: the hub does not decode the device ID.
        writer.str(self.device_id);
        writer.str("/?api-version=");
        writer.percent(self.api_version.as_bytes());
        if !self.device_client_type.is_empty() {
            writer.str("&DeviceClientType=");
            writer.percent(self.device_client_type.as_bytes());
        }
        writer.finish().map(|user_name| text(user_name))
    }

    /// Writes a signed token for this device and hub into `buffer`.
    /// [`Sizes::hub_token`](crate::provisioning::Sizes::hub_token) bytes are sufficient.
    ///
    /// The token is the password for MQTT's CONNECT, or the `Authorization` header of an HTTP request. It
    /// expires at `expiry`, which is Unix time in seconds. Then the hub ends the session. The token is a secret
    /// until then.
    ///
    /// `signer` has the key that the device registered with. For an enrollment group, this is the derived key.
    /// For a TPM, it is the key of the assignment.
    ///
    /// # Errors
    /// - [`Error::BufferTooSmall`] with a size that is sufficient for any signature;
    /// - [`Error::Signer`] if the signer fails.
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

    /// Writes the message that must be signed for a token into `buffer`.
    /// [`Sizes::hub_token`](crate::provisioning::Sizes::hub_token) bytes are sufficient.
    ///
    /// Use this function for an async signer. Sign the message with HMAC-SHA256, then call
    /// [`write_signed_token`](Self::write_signed_token).
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

    /// Writes a token with the signature of [`write_message`](Self::write_message) into `buffer`.
    /// [`Sizes::hub_token`](crate::provisioning::Sizes::hub_token) bytes are sufficient.
    ///
    /// ```
    /// use azure_dps::{Error, after::Hub, identity::SignAsync};
    ///
    /// async fn write_password<'b>(
    ///     hub: Hub<'_>,
    ///     chip: &mut impl SignAsync,
    ///     expiry: u64,
    ///     buffer: &'b mut [u8],
    /// ) -> Result<&'b str, Error> {
    ///     let mut signature = [0; 32];
    ///     chip.sign(hub.write_message(expiry, buffer)?, &mut signature).await?;
    ///     Ok(hub.write_signed_token(&signature, expiry, buffer)?)
    /// }
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

    /// Writes the topic of telemetry (device-to-cloud messages) into `buffer`.
    ///
    /// The buffer needs [`Sizes::hub_telemetry_topic`](crate::provisioning::Sizes::hub_telemetry_topic) bytes,
    /// and for each property its percent-encoded name and value plus 2.
    ///
    /// ```
    /// use azure_dps::after::Hub;
    ///
    /// let hub = Hub::new("hub.azure-devices.net", "dev-1")?;
    /// let mut topic = [0; 128];
    /// assert_eq!(hub.write_telemetry_topic(&[], &mut topic)?, "devices/dev-1/messages/events/");
    /// // With these two properties, the hub's routes can query the body of the message.
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

    /// Writes the topic of telemetry with properties from an iterator: see
    /// [`write_telemetry_topic`](Self::write_telemetry_topic).
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

    /// Writes the connection string for Microsoft's SDKs and tools into `buffer`.
    /// [`Sizes::hub_connection_string`](crate::provisioning::Sizes::hub_connection_string) bytes are sufficient.
    ///
    /// The text contains the key. Wipe the buffer after use, also after an error. If the service sent a port,
    /// the text contains the port too.
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

    /// Writes the connection string of a device with an X.509 certificate into `buffer`.
    /// [`Sizes::hub_x509_connection_string`](crate::provisioning::Sizes::hub_x509_connection_string) bytes are
    /// sufficient. The text is not secret.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    #[inline]
    pub fn write_x509_connection_string<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b str, BufferTooSmall> {
        let mut writer = self.begin_connection_string(buffer);
        writer.str(";x509=true");
        writer.finish().map(|connection_string| text(connection_string))
    }

    // A hub and a device ID cannot contain a semicolon, so they need no escape.
    #[inline]
    fn begin_connection_string<'b>(&self, buffer: &'b mut [u8]) -> Writer<'b> {
        let mut writer = Writer::new(buffer);
        writer.str("HostName=");
        writer.str(self.assigned_hub);
        writer.str(";DeviceId=");
        writer.str(self.device_id);
        writer
    }

    /// Returns a hash of the hub and the device ID.
    #[inline]
    pub(crate) fn fingerprint(&self) -> u32 {
        fnv_1a(self.assigned_hub.bytes().chain([b'/']).chain(self.device_id.bytes()))
    }
}

impl<'b> Assignment<'b> {
    /// Returns the hub, with the device ID. Use it to connect.
    #[inline]
    pub fn hub(&self) -> Hub<'b> {
        Hub::checked(self.assigned_hub(), self.device_id())
    }
}

impl<const PAYLOAD: usize> OwnedAssignment<PAYLOAD> {
    /// Returns the hub, with the device ID. Use it to connect.
    #[inline]
    pub fn hub(&self) -> Hub<'_> {
        Hub::checked(self.assigned_hub(), self.device_id())
    }
}
