#!/usr/bin/env python3
"""A device that provisions itself over HTTP. It needs only Python's standard library.

    device.py URL REGISTRATION_ID [PAYLOAD]

The device belongs to the enrollment group of Microsoft's tutorial "Use custom allocation policies". PAYLOAD is a JSON
object for the webhook. For https, SSL_CERT_FILE names the file of --ca-out.
"""

import base64, hashlib, hmac, json, sys, time
from urllib import error, parse, request

ID_SCOPE = "0ne00002193"
# The tutorial's group key, which is public. A real device has its own device key and never the group key.
GROUP_KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="

url, registration_id, *payload = sys.argv[1:]
resource = f"{ID_SCOPE}/registrations/{registration_id}"


def sign(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def token():
    device_key = sign(GROUP_KEY, registration_id)
    audience, expiry = parse.quote(resource, safe=""), int(time.time()) + 3600
    signature = parse.quote(sign(device_key, f"{audience}\n{expiry}"), safe="")
    return f"SharedAccessSignature sr={audience}&sig={signature}&se={expiry}&skn=registration"


def ask(method, path, body=None):
    """Sends a request, up to five times. Returns the answer and the seconds to wait."""
    headers = {"Authorization": token(), "Content-Type": "application/json"}
    address = f"{url}/{resource}/{path}?api-version=2021-06-01"
    for attempt in range(5):
        try:
            with request.urlopen(request.Request(address, body, headers, method=method), timeout=30) as answer:
                return json.load(answer), int(answer.headers.get("Retry-After", 2))
        except error.HTTPError as refusal:
            if refusal.code != 429 and refusal.code < 500:
                sys.exit(f"rejected: {refusal.read().decode()}")
            time.sleep(int(refusal.headers.get("Retry-After", 1 << attempt)))
        except OSError:  # no connection, or the connection broke
            time.sleep(1 << attempt)
    sys.exit("no answer")


registration = {"registrationId": registration_id, **({"payload": json.loads(payload[0])} if payload else {})}
answer, wait = ask("PUT", "register", json.dumps(registration).encode())
while answer["status"] == "assigning":
    time.sleep(wait)
    answer, wait = ask("GET", f"operations/{answer['operationId']}")

state = answer.get("registrationState", {})
if answer["status"] != "assigned":
    sys.exit(f"{answer['status']}: {state.get('errorCode')} {state.get('errorMessage')}")
print(f"{state['assignedHub']} {state['deviceId']} {json.dumps(state.get('payload'))}")
