"""The service SDK for Python creates the enrollments of the tutorial, and devices provision through them. Each call is
listed with its answer. ../run.sh starts this script."""

from concurrent.futures import ThreadPoolExecutor

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.iot.device import X509
from azure.iot.deviceprovisioning import DeviceProvisioningClient

from device import device_key, provision
from listing import (
    CONNECTION_STRING, ENDORSEMENT_KEY, GROUP, HEAT_PUMP, HEAT_PUMPS, TOASTER, TOASTERS, WEBHOOK, WRONG_KEY,
    begin, certificate_file, end, equal, length, listed, ok, pem,
)

service = DeviceProvisioningClient.from_connection_string(CONNECTION_STRING)
groups, enrollments, registrations = service.enrollment_group, service.enrollment, service.device_registration_state


def refused(call, request, kind, status, code):
    """Makes a call that the service rejects. Lists the error of the SDK and the code of the service."""
    try:
        request()
    except HttpResponseError as error:
        equal(type(error), kind)
        body = error.response.json()
        equal((error.status_code, body["errorCode"]), (status, code))
        listed(call, f"{status}: {kind.__name__}, {code} \"{body['message']}\"")
    else:
        raise AssertionError(f"{call}: not rejected")


def pages(call, paged):
    """Returns the items of a query, and the sizes of its pages."""
    sizes, items = [], []
    for page in paged.by_page():
        page = list(page)
        sizes.append(len(page))
        items += page
    listed(call, f"pages of {', '.join(map(str, sizes))}")
    return sizes, items


def errors_of(result):
    errors = [f"{error.get('registrationId') or error.get('enrollmentGroupId')} {error['errorCode']}" for error in result["errors"]]
    return ", ".join([f"isSuccessful {result['isSuccessful']}, {len(errors)} errors", *errors])


def ids(result):
    return [error.get("registrationId") or error.get("enrollmentGroupId") for error in result["errors"]]


def individual(registration_id, attestation=None):
    return {"registrationId": registration_id, "attestation": attestation or {"type": "symmetricKey"}}


def provisioned(call, registration_id, secret, hub):
    equal(provision(registration_id, secret), hub)
    listed(call, hub)


# --- The sequence ---


def group():
    wanted = {
        "enrollmentGroupId": GROUP,
        "attestation": {"type": "symmetricKey", "symmetricKey": {}},
        "allocationPolicy": "custom",
        "iotHubs": [TOASTERS, HEAT_PUMPS],
        "customAllocationDefinition": {"webhookUrl": WEBHOOK, "apiVersion": "2019-03-31"},
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
        "provisioningStatus": "enabled",
    }
    created = ok(
        "enrollment_group.create_or_update, new", groups.create_or_update(GROUP, wanted), lambda group: f"etag {group['etag']}"
    )
    read = ok(
        "enrollment_group.get",
        groups.get(GROUP),
        lambda group: f"{group['allocationPolicy']}, {len(group['iotHubs'])} hubs, {group['attestation']}",
    )
    equal(read["etag"], created["etag"])
    equal(read["iotHubs"], wanted["iotHubs"])
    assert not any(read["attestation"]["symmetricKey"].values())
    keys = ok(
        "enrollment_group.get_attestation_mechanism",
        groups.get_attestation_mechanism(GROUP),
        lambda answer: f"keys of {' and '.join(str(length(key)) for key in answer['symmetricKey'].values())} bytes",
    )["symmetricKey"]
    equal(length(keys["primaryKey"]), 64)
    assert keys["primaryKey"] != keys["secondaryKey"]
    return keys


def devices(keys):
    provisioned(f"device {TOASTER}, primary key", TOASTER, device_key(keys["primaryKey"], TOASTER), TOASTERS)
    provisioned(f"device {HEAT_PUMP}, secondary key", HEAT_PUMP, device_key(keys["secondaryKey"], HEAT_PUMP), HEAT_PUMPS)
    state = ok(
        "device_registration_state.get",
        registrations.get(TOASTER),
        lambda state: f"{state['status']}, {state['substatus']}, {state['assignedHub']}",
    )
    equal((state["status"], state["assignedHub"], state["deviceId"]), ("assigned", TOASTERS, TOASTER))
    refused(
        "device_registration_state.get, unknown", lambda: registrations.get("nobody"), ResourceNotFoundError, 404, 404201
    )
    sizes, states = pages("device_registration_state.query, top 1", registrations.query(GROUP, top=1))
    equal(sizes, [1, 1])
    equal(sorted(state["registrationId"] for state in states), [TOASTER, HEAT_PUMP])


