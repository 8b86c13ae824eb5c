// The device SDK for Node provisions devices and connects them to their hub: `hub.js mqtt`, `hub.js ws`. Each call is
// printed with its answer. ../run.sh starts this script.

const assert = require('node:assert');
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');

const { Client, Message } = require('azure-iot-device');
const device = require('azure-iot-device-mqtt');
const provisioning = require('azure-iot-provisioning-device-mqtt');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const control = require('./control.js');
const { until } = control;
const { deviceKey, provision } = require('./device.js');
const { begin, end, list } = require('./listing.js');

const [, , transport] = process.argv;
const [Transport, ProvisioningTransport] = {
  mqtt: [device.Mqtt, provisioning.Mqtt],
  ws: [device.MqttWs, provisioning.MqttWs],
}[transport];

const TOASTERS = 'contoso-toasters-hub-1098.azure-devices.net';
const HEAT_PUMPS = 'contoso-heatpumps-hub-1098.azure-devices.net';
const TOASTER = 'breakroom499-contoso-tstrsd-007';
const HEAT_PUMP = 'mainbuilding167-contoso-hpsd-088';
const GROUP_KEY = 'oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==';
const certificateFile = (name) => path.join(process.env.DPS_CERTIFICATES, name);
const pem = (name) => readFileSync(certificateFile(name), 'utf8');
const CA = process.env.NODE_EXTRA_CA_CERTS;

const service = ProvisioningServiceClient.fromConnectionString(process.env.DPS_CONNECTION_STRING);

// --- Calls ---

// Returns the arguments of the first such event. If the event does not come, the program ends.
async function event(emitter, name) {
  try {
    return await once(emitter, name, { signal: AbortSignal.timeout(15_000) });
  } catch {
    throw new Error(`no event ${name} within 15 s`);
  }
}

async function assigned(call, registrationId, secret, hub) {
  const state = await provision(ProvisioningTransport, registrationId, secret);
  assert.strictEqual(state.assignedHub, hub);
  list(call, `${state.assignedHub}, ${state.deviceId}`);
  return state;
}

const never = { shouldRetry: () => false, nextRetryTimeout: () => 0 };

// Creates a client for the assigned device. The client reconnects only if `retry` is true.
function clientFor({ assignedHub, deviceId }, secret, { gateway, retry = false } = {}) {
  const parts = [`HostName=${assignedHub}`, `DeviceId=${deviceId}`];
  parts.push(typeof secret === 'string' ? `SharedAccessKey=${secret}` : 'x509=true');
  if (gateway) parts.push(`GatewayHostName=${gateway}`);
  const client = Client.fromConnectionString(parts.join(';'), Transport);
  if (!retry) client.setRetryPolicy(never);
  return client;
}

async function opened(call, client, options) {
  if (options) await client.setOptions(options);
  const result = await client.open();
  list(call, result.constructor.name);
  return client;
}

// Prints the client's error for a call that fails.
async function refused(call, promise, name) {
  const error = await promise.then(() => assert.fail(`${call}: not refused`), (error) => error);
  assert.strictEqual(error.name, name, error.stack);
  list(call, `${error.name}: ${error.message}`);
}

const refusedOpen = (call, client) => refused(call, client.open(), 'UnauthorizedError');

// Prints the error of a client's `disconnect` event.
async function dropped(call, client, order) {
  const disconnected = event(client, 'disconnect');
  await order();
  const [{ transportObj: error }] = await disconnected;
  list(call, `event disconnect: ${error.name}: ${error.message}`);
  await client.close();
}

async function twinOf(call, client, desired, reported) {
  const twin = await client.getTwin();
  const shown = JSON.parse(JSON.stringify(twin.properties));
  list(call, JSON.stringify(shown));
  const { $version: desiredVersion, ...desiredProperties } = shown.desired;
  const { $version: reportedVersion, ...reportedProperties } = shown.reported;
  assert.deepStrictEqual([desiredProperties, reportedProperties], [desired, reported]);
  assert.ok(desiredVersion >= 1 && reportedVersion >= 1);
  assert.deepStrictEqual(Object.keys(shown).sort(), ['desired', 'reported']);
  return twin;
}

const report = (twin, patch) => new Promise((resolve, reject) => {
  twin.properties.reported.update(patch, (error) => error ? reject(error) : resolve());
});

// The operator changes desired properties, and the client gets the change.
async function changed(call, told, registrationId, patch) {
  await control.setDesired(registrationId, patch);
  const { $version, ...properties } = await until(call, () => told.shift());
  list(call, JSON.stringify({ ...properties, $version }));
  assert.deepStrictEqual(properties, patch);
}

// --- The sequence ---

