// The service SDK for Node creates the tutorial's enrollments, and devices provision through them. Each call is printed
// with its answer. ../run.sh starts this script.

const assert = require('node:assert');
const { readFileSync } = require('node:fs');
const path = require('node:path');

const { Http } = require('azure-iot-provisioning-device-http');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { deviceKey, provision } = require('./device.js');
const { begin, end, list } = require('./listing.js');

const TOASTERS = 'contoso-toasters-hub-1098.azure-devices.net';
const HEAT_PUMPS = 'contoso-heatpumps-hub-1098.azure-devices.net';
const TOASTER = 'breakroom499-contoso-tstrsd-007';
const HEAT_PUMP = 'mainbuilding167-contoso-hpsd-088';
const GROUP = 'contoso-custom-allocated-devices';
const ENDORSEMENT_KEY = readFileSync(path.join(__dirname, '../endorsement-key.txt'), 'utf8').trim();
const pem = (name) => readFileSync(path.join(process.env.DPS_CERTIFICATES, name), 'utf8');

const service = ProvisioningServiceClient.fromConnectionString(process.env.DPS_CONNECTION_STRING);

// --- Calls ---

// A call that succeeds. `words` converts the answer to the printed text.
async function ok(call, promise, words = () => 'done') {
  const answer = await promise;
  const body = answer && answer.httpResponse ? answer.responseBody : answer;
  list(call, [answer && answer.httpResponse && answer.httpResponse.statusCode, words(body)].filter(Boolean).join(': '));
  return body;
}

// A call that the service rejects. Prints the SDK's own error and the service's code.
async function refused(call, promise, name, code) {
  const error = await promise.then(() => assert.fail(`${call}: not refused`), (error) => error);
  assert.strictEqual(error.name, name, `${call}: ${error.stack}`);
  const body = JSON.parse(error.responseBody);
  assert.strictEqual(body.errorCode, code, `${call}: ${error.responseBody}`);
  list(call, `${error.response.statusCode}: ${name}, ${body.errorCode} "${body.message}"`);
}

// In 1.11.2, the promise of this call never resolves. Only the callback is called.
const bulk = (mode, enrollments) => new Promise((resolve, reject) => {
  service.runBulkEnrollmentOperation({ mode, enrollments }, (error, responseBody, httpResponse) =>
    error ? reject(error) : resolve({ responseBody, httpResponse }));
});

const errorsOf = (result) => `isSuccessful ${result.isSuccessful}, ${result.errors.length} errors`
  + result.errors.map((error) => `, ${error.registrationId} ${error.errorCode}`).join('');

async function pages(call, query) {
  const sizes = [];
  const all = [];
  while (query.hasMoreResults) {
    // The token must be passed. Without it, `next()` always returns the first page.
    const { responseBody } = await query.next(query.continuationToken);
    sizes.push(responseBody.length);
    all.push(...responseBody);
  }
  list(call, `200: pages of ${sizes.join(', ')}`);
  return { sizes, all };
}

const individual = (registrationId, attestation = { type: 'symmetricKey' }) => ({ registrationId, attestation });

// --- The sequence ---

async function group() {
  const wanted = {
    enrollmentGroupId: GROUP,
    attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: '', secondaryKey: '' } },
    allocationPolicy: 'custom',
    iotHubs: [TOASTERS, HEAT_PUMPS],
    customAllocationDefinition: { webhookUrl: process.env.DPS_WEBHOOK, apiVersion: '2019-03-31' },
    reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: true },
    provisioningStatus: 'enabled',
  };
  const created = await ok('createOrUpdateEnrollmentGroup, new', service.createOrUpdateEnrollmentGroup(wanted),
    (group) => `etag ${group.etag}`);
  assert.match(created.etag, /^".+"$/);
  assert.ok(created.createdDateTimeUtc && created.lastUpdatedDateTimeUtc);

  const elsewhere = { webhookUrl: 'https://contoso.azurewebsites.net/api/HttpTrigger1', apiVersion: '2019-03-31' };
  await refused('createOrUpdateEnrollmentGroup, a webhook that is not on this machine', service.createOrUpdateEnrollmentGroup(
    { ...wanted, enrollmentGroupId: 'elsewhere', customAllocationDefinition: elsewhere }), 'ArgumentError', 400000);

  const read = await ok('getEnrollmentGroup', service.getEnrollmentGroup(GROUP),
    (group) => `${group.allocationPolicy}, ${group.iotHubs.length} hubs, symmetricKey ${JSON.stringify(group.attestation.symmetricKey)}`);
  assert.strictEqual(read.etag, created.etag);
  assert.deepStrictEqual(read.iotHubs, wanted.iotHubs);
  assert.ok(!read.attestation.symmetricKey.primaryKey && !read.attestation.symmetricKey.secondaryKey);

  const { symmetricKey: keys } = await ok('getEnrollmentGroupAttestationMechanism',
    service.getEnrollmentGroupAttestationMechanism(GROUP), ({ symmetricKey: { primaryKey, secondaryKey } }) =>
      `keys of ${Buffer.from(primaryKey, 'base64').length} and ${Buffer.from(secondaryKey, 'base64').length} bytes`);
  assert.strictEqual(Buffer.from(keys.primaryKey, 'base64').length, 64);
  assert.notStrictEqual(keys.primaryKey, keys.secondaryKey);
  return keys;
}

