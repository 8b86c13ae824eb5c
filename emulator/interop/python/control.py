"""What the operator does and sees: the control API of the emulator."""

import json
import os
import time
import urllib.request


def call(method, path, body=None):
    content = json.dumps(body).encode() if body is not None else None
    url = f"{os.environ['DPS_CONTROL']}/_emulator/{path}"
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def device(registration_id):
    return call("GET", f"devices/{registration_id}")


def set_desired(registration_id, desired):
    call("POST", f"devices/{registration_id}/twin", {"desired": desired})


def disable(registration_id):
    call("POST", f"devices/{registration_id}/hub/disable", {})


def enable(registration_id):
    call("POST", f"devices/{registration_id}/hub/enable", {})


def remove_from_hub(registration_id):
    call("DELETE", f"devices/{registration_id}/hub")


def telemetry(registration_id):
    """The messages that the device sent: their properties and bodies."""
    messages = call("GET", f"devices/{registration_id}/telemetry")["messages"]
    return [({one["name"]: one["value"] for one in message["properties"]}, message["body"]) for message in messages]


def disconnect(registration_id):
    call("POST", f"devices/{registration_id}/hub/disconnect", {})


def set_behaviour(**switches):
    call("POST", "behaviour", switches)


def until(what, condition):
    """What the condition returns, as soon as it is true."""
    for _ in range(150):
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not for 15 s")


def connected(registration_id):
    until(f"{registration_id} connected", lambda: device(registration_id)["hub"]["connectionState"] == "connected")


def requests(registration_id, method, count=1):
    """Waits until the device sent so many requests with this method to its hub. Returns them."""

    def enough():
        its = [
            request
            for request in call("GET", "requests?limit=1000")["requests"]
            if request.get("hub") and request["registrationId"] == registration_id and request["method"] == method
        ]
        return len(its) >= count and its

    return until(f"{count} {method} of {registration_id}", enough)
