// A device: Microsoft's provisioning client for Node, as its documentation shows it.

const { createHmac } = require('node:crypto');

const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

// Returns the key of a device, derived from the group key.
function deviceKey(groupKey, registrationId) {
  return createHmac('sha256', Buffer.from(groupKey, 'base64')).update(registrationId).digest('base64');
}

// Registers a device with a key, or with { cert, key }. Returns the assignment.
function provision(Transport, registrationId, secret) {
  const security = typeof secret === 'string'
    ? new SymmetricKeySecurityClient(registrationId, secret)
    : new X509Security(registrationId, secret);
  const client = ProvisioningDeviceClient.create('localhost', '0ne00002193', new Transport(), security);
  client.setProvisioningPayload({ MyDeviceFirmwareVersion: '12.0.2.5', MyDeviceProvisioningVersion: '1.0.0.0' });
  return client.register();
}

module.exports = { deviceKey, provision };
