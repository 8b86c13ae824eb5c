#!/usr/bin/env python3
"""A custom allocation webhook. It needs only Python's standard library.

    webhook.py [PORT]

The device sends its model in its payload: {"modelId": "toaster-007"}. The model decides the hub.
FUNCTION_KEY, if set, is the key that callers must send as ?code=KEY.
"""

import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FUNCTION_KEY = os.environ.get("FUNCTION_KEY")
# The model, a part of the hub's name, and the first desired properties.
MODELS = {
    "toaster-007": ("-toasters-", {"state": "ready", "darknessSetting": "medium"}),
    "heatpump-088": ("-heatpumps-", {"state": "on", "temperatureSetting": "65"}),
}


def allocate(request):
    """Returns the HTTP status and the body: an AllocationResponse, or the reason of a rejection."""
    device = request["deviceRuntimeContext"]
    model = device.get("payload", {}).get("modelId")
    if model not in MODELS:
        return 400, f"model {model!r} is unknown"
    part, desired = MODELS[model]
    hub = next((hub for hub in request["linkedHubs"] if part in hub), None)
    if hub is None:
        return 400, f"no hub for model {model!r} is linked"
    return 200, {
        "iotHubHostName": hub,
        "initialTwin": {"tags": {"model": model}, "properties": {"desired": desired}},
        "payload": {"firstVisit": "currentIotHubHostName" not in device},
    }


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = parse_qs(urlsplit(self.path).query).get("code", [None])[0]
        status, answer = (401, "wrong function key") if FUNCTION_KEY not in (None, code) else allocate(json.loads(body))
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code="-", size="-"):
        """Logs nothing: the request line has the function key."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if sys.argv[1:] else 7071
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        sys.exit(f"cannot listen on 127.0.0.1:{port}: {error}. Give another port: webhook.py PORT")
    print(f"listening on http://127.0.0.1:{server.server_port}/api/allocate", flush=True)
    server.serve_forever()