async function devices(keys) {
  const toaster = await ok(`device ${TOASTER}, primary key`,
    provision(Http, TOASTER, deviceKey(keys.primaryKey, TOASTER)), (state) => state.assignedHub);
  assert.strictEqual(toaster.assignedHub, TOASTERS);
  const heatPump = await ok(`device ${HEAT_PUMP}, secondary key`,
    provision(Http, HEAT_PUMP, deviceKey(keys.secondaryKey, HEAT_PUMP)), (state) => state.assignedHub);
  assert.strictEqual(heatPump.assignedHub, HEAT_PUMPS);

  const state = await ok('getDeviceRegistrationState', service.getDeviceRegistrationState(TOASTER),
    (state) => `${state.status}, ${state.substatus}, ${state.assignedHub}`);
  assert.deepStrictEqual([state.status, state.assignedHub, state.deviceId], ['assigned', TOASTERS, TOASTER]);
  await refused('getDeviceRegistrationState, unknown', service.getDeviceRegistrationState('nobody'), 'Error', 404201);

  const { sizes, all } = await pages('createEnrollmentGroupDeviceRegistrationStateQuery, page size 1',
    service.createEnrollmentGroupDeviceRegistrationStateQuery({ query: 'SELECT *' }, GROUP, 1));
  assert.deepStrictEqual(sizes, [1, 1]);
  assert.deepStrictEqual(all.map((state) => state.registrationId).sort(), [TOASTER, HEAT_PUMP]);
}

async function updates(keys) {
  const { responseBody: stale } = await service.getEnrollmentGroup(GROUP);
  const initialTwin = { tags: { building: 43 }, properties: { desired: { state: 'unknown' } } };
  const updated = await ok('createOrUpdateEnrollmentGroup, its etag',
    service.createOrUpdateEnrollmentGroup({ ...stale, initialTwin }), (group) => `etag ${group.etag}`);
  assert.notStrictEqual(updated.etag, stale.etag);
  assert.strictEqual(updated.createdDateTimeUtc, stale.createdDateTimeUtc);
  assert.strictEqual(updated.initialTwin.tags.building, 43);
  await refused('createOrUpdateEnrollmentGroup, stale etag',
    service.createOrUpdateEnrollmentGroup({ ...stale, provisioningStatus: 'disabled' }), 'InvalidEtagError', 412000);

  // The keys were sent back empty, as the service shows them. The service keeps its keys and the webhook.
  const { responseBody: { symmetricKey } } = await service.getEnrollmentGroupAttestationMechanism(GROUP);
  assert.deepStrictEqual(symmetricKey, keys);
  await ok(`device ${TOASTER} again, after the update`,
    provision(Http, TOASTER, deviceKey(keys.primaryKey, TOASTER)), (state) => `${state.assignedHub}, ${state.substatus}`);

  const rounds = 20;
  for (let round = 0; round < rounds; round += 1) {
    const { responseBody: group } = await service.getEnrollmentGroup(GROUP);
    const both = [1, 2].map((writer) => service.createOrUpdateEnrollmentGroup(
      { ...group, initialTwin: { tags: { round, writer }, properties: { desired: {} } } }));
    const outcomes = await Promise.allSettled(both);
    const winner = outcomes.findIndex(({ status }) => status === 'fulfilled');
    const [loser] = outcomes.filter(({ status }) => status === 'rejected');
    assert.ok(winner >= 0 && loser, `round ${round}: ${outcomes.map(({ status }) => status)}`);
    assert.strictEqual(loser.reason.name, 'InvalidEtagError');
    const { responseBody: after } = await service.getEnrollmentGroup(GROUP);
    assert.strictEqual(after.initialTwin.tags.writer, winner + 1);
  }
  list(`createOrUpdateEnrollmentGroup, two at once with one etag, ${rounds} times`, 'each time 200 and InvalidEtagError');
}

