//! Reads the text of the service's error messages. The service forwards messages of its hub as JSON in a string. This
//! JSON may contain another JSON string.

use serde_json::{Map, Value};

/// The plain text, and the tracking ID of the innermost message.
#[derive(Default)]
pub struct Message {
    pub text: Option<String>,
    pub tracking_id: Option<String>,
}

impl Message {
    pub fn read(message: &str) -> Self {
        let mut found = Self::default();
        found.add(message);
        // If the document has no text, the whole document is the text.
        if found.text.is_none() && !message.is_empty() {
            found.text = Some(message.to_owned());
        }
        found
    }

    // The recursion is shallow, because each level doubles the backslashes.
    fn add(&mut self, message: &str) {
        match serde_json::from_str::<Map<String, Value>>(message) {
            Ok(object) => {
                let texts =
                    object.iter().filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?)));
                for (name, text) in texts {
                    match name.as_str() {
                        "trackingid" if !text.is_empty() => self.tracking_id = Some(text.to_owned()),
                        name if name.ends_with("message") => self.add(text),
                        _ => {}
                    }
                }
            }
            Err(_) => self.add_text(message),
        }
    }

    /// Adds text such as `ErrorCode:IotHubUnauthorizedAccess;Unauthorized`, or `Tracking ID:…`.
    fn add_text(&mut self, text: &str) {
        const MARK: &str = "tracking id:";
        let mut words = text.trim();
        if let Some(at) = text.to_ascii_lowercase().find(MARK) {
            let id = text[at + MARK.len()..].split([',', ';', '\r', '\n']).next().unwrap_or_default().trim();
            if !id.is_empty() {
                self.tracking_id = Some(id.to_owned());
            }
            words = text[..at].trim();
        }
        if !words.is_empty() {
            let before = self.text.take().map_or(String::new(), |before| before + "; ");
            self.text = Some(before + words);
        }
    }
}
