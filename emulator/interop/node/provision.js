// Provisions the tutorial's devices through Microsoft's own clients for HTTP, MQTT and MQTT over
// WebSocket, each over TLS, against the emulator: the toaster, the heat pump, an unknown device, and
// one with a wrong key.
//
//   cargo build -p azure-dps-emulator && cd emulator/interop/node && npm install && npm test
//
// DPS_EMULATOR names the program, where it is not in the workspace's target/debug.

const { spawn } = require('node:child_process');
const { createHmac } = require('node:crypto');
const { mkdtempSync, readFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const path = require('node:path');
const readline = require('node:readline');
const assert = require('node:assert');

const { Http: HttpBase } = require('azure-iot-http-base');
const { MqttBase } = require('azure-iot-mqtt-base');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

const groupKey = Buffer.from(
  'oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==', 'base64');
const program = process.env.DPS_EMULATOR || path.join(__dirname, '../../../target/debug/dps-emulator');
const caFile = path.join(mkdtempSync(path.join(tmpdir(), 'dps-')), 'ca.pem');

// The client's host is a name without a port, and its TLS trusts the public roots: both are set
// where it builds its requests.
class LocalHttp extends HttpBase {
  constructor(port, ca) {
    super();
    this.local = { port, ca };
  }

  buildRequest(method, requestPath, headers, host, options, done) {
    const callback = done || options;
    const https = require('node:https');
    const request = (httpOptions, onResponse) =>
      https.request({ ...httpOptions, port: this.local.port, ca: this.local.ca }, onResponse);
    return super.buildRequest(method, requestPath, headers, host, { port: this.local.port, request }, callback);
  }
}

// The same for MQTT, where the client below takes a CA, and the URL is a method's.
function local(Transport, url, ca) {
  class Local extends Transport {
    _getConnectionUri() {
      return url;
    }
  }
  const base = new MqttBase();
  base.setOptions({ ca });
  return new Local(base);
}

function provision(transport, registrationId, keyFor = registrationId) {
  const key = createHmac('sha256', groupKey).update(keyFor).digest('base64');
  const security = new SymmetricKeySecurityClient(registrationId, key);
  const client = ProvisioningDeviceClient.create('localhost', '0ne00002193', transport, security);
  client.setProvisioningPayload({ MyDeviceFirmwareVersion: '12.0.2.5', MyDeviceProvisioningVersion: '1.0.0.0' });
  return new Promise((resolve) => client.register((error, result) => resolve({ error, result })));
}

async function check(name, transport) {
  const [toaster, heatPump, unknown, wrongKey] = await Promise.all([
    provision(transport(), 'breakroom499-contoso-tstrsd-007'),
    provision(transport(), 'mainbuilding167-contoso-hpsd-088'),
    provision(transport(), 'somebody-else'),
    provision(transport(), 'breakroom500-contoso-tstrsd-007', 'another'),
  ]);
  assert.ifError(toaster.error);
  assert.strictEqual(toaster.result.assignedHub, 'contoso-toasters-hub-1098.azure-devices.net');
  assert.strictEqual(toaster.result.deviceId, 'breakroom499-contoso-tstrsd-007');
  assert.ifError(heatPump.error);
  assert.strictEqual(heatPump.result.assignedHub, 'contoso-heatpumps-hub-1098.azure-devices.net');
  assert.strictEqual(unknown.error.name, 'ProvisioningRegistrationFailedError');
  assert.strictEqual(unknown.error.result.registrationState.errorCode, 400207);
  assert.strictEqual(wrongKey.error.name, 'UnauthorizedError');
  console.log(`Microsoft's ${name} client for Node: 4 passed, 0 failed`);
}

async function main() {
  const emulator = spawn(program, ['--https', '127.0.0.1:0', '--mqtts', '127.0.0.1:0', '--ca-out', caFile,
    '--retry-after', '1', '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const urls = {};
    for await (const line of readline.createInterface({ input: emulator.stdout })) {
      const { listener, url } = JSON.parse(line);
      urls[listener] = url;
      if (listener === 'wss') break;
    }
    emulator.stdout.resume();
    const ca = readFileSync(caFile);
    await check('HTTP', () => new Http(new LocalHttp(Number(new URL(urls.https).port), ca)));
    await check('MQTT', () => local(Mqtt, urls.mqtts, ca));
    await check('MQTT over WebSocket', () => local(MqttWs, urls.wss, ca));
  } finally {
    emulator.kill('SIGTERM');
  }
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