def updates(keys):
    stale = groups.get(GROUP)
    twin = {"tags": {"building": 43}, "properties": {"desired": {"state": "unknown"}}}
    updated = ok(
        "enrollment_group.create_or_update, if_match",
        groups.create_or_update(GROUP, {**stale, "initialTwin": twin}, if_match=stale["etag"]),
        lambda group: f"etag {group['etag']}",
    )
    assert updated["etag"] != stale["etag"]
    equal(updated["createdDateTimeUtc"], stale["createdDateTimeUtc"])
    equal(updated["initialTwin"]["tags"]["building"], 43)
    refused(
        "enrollment_group.create_or_update, stale if_match",
        lambda: groups.create_or_update(GROUP, {**stale, "provisioningStatus": "disabled"}, if_match=stale["etag"]),
        HttpResponseError, 412, 412000,
    )
    # The keys were sent back empty, as the service shows them. The service keeps its keys and the webhook.
    equal(groups.get_attestation_mechanism(GROUP)["symmetricKey"], keys)
    provisioned(f"device {TOASTER} again, after the update", TOASTER, device_key(keys["primaryKey"], TOASTER), TOASTERS)

    def update(current, writer):
        twin = {"tags": {"writer": writer}, "properties": {"desired": {}}}
        try:
            groups.create_or_update(GROUP, {**current, "initialTwin": twin}, if_match=current["etag"])
            return 200
        except HttpResponseError as error:
            return error.status_code

    rounds = 20
    with ThreadPoolExecutor() as threads:
        for _ in range(rounds):
            current = groups.get(GROUP)
            outcomes = list(threads.map(update, [current] * 2, (0, 1)))
            equal(sorted(outcomes), [200, 412])
            equal(groups.get(GROUP)["initialTwin"]["tags"]["writer"], outcomes.index(200))
    listed(f"enrollment_group.create_or_update, two at once with one etag, {rounds} times", "each time done and HttpResponseError 412")


def bulks():
    sensors = ["sensor-1", "sensor-2", "sensor-3", "sensor-4", "sensor-5"]

    def bulk(call, mode, operands):
        operation = {"mode": mode, "enrollments": operands}
        return ok(f"enrollment.run_bulk_operation {call}", enrollments.run_bulk_operation(operation), errors_of)

    created = bulk("create, 5 new", "create", [individual(sensor) for sensor in sensors])
    equal((created["isSuccessful"], created["errors"]), (True, []))
    sizes, items = pages("enrollment.query, top 2", enrollments.query({"query": "SELECT * FROM enrollments"}, top=2))
    equal((sizes, sorted(item["registrationId"] for item in items)), ([2, 2, 1], sensors))
    _, items_of_groups = pages("enrollment_group.query", groups.query({"query": "SELECT *"}))
    equal([item["enrollmentGroupId"] for item in items_of_groups], [GROUP])

    again = bulk("create, 2 exist, 1 new", "create", [individual(sensor) for sensor in ("sensor-1", "sensor-6", "sensor-2")])
    equal((again["isSuccessful"], ids(again)), (False, ["sensor-1", "sensor-2"]))
    one, two, three = ({**item, "provisioningStatus": "disabled"} for item in items[:3])
    stale = {"etag": '"AAAAAAAAAAA="'}
    updated = bulk("updateIfMatchETag, 2 stale, 1 not", "updateIfMatchETag", [{**one, **stale}, two, {**three, **stale}])
    equal((updated["isSuccessful"], ids(updated)), (False, [one["registrationId"], three["registrationId"]]))
    statuses = [enrollments.get(item["registrationId"])["provisioningStatus"] for item in (one, two, three)]
    equal(statuses, ["enabled", "disabled", "enabled"])
    deleted = bulk(
        "delete, 6 exist, 2 do not", "delete", [individual(one) for one in [*sensors, "sensor-6", "nobody", "no-one"]]
    )
    equal(ids(deleted), ["nobody", "no-one"])

    created = ok(
        "enrollment_group.run_bulk_operation create, 1 exists, 1 new",
        groups.run_bulk_operation({
            "mode": "create",
            "enrollmentGroups": [
                {"enrollmentGroupId": one, "attestation": {"type": "symmetricKey"}} for one in (GROUP, "another-group")
            ],
        }),
        errors_of,
    )
    equal((created["isSuccessful"], ids(created)), (False, [GROUP]))
    ok("enrollment_group.delete, without an etag", groups.delete("another-group"))


