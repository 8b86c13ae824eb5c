"""Registers a device of the tutorial over HTTP, so that the control API has data for Schemathesis.

    register.py URL"""

import base64
import hashlib
import hmac
import json
import sys
import time
import urllib.request
from urllib.parse import quote

GROUP_KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
SCOPE, DEVICE = "0ne00002193", "breakroom499-contoso-tstrsd-007"


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


resource, expiry = quote(f"{SCOPE}/registrations/{DEVICE}", safe=""), int(time.time()) + 600
signature = quote(base64.b64encode(sign(sign(base64.b64decode(GROUP_KEY), DEVICE), f"{resource}\n{expiry}")), safe="")
headers = {
    "Authorization": f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=registration",
    "Content-Type": "application/json",
}


def send(method, path, body=None):
    url = f"{sys.argv[1]}/{SCOPE}/registrations/{DEVICE}/{path}?api-version=2021-06-01"
    content = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, content, headers, method=method)) as response:
        return json.load(response)


operation = send("PUT", "register", {"registrationId": DEVICE})["operationId"]
for _ in range(50):
    state = send("GET", f"operations/{operation}")
    if state["status"] != "assigning":
        break
    time.sleep(0.1)
if state["status"] != "assigned":
    sys.exit(f"{DEVICE}: {state}")
