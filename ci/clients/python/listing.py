"""The list of calls and answers, and values that all Python sequences use."""

import base64
import os
import pathlib

TOASTERS = "contoso-toasters-hub-1098.azure-devices.net"
HEAT_PUMPS = "contoso-heatpumps-hub-1098.azure-devices.net"
TOASTER = "breakroom499-contoso-tstrsd-007"
HEAT_PUMP = "mainbuilding167-contoso-hpsd-088"
GROUP = "contoso-custom-allocated-devices"
ENDORSEMENT_KEY = (pathlib.Path(__file__).resolve().parent.parent / "endorsement-key.txt").read_text().strip()
CONNECTION_STRING = os.environ["DPS_CONNECTION_STRING"]
WRONG_KEY = CONNECTION_STRING[: CONNECTION_STRING.index("SharedAccessKey=")] + "SharedAccessKey=AAAA"
WEBHOOK = os.environ.get("DPS_WEBHOOK")

calls = 0


def certificate_file(name):
    return os.path.join(os.environ["DPS_CERTIFICATES"], name)


def pem(name):
    return pathlib.Path(certificate_file(name)).read_text()


def begin(client):
    print(f"| {client} | answer |\n| --- | --- |")


def listed(call, answer):
    global calls
    calls += 1
    print(f"| {call} | {answer} |")


def end(client):
    print(f"\n{client}: {calls} passed, 0 failed\n")


def ok(call, answer, words=lambda answer: "done"):
    """Lists a successful call. `words` converts the answer to the printed text."""
    listed(call, words(answer))
    return answer


def equal(left, right):
    assert left == right, f"{left!r} is not {right!r}"


def length(key):
    return len(base64.b64decode(key))