def individuals():
    key = device_key("AAAA", "a key of its own")
    keys = {"primaryKey": key, "secondaryKey": key}
    meter = individual("meter-1", {"type": "symmetricKey", "symmetricKey": keys})
    meter |= {"deviceId": "meter-in-the-cellar", "allocationPolicy": "static", "iotHubs": [HEAT_PUMPS]}
    ok("enrollment.create_or_update, symmetric key", enrollments.create_or_update("meter-1", meter), lambda one: one["deviceId"])
    mechanism = ok(
        "enrollment.get_attestation_mechanism",
        enrollments.get_attestation_mechanism("meter-1"),
        lambda answer: f"{answer['type']}, the keys that were given",
    )
    equal(mechanism["symmetricKey"], keys)
    provisioned("device meter-1", "meter-1", key, HEAT_PUMPS)

    hub_of_two = {"allocationPolicy": "static", "iotHubs": [TOASTERS]}
    certificates = {"clientCertificates": {"primary": {"certificate": pem("front-door-lock.pem")}}}
    lock = individual("front-door-lock", {"type": "x509", "x509": certificates}) | hub_of_two
    ok(
        "enrollment.create_or_update, X.509",
        enrollments.create_or_update("front-door-lock", lock),
        lambda one: f"subject {one['attestation']['x509']['clientCertificates']['primary']['info']['subjectName']}",
    )
    shown = X509(certificate_file("front-door-lock.pem"), certificate_file("front-door-lock.key"))
    provisioned("device front-door-lock", "front-door-lock", shown, TOASTERS)

    certificates = {"signingCertificates": {"primary": {"certificate": pem("factory-ca.pem")}}}
    factory = {"enrollmentGroupId": "factory", "attestation": {"type": "x509", "x509": certificates}} | hub_of_two
    ok(
        "enrollment_group.create_or_update, X.509",
        groups.create_or_update("factory", factory),
        lambda one: f"subject {one['attestation']['x509']['signingCertificates']['primary']['info']['subjectName']}",
    )
    shown = X509(certificate_file("back-door-lock.pem"), certificate_file("back-door-lock.key"))
    provisioned("device back-door-lock, certified by the group's CA", "back-door-lock", shown, TOASTERS)

    tpm = individual("gateway-7", {"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}})
    ok("enrollment.create_or_update, TPM", enrollments.create_or_update("gateway-7", tpm), lambda one: one["attestation"]["type"])
    read = ok("enrollment.get", enrollments.get("gateway-7"), lambda one: one["attestation"]["type"])
    equal(read["attestation"]["tpm"]["endorsementKey"], ENDORSEMENT_KEY)
    ok("enrollment.delete, if_match", enrollments.delete("gateway-7", if_match=read["etag"]))
    refused("enrollment.get, deleted", lambda: enrollments.get("gateway-7"), ResourceNotFoundError, 404, 404201)


def deletions(keys):
    state = registrations.get(HEAT_PUMP)
    refused(
        "device_registration_state.delete, stale if_match",
        lambda: registrations.delete(HEAT_PUMP, if_match='"AAAAAAAAAAA="'),
        HttpResponseError, 412, 412000,
    )
    ok("device_registration_state.delete, if_match", registrations.delete(HEAT_PUMP, if_match=state["etag"]))
    refused(
        "device_registration_state.get, deleted", lambda: registrations.get(HEAT_PUMP), ResourceNotFoundError, 404, 404201
    )
    provisioned(f"device {HEAT_PUMP} registers again", HEAT_PUMP, device_key(keys["primaryKey"], HEAT_PUMP), HEAT_PUMPS)

    ok("enrollment_group.delete, if_match", groups.delete(GROUP, if_match=groups.get(GROUP)["etag"]))
    refused("enrollment_group.get, deleted", lambda: groups.get(GROUP), ResourceNotFoundError, 404, 404201)
    refusal = provision(TOASTER, device_key(keys["primaryKey"], TOASTER))
    assert "service error status code" in refusal, refusal
    listed(f"device {TOASTER}, its group deleted", refusal)


begin("azure-iot-deviceprovisioning 1.0.0b1 (Python)")
keys_of_group = group()
devices(keys_of_group)
updates(keys_of_group)
bulks()
individuals()
deletions(keys_of_group)
intruder = DeviceProvisioningClient.from_connection_string(WRONG_KEY)
refused("any call, a wrong key", lambda: intruder.enrollment_group.get(GROUP), ClientAuthenticationError, 401, 401000)
end("service SDK for Python")
