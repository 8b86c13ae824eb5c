use crate::{
    error::Malformed,
    text::json::{Object, Value},
};

/// The desired or reported properties of a twin, or a change of the desired properties.
///
/// ```
/// use azure_dps::after::twin::{self, Message};
///
/// let body = br#"{"desired":{"state":"cooking","limits":{"max":80},"$version":4},"reported":{"$version":1}}"#;
/// let Message::Twin(twin) = twin::read("$iothub/twin/res/200/?$rid=1", body)? else { panic!() };
/// let desired = twin.desired;
///
/// assert_eq!(desired.version(), 4);
/// assert!(desired.get("state").unwrap().text().unwrap() == "cooking");
/// let max = desired.get("limits").and_then(|limits| limits.object()?.get("max")?.u32());
/// assert_eq!(max, Some(80));
///
/// #[derive(serde::Deserialize)]
/// struct Settings<'a> {
///     state: &'a str,
/// }
/// # #[cfg(feature = "serde")]
/// let settings: Settings<'_> = desired.read_as(&mut [])?;
/// # #[cfg(feature = "serde")]
/// assert_eq!(settings.state, "cooking");
/// # Ok::<(), azure_dps::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Properties<'b> {
    object: Object<'b>,
    version: u64,
}

/// The order of a change, compared with the properties that the device has: see [`Properties::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Order {
    /// The device has this change already. Ignore it.
    Known,
    /// This is the next change. Apply it.
    Next,
    /// An earlier change is missing. Get the twin again.
    Gap,
}

impl<'b> Properties<'b> {
    /// Returns the version of the properties (`$version`).
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the order of this change for a device that has the version `known` of the desired properties. If
    /// the device has none yet, `known` is 0.
    ///
    /// Source: [device reconnection flow](https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-device-twins#device-reconnection-flow).
    pub const fn order(&self, known: u64) -> Order {
        if self.version <= known {
            Order::Known
        } else if self.version - known == 1 {
            Order::Next
        } else {
            Order::Gap
        }
    }

    /// Returns the value of a property. In a change, a deleted property is `null`.
    ///
    /// For nested properties, use [`Value::object`].
    #[inline]
    pub fn get(&self, name: &str) -> Option<Value<'b>> {
        self.object.get(name)
    }

    /// Returns all properties as a JSON object, with the `$version`.
    pub const fn object(&self) -> Object<'b> {
        self.object
    }

    /// Returns the properties, read into a type. [`Assignment::payload_as`](crate::Assignment::payload_as)
    /// explains `scratch`.
    ///
    /// Use this function for twins. For changes, use [`get`](Self::get): most types cannot distinguish a deleted
    /// property from an unchanged one.
    ///
    /// # Errors
    /// [`PayloadError`](crate::error::PayloadError) if the properties do not fit the type, or a string does not
    /// fit `scratch`.
    #[cfg(feature = "serde")]
    #[inline]
    pub fn read_as<T: serde::Deserialize<'b>>(&self, scratch: &mut [u8]) -> Result<T, crate::error::PayloadError> {
        crate::text::deserialize::deserialize(Value::checked(self.object.raw().as_bytes()), scratch)
    }

    /// Creates the properties from their JSON. `of_topic` is the version in the topic of a change.
    #[inline(never)]
    pub(super) fn read(object: Object<'b>, of_topic: Option<u64>) -> Result<Self, Malformed> {
        const NAME: &str = "$version";
        let mut version = None;
        for (name, value) in object.members() {
            if name == NAME {
                let number = parse_version(value.raw().as_bytes()).ok_or(Malformed::Invalid(NAME))?;
                if version.replace(number).is_some() {
                    return Err(Malformed::Duplicate(NAME));
                }
            }
        }
        match (version, of_topic) {
            (Some(version), Some(of_topic)) if version != of_topic => Err(Malformed::Contradiction(NAME)),
            _ => Ok(Self { object, version: version.or(of_topic).ok_or(Malformed::Missing(NAME))? }),
        }
    }
}

/// Reads decimal digits, at most as many as always fit a `u64`.
pub(super) fn parse_version(digits: &[u8]) -> Option<u64> {
    if !matches!(digits.len(), 1..=super::VERSION) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit <= 9).then(|| number.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}
