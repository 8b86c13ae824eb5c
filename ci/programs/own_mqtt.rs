//! The program's own MQTT client.

use std::time::Duration;

use azure_dps::{DeviceKey, Error, Provisioning, mqtt, provisioning::Step};

/// The functions of the client.
pub trait Client {
    fn connect(&mut self, client_id: &str, user_name: &str, password: &str) -> u8;
    fn subscribe(&mut self, filter: &str);
    fn publish(&mut self, topic: &str, body: &[u8]);
    /// Returns the next message (topic and body), or `None` at the deadline.
    fn receive(&mut self, deadline: Duration) -> Option<(String, Vec<u8>)>;
    fn now(&self) -> Duration;
    fn sleep(&mut self, wait: Duration);
}

/// Returns the hub.
pub fn provision(
    client: &mut impl Client,
    provisioning: &mut Provisioning<'_>,
    key: &mut DeviceKey,
) -> Result<String, Error> {
    let (mut buffer, mut user_name) = ([0; 512], [0; 256]);
    let mut answer = Vec::new();
    let mut is_connected = false;
    provisioning.start(client.now(), 1_700_000_000);
    loop {
        match provisioning.step(client.now()) {
            Step::Sign => {
                provisioning.sign_with(key, &mut buffer)?;
                is_connected = false;
            }
            Step::Send if !is_connected => {
                let user_name = mqtt::write_user_name(provisioning, &mut user_name)?;
                let password = mqtt::write_password(provisioning, &mut buffer)?;
                let code = client.connect(mqtt::client_id(provisioning), user_name, password);
                mqtt::on_connack(provisioning, client.now(), code);
                is_connected = code == 0;
                client.subscribe(mqtt::SUBSCRIBE_FILTER);
            }
            Step::Send => {
                let publish = mqtt::write_publish(provisioning, client.now(), &mut buffer)?;
                client.publish(publish.topic, publish.body);
                let deadline = provisioning.request_deadline(client.now());
                let is_answered = loop {
                    let Some((topic, body)) = client.receive(deadline) else { break false };
                    if mqtt::on_message(provisioning, client.now(), &topic, &body) {
                        answer = body;
                        break true;
                    }
                };
                if !is_answered {
                    is_connected = false;
                    provisioning.on_error(client.now(), Error::Transport(azure_dps::error::TransportError::Stalled));
                }
            }
            Step::Wait(wait) => client.sleep(wait),
            Step::Activate => return Err(Error::Unsupported),
            Step::Finished => return Ok(provisioning.result(&answer)?.assigned_hub().to_string()),
        }
    }
}