// With the hub's own name. The hosts file has this name.
async function life() {
  const key = deviceKey(GROUP_KEY, TOASTER);
  const hub = await assigned(`device ${TOASTER}`, TOASTER, key, TOASTERS);
  const client = clientFor(hub, key, { retry: true });
  await opened('open, with the name of the hub', client);

  const twin = await twinOf('getTwin', client, { state: 'ready', darknessSetting: 'medium' }, {});
  // The listener makes the client subscribe. The client does not report when it has subscribed.
  const told = [];
  twin.on('properties.desired', (properties) => told.push(properties));
  list('twin.on, at once', JSON.stringify(await until('an event', () => told.shift())));
  await control.requests(TOASTER, 'SUBSCRIBE', 2);
  await changed('desired properties change', told, TOASTER, { darknessSetting: 'dark', crumbs: { tray: 'full' } });
  await changed('desired properties are deleted', told, TOASTER, { crumbs: null });
  client.onDeviceMethod('reboot', () => {});
  client.on('message', () => {});
  await control.requests(TOASTER, 'SUBSCRIBE', 4);
  list('onDeviceMethod and on message, which are granted only', 'subscribed');

  await report(twin, { darkness: 7, firmware: { version: '1.0' } });
  list('reported.update', 'done');
  await report(twin, { firmware: null });
  assert.deepStrictEqual((await control.device(TOASTER)).twin.reported, { darkness: 7 });
  await refused('reported.update, 33 kB', report(twin, Object.fromEntries(
    Array.from({ length: 9 }, (_, index) => [`text${index}`, 'x'.repeat(3700)]))), 'Error');

  const message = new Message(JSON.stringify({ slices: 2 }));
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  message.messageId = 'first';
  message.properties.add('alarm level', 'low & slow');
  const sent = await client.sendEvent(message);
  list('sendEvent', sent.constructor.name);
  const [{ properties, body }] = await control.telemetry(TOASTER);
  list('what arrived', `${JSON.stringify(properties)}, ${body}`);
  assert.deepStrictEqual([properties, body], [{
    '$.mid': 'first', '$.ct': 'application/json', '$.ce': 'utf-8', 'alarm level': 'low & slow',
  }, message.data]);

  // With new renewal options, the client creates a new token and connects with it.
  await connectsAgain(() => client.setOptions({
    tokenRenewal: { tokenValidTimeInSeconds: 600, tokenRenewalMarginInSeconds: 60 },
  }));
  await changed('desired properties change, after a new token', told, TOASTER, { darknessSetting: 'light' });
  await report(twin, { darkness: 2 });
  list('reported.update, after a new token', 'done');

  await connectsAgain(() => control.disconnect(TOASTER));
  await changed('desired properties change, after a lost connection', told, TOASTER, { darknessSetting: 'medium' });

  await connectsAgain(async () => {
    const { length: connects } = await control.requests(TOASTER, 'CONNECT');
    await control.setBehaviour({ unavailable_hubs: [TOASTERS] });
    await control.requests(TOASTER, 'CONNECT', connects + 2);
    await control.setBehaviour({ unavailable_hubs: [] });
  });
  await changed('desired properties change, after the hub was unavailable', told, TOASTER, { darknessSetting: 'dark' });

  // If a connection breaks before CONNACK, the client reports `Unauthorized` and may give up. So the program opens it
  // again.
  const open = () => client.open().catch(() => sleep(500).then(open));
  client.on('disconnect', open);
  await control.restart();
  await control.connected(TOASTER);
  await changed('desired properties change, after a SIGKILL of the emulator', told, TOASTER, { darknessSetting: 'light' });
  client.off('disconnect', open);
  await client.close();
  list('close', 'done');
}

// Waits until the client has connected once more after the order.
async function connectsAgain(order) {
  const { length: connects } = await control.requests(TOASTER, 'CONNECT');
  await order();
  await control.requests(TOASTER, 'CONNECT', connects + 1);
  await control.connected(TOASTER);
}

// Connects without the hub's name in a hosts file.
async function gateways() {
  const key = deviceKey(GROUP_KEY, HEAT_PUMP);
  const hub = await assigned(`device ${HEAT_PUMP}`, HEAT_PUMP, key, HEAT_PUMPS);
  for (const gateway of ['localhost', 'gw.local']) {
    const client = await opened(`open, GatewayHostName=${gateway}, setOptions({ ca })`, clientFor(hub, key, { gateway }), { ca: CA });
    await twinOf('getTwin', client, { state: 'on', temperatureSetting: '65' }, {});
    await client.close();
  }
  const client = clientFor(hub, key, { gateway: 'localhost' });
  await client.setOptions({ ca: certificateFile('factory-ca.pem') });
  await refusedOpen('open, setOptions({ ca }) with another CA', client);

  await refusedOpen('open, another device\'s key', clientFor(hub, deviceKey(GROUP_KEY, TOASTER)));
  await refusedOpen('open, at a hub where the device is not', clientFor({ ...hub, assignedHub: TOASTERS }, key));
  await refusedOpen('open, a device that was never provisioned', clientFor({ ...hub, deviceId: 'nobody' }, key));
}

