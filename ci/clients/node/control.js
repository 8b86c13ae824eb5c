// The operator's actions and view: the control API of the emulator.

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { openSync, readFileSync } = require('node:fs');
const path = require('node:path');
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

// Kills the emulator with SIGKILL, and starts it again with the same arguments.
async function restart() {
  const pid = Number(process.env.DPS_PID);
  const [program, ...words] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  process.kill(pid, 'SIGKILL');
  const log = openSync(path.join(process.env.DPS_WORK, 'dps-emulator.out'), 'a');
  let emulator;
  process.on('exit', () => emulator.kill());
  await until('the emulator runs', () => {
    // The ports may be in use until the killed emulator has ended.
    if (!emulator || emulator.exitCode !== null) emulator = spawn(program, words, { stdio: ['ignore', log, log] });
    return call('GET', 'health').catch(() => false);
  });
}

// Returns the device's messages, with their properties as an object.
async function telemetry(id) {
  const { messages } = await call('GET', `devices/${id}/telemetry`);
  return messages.map(({ properties, body }) =>
    ({ properties: Object.fromEntries(properties.map(({ name, value }) => [name, value])), body }));
}

// Returns the result of `condition` when it is true.
async function until(what, condition) {
  for (let tries = 0; tries < 300; tries += 1) {
    const answer = await condition();
    if (answer) return answer;
    await sleep(100);
  }
  throw new Error(`${what}: not within 30 s`);
}

const connected = (id) => until(`${id} connected`, async () => (await device(id)).hub.connectionState === 'connected');

// Waits until the device has sent this number of requests with the method to its hub. Returns them.
const requests = (id, method, count = 1) => until(`${count} ${method} of ${id}`, async () => {
  const all = (await call('GET', 'requests?limit=1000')).requests;
  const its = all.filter((request) => request.hub && request.registrationId === id && request.method === method);
  return its.length >= count && its;
});

module.exports = { connected, device, disable, disconnect, enable, removeFromHub, requests, restart, setBehaviour, setDesired, telemetry, until };
