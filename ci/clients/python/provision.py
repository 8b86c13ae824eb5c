"""Provisions devices with Microsoft's client for Python, over MQTT and over MQTT over WebSocket, both with TLS: the
toaster, the heat pump, an unknown device, and a device with a wrong key. ../run.sh starts this script."""

import sys
from concurrent.futures import ThreadPoolExecutor

from device import device_key, provision

GROUP_KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
TOASTER = "breakroom499-contoso-tstrsd-007"
HEAT_PUMP = "mainbuilding167-contoso-hpsd-088"
CASES = [
    (TOASTER, TOASTER, "contoso-toasters-hub-1098.azure-devices.net"),
    (HEAT_PUMP, HEAT_PUMP, "contoso-heatpumps-hub-1098.azure-devices.net"),
    # The client does not report the service's error codes.
    ("contoso-unknown-1", "contoso-unknown-1", "a failed registration status"),
    (TOASTER, HEAT_PUMP, "service error status code 401"),
]

failures = 0
for websockets in (False, True):
    with ThreadPoolExecutor() as threads:
        outcomes = threads.map(lambda case: provision(case[0], device_key(GROUP_KEY, case[1]), websockets), CASES)
    failed = 0
    for (registration_id, key_for, expected), seen in zip(CASES, outcomes):
        if expected not in seen:
            failed += 1
            print("FAILED", registration_id, "with the key of", key_for, "->", seen)
    name = "MQTT over WebSocket" if websockets else "MQTT"
    print(f"Microsoft's {name} client for Python: {len(CASES) - failed} passed, {failed} failed")
    failures += failed
sys.exit(failures > 0)