async function bulks() {
  const ids = ['sensor-1', 'sensor-2', 'sensor-3', 'sensor-4', 'sensor-5'];
  const created = await ok('runBulkEnrollmentOperation create, 5 new', bulk('create', ids.map((id) => individual(id))), errorsOf);
  assert.deepStrictEqual([created.isSuccessful, created.errors], [true, []]);

  const { sizes, all } = await pages('createIndividualEnrollmentQuery, page size 2',
    service.createIndividualEnrollmentQuery({ query: 'SELECT * FROM enrollments' }, 2));
  assert.deepStrictEqual([...sizes, ...all.map((one) => one.registrationId).sort()], [2, 2, 1, ...ids]);
  const groups = await pages('createEnrollmentGroupQuery', service.createEnrollmentGroupQuery({ query: 'SELECT *' }));
  assert.deepStrictEqual(groups.all.map((group) => group.enrollmentGroupId), [GROUP]);

  const again = await ok('runBulkEnrollmentOperation create, 2 exist, 1 new',
    bulk('create', [individual('sensor-1'), individual('sensor-6'), individual('sensor-2')]), errorsOf);
  assert.strictEqual(again.isSuccessful, false);
  assert.deepStrictEqual(again.errors.map((error) => error.registrationId), ['sensor-1', 'sensor-2']);

  // The types of the SDK spell the mode like this. The service's specification spells it "updateIfMatchETag".
  const [one, two, three] = all.map((enrollment) => ({ ...enrollment, provisioningStatus: 'disabled' }));
  const stale = (enrollment) => ({ ...enrollment, etag: '"AAAAAAAAAAA="' });
  const updated = await ok('runBulkEnrollmentOperation updateIfMatchEtag, 2 stale, 1 not',
    bulk('updateIfMatchEtag', [stale(one), two, stale(three)]), errorsOf);
  assert.strictEqual(updated.isSuccessful, false);
  assert.deepStrictEqual(updated.errors.map((error) => error.registrationId), [one.registrationId, three.registrationId]);
  const statuses = await Promise.all([one, two, three].map(async ({ registrationId }) =>
    (await service.getIndividualEnrollment(registrationId)).responseBody.provisioningStatus));
  assert.deepStrictEqual(statuses, ['enabled', 'disabled', 'enabled']);

  const deleted = await ok('runBulkEnrollmentOperation delete, 6 exist, 2 do not',
    bulk('delete', [...ids, 'sensor-6', 'nobody', 'no-one'].map((id) => individual(id))), errorsOf);
  assert.deepStrictEqual(deleted.errors.map((error) => error.registrationId), ['nobody', 'no-one']);
}