async function takeOver() {
  const key = deviceKey(GROUP_KEY, HEAT_PUMP);
  const hub = { assignedHub: HEAT_PUMPS, deviceId: HEAT_PUMP };
  const first = await opened('open', clientFor(hub, key));
  const second = clientFor(hub, key);
  await dropped('a second client opens', first, () => second.open());
  await twinOf('getTwin, of the second', second, { state: 'on', temperatureSetting: '65' }, {});

  await dropped('the operator disables the device', second, () => control.disable(HEAT_PUMP));
  await refusedOpen('open, disabled', clientFor(hub, key));
  await control.enable(HEAT_PUMP);
  const again = await opened('open, enabled again', clientFor(hub, key));

  await dropped('the operator deletes the device at the hub', again, () => control.removeFromHub(HEAT_PUMP));
  await refusedOpen('open, deleted', clientFor(hub, key));
  const back = await assigned(`device ${HEAT_PUMP} provisions again`, HEAT_PUMP, key, HEAT_PUMPS);
  const client = await opened('open', clientFor(back, key));
  await client.close();
}

// The hub has a name of this machine. The enrollment is changed, and the device moves.
async function move() {
  const key = deviceKey('AAAA', 'a key of its own');
  const enroll = (iotHubs, migrateDeviceData, etag) => service.createOrUpdateIndividualEnrollment({
    etag, registrationId: 'rover', deviceId: 'Rover-7', allocationPolicy: 'static', iotHubs,
    attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: key, secondaryKey: key } },
    initialTwin: { tags: { site: 'north' }, properties: { desired: { mode: 'idle' } } },
    reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData },
  });
  await enroll(['hub.localhost'], true);
  const old = await assigned('device rover', 'rover', key, 'hub.localhost');
  assert.strictEqual(old.deviceId, 'Rover-7');
  const client = await opened('open, hub.localhost', clientFor(old, key));
  const twin = await twinOf('getTwin', client, { mode: 'idle' }, {});
  await report(twin, { battery: 80 });
  list('reported.update', 'done');

  await enroll([TOASTERS], true, '*');
  let hub;
  await dropped('device rover registers, and is moved', client, async () => {
    hub = await assigned('device rover, moved, the twin is migrated', 'rover', key, TOASTERS);
  });
  await refusedOpen('open, at the old hub', clientFor(old, key));
  const moved = await opened('open, at the new hub', clientFor(hub, key));
  await twinOf('getTwin', moved, { mode: 'idle' }, { battery: 80 });
  await moved.close();

  await enroll([HEAT_PUMPS], false, '*');
  hub = await assigned('device rover, moved, the twin is reset', 'rover', key, HEAT_PUMPS);
  const reset = await opened('open, at the newest hub', clientFor(hub, key));
  await twinOf('getTwin', reset, { mode: 'idle' }, {});
  await reset.close();
}

async function certificates() {
  const lock = { cert: pem('front-door-lock.pem'), key: pem('front-door-lock.key') };
  await service.createOrUpdateIndividualEnrollment({
    registrationId: 'front-door-lock', allocationPolicy: 'static', iotHubs: [TOASTERS],
    attestation: { type: 'x509', x509: { clientCertificates: { primary: { certificate: lock.cert } } } },
  });
  const hub = await assigned('device front-door-lock, X.509', 'front-door-lock', lock, TOASTERS);
  const client = await opened('open, X.509', clientFor(hub, lock), lock);
  await twinOf('getTwin', client, {}, {});
  await client.close();

  const certified = { cert: pem('back-door-lock.pem'), key: pem('back-door-lock.key') };
  const wrong = clientFor(hub, certified);
  await wrong.setOptions(certified);
  await refusedOpen('open, X.509, another certificate', wrong);

  await service.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: 'factory', allocationPolicy: 'static', iotHubs: [HEAT_PUMPS],
    attestation: { type: 'x509', x509: { signingCertificates: { primary: { certificate: pem('factory-ca.pem') } } } },
  });
  const other = await assigned('device back-door-lock, certified by a CA', 'back-door-lock', certified, HEAT_PUMPS);
  await (await opened('open, X.509, certified by a CA', clientFor(other, certified), certified)).close();
}

async function main() {
  begin(`azure-iot-device 1.18.4 (Node), ${{ mqtt: 'MQTT', ws: 'MQTT over WebSocket' }[transport]}`);
  await life();
  await gateways();
  await takeOver();
  await move();
  await certificates();
  end(`device SDK for Node, ${transport}`);
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
