// What the operator does and sees: the control API of the emulator.

const assert = require('node:assert');
const { setTimeout: sleep } = require('node:timers/promises');

async function call(method, path, body) {
  const response = await fetch(`${process.env.DPS_CONTROL}/_emulator/${path}`, {
    method, headers: { 'Content-Type': 'application/json' }, body: body && JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

const device = (id) => call('GET', `devices/${id}`);
const setDesired = (id, desired) => call('POST', `devices/${id}/twin`, { desired });
const disable = (id) => call('POST', `devices/${id}/hub/disable`, {});
const enable = (id) => call('POST', `devices/${id}/hub/enable`, {});
const disconnect = (id) => call('POST', `devices/${id}/hub/disconnect`, {});
const setBehaviour = (switches) => call('POST', 'behaviour', switches);
const removeFromHub = (id) => call('DELETE', `devices/${id}/hub`);

// The messages that the device sent, with their properties as an object.
async function telemetry(id) {
  const { messages } = await call('GET', `devices/${id}/telemetry`);
  return messages.map(({ properties, body }) =>
    ({ properties: Object.fromEntries(properties.map(({ name, value }) => [name, value])), body }));
}

// What `condition` returns, as soon as it is true.
async function until(what, condition) {
  for (let tries = 0; tries < 150; tries += 1) {
    const answer = await condition();
    if (answer) return answer;
    await sleep(100);
  }
  throw new Error(`${what}: not for 15 s`);
}

const connected = (id) => until(`${id} connected`, async () => (await device(id)).hub.connectionState === 'connected');

// Waits until the device sent so many requests with this method to its hub. Returns them.
const requests = (id, method, count = 1) => until(`${count} ${method} of ${id}`, async () => {
  const all = (await call('GET', 'requests?limit=1000')).requests;
  const its = all.filter((request) => request.hub && request.registrationId === id && request.method === method);
  return its.length >= count && its;
});

module.exports = { connected, device, disable, disconnect, enable, removeFromHub, requests, setBehaviour, setDesired, telemetry, until };