async function individuals() {
  const key = deviceKey('AAAA', 'a key of its own');
  await ok('createOrUpdateIndividualEnrollment, symmetric key', service.createOrUpdateIndividualEnrollment({
    ...individual('meter-1', { type: 'symmetricKey', symmetricKey: { primaryKey: key, secondaryKey: key } }),
    deviceId: 'meter-in-the-cellar', allocationPolicy: 'static', iotHubs: [HEAT_PUMPS],
  }), (enrollment) => enrollment.deviceId);
  const { symmetricKey } = await ok('getIndividualEnrollmentAttestationMechanism',
    service.getIndividualEnrollmentAttestationMechanism('meter-1'), ({ type }) => `${type}, the keys that were given`);
  assert.deepStrictEqual(symmetricKey, { primaryKey: key, secondaryKey: key });
  const meter = await ok('device meter-1', provision(Http, 'meter-1', key), (state) => `${state.assignedHub}, ${state.deviceId}`);
  assert.deepStrictEqual([meter.assignedHub, meter.deviceId], [HEAT_PUMPS, 'meter-in-the-cellar']);

  const x509 = await ok('createOrUpdateIndividualEnrollment, X.509', service.createOrUpdateIndividualEnrollment(
    individual('front-door-lock', { type: 'x509', x509: { clientCertificates: { primary: { certificate: pem('front-door-lock.pem') } } } }),
  ), ({ attestation }) => `subject ${attestation.x509.clientCertificates.primary.info.subjectName}`);
  assert.match(x509.attestation.x509.clientCertificates.primary.info.sha256Thumbprint, /^[0-9a-f]{64}$/i);
  const lock = await ok('device front-door-lock',
    provision(Http, 'front-door-lock', { cert: pem('front-door-lock.pem'), key: pem('front-door-lock.key') }),
    (state) => state.status);
  assert.strictEqual(lock.status, 'assigned');

  await ok('createOrUpdateEnrollmentGroup, X.509', service.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: 'factory',
    attestation: { type: 'x509', x509: { signingCertificates: { primary: { certificate: pem('factory-ca.pem') } } } },
  }), ({ attestation }) => `subject ${attestation.x509.signingCertificates.primary.info.subjectName}`);
  const certified = await ok('device back-door-lock, certified by the group\'s CA',
    provision(Http, 'back-door-lock', { cert: pem('back-door-lock.pem'), key: pem('back-door-lock.key') }),
    (state) => state.status);
  assert.strictEqual(certified.status, 'assigned');

  await ok('createOrUpdateIndividualEnrollment, TPM', service.createOrUpdateIndividualEnrollment(
    individual('gateway-7', { type: 'tpm', tpm: { endorsementKey: ENDORSEMENT_KEY } })), ({ attestation }) => attestation.type);
  const tpm = await ok('getIndividualEnrollment', service.getIndividualEnrollment('gateway-7'), ({ attestation }) => attestation.type);
  assert.strictEqual(tpm.attestation.tpm.endorsementKey, ENDORSEMENT_KEY);
  await ok('deleteIndividualEnrollment, its etag', service.deleteIndividualEnrollment(tpm));
  await refused('getIndividualEnrollment, deleted', service.getIndividualEnrollment('gateway-7'), 'Error', 404201);
  await refused('createOrUpdateIndividualEnrollment, a bad endorsement key', service.createOrUpdateIndividualEnrollment(
    individual('gateway-8', { type: 'tpm', tpm: { endorsementKey: 'AAAA' } })), 'ArgumentError', 400000);
}

async function deletions(keys) {
  const { responseBody: state } = await service.getDeviceRegistrationState(HEAT_PUMP);
  await refused('deleteDeviceRegistrationState, stale etag',
    service.deleteDeviceRegistrationState(HEAT_PUMP, '"AAAAAAAAAAA="'), 'InvalidEtagError', 412000);
  await ok('deleteDeviceRegistrationState, its etag', service.deleteDeviceRegistrationState(state));
  await refused('getDeviceRegistrationState, deleted', service.getDeviceRegistrationState(HEAT_PUMP), 'Error', 404201);
  const again = await ok(`device ${HEAT_PUMP} registers again`,
    provision(Http, HEAT_PUMP, deviceKey(keys.secondaryKey, HEAT_PUMP)), (state) => `${state.assignedHub}, ${state.substatus}`);
  assert.strictEqual(again.assignedHub, HEAT_PUMPS);

  const { responseBody: group } = await service.getEnrollmentGroup(GROUP);
  await ok('deleteEnrollmentGroup, its etag', service.deleteEnrollmentGroup(group));
  await refused('getEnrollmentGroup, deleted', service.getEnrollmentGroup(GROUP), 'Error', 404201);
  const error = await provision(Http, TOASTER, deviceKey(keys.primaryKey, TOASTER)).then(() => null, (error) => error);
  assert.ok(error, 'the device of a deleted group is refused');
  list(`device ${TOASTER}, its group deleted`, `${error.name}: ${error.message}`);
}

async function tokens() {
  const wrongKey = process.env.DPS_CONNECTION_STRING.replace(/SharedAccessKey=.*/, 'SharedAccessKey=AAAA');
  await refused('any call, a wrong key', ProvisioningServiceClient.fromConnectionString(wrongKey).getEnrollmentGroup(GROUP),
    'UnauthorizedError', 401000);
}

async function main() {
  begin('azure-iot-provisioning-service 1.11.2 (Node)');
  const keys = await group();
  await devices(keys);
  await updates(keys);
  await bulks();
  await individuals();
  await deletions(keys);
  await tokens();
  end('service SDK for Node');
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
