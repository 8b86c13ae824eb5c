// Provisions the devices of the tutorial with Microsoft's clients for HTTP, MQTT and MQTT over WebSocket, each over
// TLS: the toaster, the heat pump, an unknown device, and a device with a wrong key. ../run.sh starts this script.

const assert = require('node:assert');

const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { deviceKey, provision } = require('./device.js');

const groupKey = 'oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==';

async function check(name, Transport) {
  const register = (registrationId, keyFor = registrationId) =>
    provision(Transport, registrationId, deviceKey(groupKey, keyFor)).catch((error) => error);
  const [toaster, heatPump, unknown, wrongKey] = await Promise.all([
    register('breakroom499-contoso-tstrsd-007'),
    register('mainbuilding167-contoso-hpsd-088'),
    register('somebody-else'),
    register('breakroom500-contoso-tstrsd-007', 'another'),
  ]);
  assert.strictEqual(toaster.assignedHub, 'contoso-toasters-hub-1098.azure-devices.net');
  assert.strictEqual(toaster.deviceId, 'breakroom499-contoso-tstrsd-007');
  assert.strictEqual(heatPump.assignedHub, 'contoso-heatpumps-hub-1098.azure-devices.net');
  assert.strictEqual(unknown.name, 'ProvisioningRegistrationFailedError');
  assert.strictEqual(unknown.result.registrationState.errorCode, 400207);
  assert.strictEqual(wrongKey.name, 'UnauthorizedError');
  console.log(`Microsoft's ${name} client for Node: 4 passed, 0 failed`);
}

async function main() {
  await check('HTTP', Http);
  await check('MQTT', Mqtt);
  await check('MQTT over WebSocket', MqttWs);
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
