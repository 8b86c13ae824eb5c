"""Provisions the tutorial's devices through Microsoft's own client for Python, over MQTT and over
MQTT over WebSocket, each over TLS, against the emulator: the toaster, the heat pump, an unknown
device, and one with a wrong key.

    cargo build -p azure-dps-emulator && cd emulator/interop/python
    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python provision.py

The client has fixed ports, 8883 and 443: nothing else may listen there, and the second needs
leave to do so (root, or `sysctl net.ipv4.ip_unprivileged_port_start=443`). DPS_EMULATOR names the
program, where it is not in the workspace's target/debug.
"""

import base64
import hashlib
import hmac
import os
import pathlib
import subprocess
import sys
import tempfile

from azure.iot.device import ProvisioningDeviceClient

GROUP_KEY = base64.b64decode("oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==")
TOASTER = "breakroom499-contoso-tstrsd-007"
HEAT_PUMP = "mainbuilding167-contoso-hpsd-088"
CASES = [
    (TOASTER, TOASTER, "contoso-toasters-hub-1098.azure-devices.net"),
    (HEAT_PUMP, HEAT_PUMP, "contoso-heatpumps-hub-1098.azure-devices.net"),
    # The client does not hand on the service's codes.
    ("contoso-unknown-1", "contoso-unknown-1", "a failed registration status"),
    (TOASTER, HEAT_PUMP, "service error status code 401"),
]

here = pathlib.Path(__file__).resolve().parent
program = os.environ.get("DPS_EMULATOR", here / "../../../target/debug/dps-emulator")


def outcome(registration_id, key_for, ca, websockets):
    key = base64.b64encode(hmac.new(GROUP_KEY, key_for.encode(), hashlib.sha256).digest()).decode()
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        "localhost", registration_id, "0ne00002193", key, server_verification_cert=ca, websockets=websockets
    )
    client.provisioning_payload = {"MyDeviceFirmwareVersion": "12.0.2.5"}
    try:
        result = client.register()
    except Exception as error:
        # The service's own words are in the cause of the cause.
        words = []
        while error:
            words.append(str(error))
            error = error.__cause__
        return " / ".join(words)
    state = result.registration_state
    return state.assigned_hub if result.status == "assigned" else str(state)


ca_file = pathlib.Path(tempfile.mkdtemp()) / "ca.pem"
command = [program, "--mqtts", "127.0.0.1:8883", "--https", "127.0.0.1:443", "--ca-out", ca_file, "--retry-after", "1", "--json"]
failed = 0
with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emulator:
    for line in emulator.stdout:
        if '"wss"' in line:
            break
    else:
        sys.exit(emulator.stderr.read())
    try:
        for websockets in (False, True):
            for registration_id, key_for, expected in CASES:
                seen = outcome(registration_id, key_for, ca_file.read_text(), websockets)
                ok = expected in seen
                failed += not ok
                over = "MQTT over WebSocket" if websockets else "MQTT"
                print("ok    " if ok else "FAILED", over, registration_id, "with the key of", key_for, "->", seen)
    finally:
        emulator.terminate()
sys.exit(failed)
