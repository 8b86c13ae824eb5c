"""The operator: calls of the emulator's control API."""

import atexit
import json
import os
import pathlib
import signal
import subprocess
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
    """Returns the properties and the body of each message that the device sent."""
    messages = call("GET", f"devices/{registration_id}/telemetry")["messages"]
    return [({one["name"]: one["value"] for one in message["properties"]}, message["body"]) for message in messages]


def disconnect(registration_id):
    call("POST", f"devices/{registration_id}/hub/disconnect", {})


def set_behaviour(**switches):
    call("POST", "behaviour", switches)


def restart():
    """Kills the emulator with SIGKILL, and starts it again with the same arguments."""
    pid = os.environ["DPS_PID"]
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    os.kill(int(pid), signal.SIGKILL)
    log = open(os.path.join(os.environ["DPS_WORK"], "dps-emulator.out"), "a")
    emulator = None

    def runs():
        nonlocal emulator
        # The ports may be in use until the killed emulator has ended.
        if emulator is None or emulator.poll() is not None:
            emulator = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            return call("GET", "health")
        except OSError:
            return None

    until("the emulator runs", runs)
    atexit.register(emulator.terminate)


def until(what, condition):
    """Waits until the condition is true. Returns its value."""
    for _ in range(300):
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within 30 s")


def requests(registration_id, method, count=1):
    """Waits until the device has sent this number of requests with the method to its hub. Returns them."""

    def enough():
        its = [
            request
            for request in call("GET", "requests?limit=1000")["requests"]
            if request.get("hub") and request["registrationId"] == registration_id and request["method"] == method
        ]
        return len(its) >= count and its

    return until(f"{count} {method} of {registration_id}", enough)
