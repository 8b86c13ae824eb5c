//! Device twins.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json_size::map_size;
use crate::config::Twin;

/// The twin of a device at its hub.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceTwin {
    /// The tags. The device does not see them.
    pub tags: Map<String, Value>,
    /// The desired properties, without `$version`.
    pub desired: Map<String, Value>,
    /// The `$version` of the desired properties. It starts at 1 and grows by 1 with each change.
    pub desired_version: u64,
    /// The properties that the device reported, without `$version`.
    pub reported: Map<String, Value>,
    /// The `$version` of the reported properties. It starts at 1 and grows by 1 with each change.
    pub reported_version: u64,
}

impl Default for DeviceTwin {
    fn default() -> Self {
        Self { tags: Map::new(), desired: Map::new(), desired_version: 1, reported: Map::new(), reported_version: 1 }
    }
}

impl From<Twin> for DeviceTwin {
    /// Creates the twin of a new device.
    fn from(Twin { tags, desired }: Twin) -> Self {
        Self { tags, desired, ..Self::default() }
    }
}

impl DeviceTwin {
    /// Returns about how many bytes of memory the twin takes. A tree takes several times the memory of its text.
    pub(super) fn size(&self) -> usize {
        map_size(&self.tags) + map_size(&self.desired) + map_size(&self.reported)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Small members take more memory than their text. Reported properties count, too.
    #[test]
    fn the_size_of_a_twin_is_that_of_its_tree() {
        let members: Map<_, _> = (0..1000).map(|number| (number.to_string(), json!([number]))).collect();
        for twin in [
            DeviceTwin { tags: members.clone(), ..DeviceTwin::default() },
            DeviceTwin { desired: members.clone(), ..DeviceTwin::default() },
            DeviceTwin { reported: members.clone(), ..DeviceTwin::default() },
        ] {
            let size = twin.size();
            assert!((100_000..400_000).contains(&size), "{size}");
        }
    }
}
