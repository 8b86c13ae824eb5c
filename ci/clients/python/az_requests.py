"""Sends the requests of `az iot dps … --login`, as recorded with azure-iot 0.25.0. The extension is not on PyPI, so the
script cannot run it. Each call is listed with its answer. ../run.sh starts this script."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import ssl
import time
from urllib.parse import quote, urlencode

from device import device_key, provision
from listing import CONNECTION_STRING, GROUP, HEAT_PUMPS, TOASTER, TOASTERS, WEBHOOK, begin, end, equal, length, listed

# az sends the query as the printed form of the object that contains it.
QUERY = {"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}

login = dict(field.split("=", 1) for field in CONNECTION_STRING.split(";"))
host = login["HostName"]


def token():
    resource, expiry = quote(host, safe=""), int(time.time()) + 600
    key = base64.b64decode(login["SharedAccessKey"])
    signature = base64.b64encode(hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest())
    fields = {"sig": signature, "se": expiry, "skn": login["SharedAccessKeyName"]}
    return f"SharedAccessSignature sr={resource}&{urlencode(fields)}"


def az(command, method, path, body=None, expected=200, **headers):
    """Sends a request, and lists it with its az command."""
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"]))
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers |= {"Accept": "application/json", "Content-Type": "application/json; charset=utf-8", "Authorization": token()}
    content = json.dumps(body) if body is not None else None
    connection.request(method, f"{path}?api-version=2021-10-01", content, headers)
    response = connection.getresponse()
    answer = response.read().decode()
    assert response.status == expected, f"{command}: {response.status} {answer}"
    more = response.getheader("x-ms-continuation")
    answer = json.loads(answer) if answer else None
    words = f", {len(answer)} items" if isinstance(answer, list) else ""
    words += ", and a continuation" if more else ""
    words += f", {answer['errorCode']} \"{answer['message']}\"" if expected >= 400 else ""
    listed(f"{command}: `{method} {path}`", f"{response.status}{words}")
    return (answer, more) if isinstance(answer, list) else answer


begin("az iot dps, extension azure-iot 0.25.0, its requests as recorded")
path = f"/enrollmentGroups/{GROUP}"
body = {
    "enrollmentGroupId": GROUP,
    "attestation": {"type": "symmetricKey", "symmetricKey": {}},
    "capabilities": {"iotEdge": False},
    "initialTwin": {"tags": {}, "properties": {"desired": {}}},
    "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
    "allocationPolicy": "custom",
    "iotHubs": [TOASTERS, HEAT_PUMPS],
    "customAllocationDefinition": {"webhookUrl": WEBHOOK, "apiVersion": "2019-03-31"},
}
az("enrollment-group create", "PUT", path, body)
shown = az("enrollment-group show", "GET", path)
mechanism = az("enrollment-group show --show-keys", "POST", f"{path}/attestationmechanism")
keys = mechanism["symmetricKey"]
equal(length(keys["primaryKey"]), 64)
items, _ = az("enrollment-group list", "POST", "/enrollmentGroups/query", QUERY)
equal([item["enrollmentGroupId"] for item in items], [GROUP])

equal(provision(TOASTER, device_key(keys["primaryKey"], TOASTER)), TOASTERS)
listed(f"device {TOASTER}", TOASTERS)
states, _ = az("enrollment-group registration list", "POST", f"/registrations/{GROUP}/query")
equal([state["registrationId"] for state in states], [TOASTER])
state = az("enrollment-group registration show", "GET", f"/registrations/{TOASTER}")
equal(state["assignedHub"], TOASTERS)

# update: reads the keys, and sends them back.
updated = az("enrollment-group update", "PUT", path, {**shown, "attestation": mechanism, "provisioningStatus": "disabled"}, If_Match="*")
equal(updated["provisioningStatus"], "disabled")
assert updated["etag"] != shown["etag"]
az("enrollment-group update --etag, stale", "PUT", path, {**shown, "attestation": mechanism}, 412, If_Match=shown["etag"])

for number in range(3):
    meter = {"registrationId": f"meter-{number}", "attestation": {"type": "symmetricKey", "symmetricKey": {}},
             "capabilities": {"iotEdge": False}, "initialTwin": {"tags": {}, "properties": {"desired": {}}},
             "optionalDeviceInformation": {}}
    az("enrollment create", "PUT", f"/enrollments/meter-{number}", meter)
items, more = az("enrollment list --top 2", "POST", "/enrollments/query", QUERY, x_ms_max_item_count="2")
equal((len(items), bool(more)), (2, True))
rest, more = az("its next page", "POST", "/enrollments/query", QUERY, x_ms_max_item_count="2", x_ms_continuation=more)
equal((sorted(item["registrationId"] for item in items + rest), more), (["meter-0", "meter-1", "meter-2"], None))
az("enrollment delete", "DELETE", "/enrollments/meter-0", None, 204, If_Match="*")
az("enrollment show, deleted", "GET", "/enrollments/meter-0", None, 404)
az("registration delete", "DELETE", f"/registrations/{TOASTER}", None, 204, If_Match="*")
az("enrollment-group delete", "DELETE", path, None, 204, If_Match="*")
az("enrollment-group show, deleted", "GET", path, None, 404)
end("requests of az")
