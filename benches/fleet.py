#!/usr/bin/env python3
"""What a fleet costs: 10, 100, 1 000 and 2 000 devices at the same time, through custom allocation and
over TLS, while 1 % of the answers get lost and 1 % of the webhook's calls are throttled.

    python3 benches/fleet.py [--json] [--devices 10,100] [--transport mqtt] [--idle]
    python3 benches/fleet.py --quota 100 --devices 250
    python3 benches/fleet.py --data --devices 2000
    python3 benches/fleet.py --open 100000

Builds the emulator and the example `fleet` with optimizations, and starts a new emulator for each
number. The emulator asks for 1 s between polls. Prints the table of the README, as Markdown; --json has
more: the answers lost, the devices that registered again because of that, and the webhook's refusals.

With --quota the emulator allows so many registrations a minute, and nothing gets lost or throttled
besides. The table then is about the refused calls: status 429. The first wave is the first call of each
device.

With --data each number is measured twice: in memory, and with the emulator's --data. The folder is in
the system's folder for temporary files.

With --open the emulator registers so many devices over HTTP with --data, one request each. Then it is
stopped and started again, and killed and started again. Prints how long both starts take, and the memory
and the folder's size then.

Exits with 1 if a device is not assigned exactly once: the device was told of one assignment, a look-up
afterwards names the same hub and device ID, no answer ever named another hub for it, and no other
device has its identity. (The service assigns a device that registers again to the same hub.)

Needs Linux: memory and processor time come from /proc."""

import argparse
import base64
import collections
import glob
import hmac
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
# The tutorial's; no secret.
KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
EVERY = "100"
# The README's.
HEADER = "| devices at once | assigned, once each | a second | latency: p50, p99, max | CPU for each: emulator, device | the emulator's memory |"
QUOTA_HEADER = "| devices at once | assigned, once each | seconds | refused calls of a device: mean, most | most refused in a second, after the first wave |"


class Emulator:
    def __init__(self, directory, *arguments):
        started = time.monotonic()
        self.ca = os.path.join(directory, "ca.pem")
        self.log = os.path.join(directory, "log")
        command = [os.path.join(TARGET, "dps-emulator"), "--json", "--retry-after", "1", "--ca-out", self.ca,
                   "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", *arguments]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE)
        self.urls = {}
        while "wss" not in self.urls:
            if self.process.poll() is not None:
                sys.exit(self.process.stderr.read().decode())
            time.sleep(0.02)
            self.urls = {line["listener"]: line["url"] for line in self.lines() if "listener" in line}
        self.started_in = time.monotonic() - started

    def lines(self):
        with open(self.log) as log:
            # The last line may be half there.
            return [json.loads(line) for line in log if line.endswith("\n")]

    def memory(self, what):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what)) * 1024

    def processor_seconds(self):
        threads = glob.glob(f"/proc/{self.process.pid}/task/*/schedstat")
        return sum(int(open(thread).read().split()[0]) for thread in threads) / 1e9

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """How long it takes to end, and what it has to say then."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate()[1].decode()
        if self.process.returncode != 0 or said:
            sys.exit(f"the emulator ended with {self.process.returncode}: {said}")
        return time.monotonic() - started


def run(devices, transport, quota, is_kept):
    trouble = ["--registrations-per-minute", quota] if quota else ["--drop-every", EVERY, "--throttle-webhook-every", EVERY]
    with tempfile.TemporaryDirectory() as directory:
        data = ["--data", os.path.join(directory, "data")] if is_kept else []
        emulator = Emulator(directory, *trouble, *data)
        at_rest, before = emulator.memory("VmRSS"), emulator.processor_seconds()
        url = {"http": emulator.urls["https"], "mqtt": emulator.urls["mqtts"].replace("mqtts", "https")}[transport]
        command = [os.path.join(TARGET, "examples", "fleet"), "--id-scope", "0ne00002193", "--devices", str(devices),
                   "--registration-id", "fleet-{}-contoso-tstrsd-007", "--host", url, "--transport", transport,
                   "--ca", emulator.ca, "--json", *(["--verify"] if transport == "http" else [])]
        fleet = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"AZURE_DPS_SYMMETRIC_KEY": KEY})
        report = json.loads(fleet.stdout.read())
        _, _, usage = os.wait4(fleet.pid, 0)
        processor_seconds, peak = emulator.processor_seconds() - before, emulator.memory("VmHWM")
        stopped = emulator.stop()
        lines = emulator.lines()

    told, hubs, registered, lost = collections.Counter(), collections.defaultdict(set), collections.Counter(), 0
    refused, refused_in_second = collections.Counter(), collections.Counter()
    for request in (line["request"] for line in lines if "request" in line):
        device = request["registrationId"]
        lost += request["httpStatus"] is None and "cut after" in request["outcome"]
        registered[device] += request["method"] == "PUT"
        if request["httpStatus"] == 429:
            refused[device] += 1
            # RFC 3339 to the second.
            refused_in_second[request["at"][:19]] += registered[device] > 1
        body = json.loads(request["responseBody"] or "{}")
        state = body.get("registrationState") or body
        if state.get("assignedHub"):
            hubs[device].add((state["assignedHub"], state["deviceId"]))
            told[device] += request["method"] == "GET" and request["httpStatus"] == 200
    throttled = sum(line["webhook"]["status"] == 429 for line in lines if "webhook" in line)
    faults = [
        what for what, wrong in {
            "not assigned": report["assigned"] != devices,
            "shared identities": report["sharedIdentities"] > 0,
            "the look-up disagrees": transport == "http" and report["verification"]["same"] != devices,
            "not told exactly once": list(told.values()) != [1] * devices,
            "assigned to two hubs": any(len(seen) != 1 for seen in hubs.values()),
            "refused calls miscounted": report["refusedCalls"] != refused.total(),
        }.items() if wrong
    ]
    return {
        "devices": devices,
        "isKept": is_kept,
        "assigned": report["assigned"],
        "faults": faults,
        "registeredAgain": sum(registered.values()) - devices,
        "answersLost": lost,
        "webhookThrottled": throttled,
        "retries": report["retries"],
        "refusedCalls": {
            "mean": refused.total() / devices,
            "most": max(refused.values(), default=0),
            "mostInASecondAfterTheFirstWave": max(refused_in_second.values(), default=0),
        },
        "seconds": report["seconds"],
        "devicesPerSecond": report["devicesPerSecond"],
        "latencySeconds": report["latencySeconds"],
        "emulator": {
            "peakBytes": peak,
            "bytesPerDevice": (peak - at_rest) / devices,
            "processorSecondsPerDevice": processor_seconds / devices,
            "stoppedInSeconds": stopped,
        },
        "fleet": {
            "peakBytes": usage.ru_maxrss * 1024,
            "processorSecondsPerDevice": (usage.ru_utime + usage.ru_stime) / devices,
        },
    }


def reopen(devices):
    """How long the emulator takes to start with so many devices: as it was stopped, and as it was killed."""
    def token(device):
        key = hmac.digest(base64.b64decode(KEY), device.encode(), "sha256")
        resource, expiry = f"0ne00002193%2Fregistrations%2F{device}", int(time.time()) + 3600
        signature = base64.b64encode(hmac.digest(key, f"{resource}\n{expiry}".encode(), "sha256"))
        return f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote_plus(signature)}&se={expiry}"

    with tempfile.TemporaryDirectory() as directory:
        configuration, folder = os.path.join(directory, "config.toml"), os.path.join(directory, "data")
        with open(configuration, "w") as file:
            file.write(f"""
                id_scope = "0ne00002193"
                linked_hubs = ["contoso-toasters-hub-1098.azure-devices.net"]
                behaviour = {{ result_at_once = true }}
                [[enrollment_groups]]
                enrollment_group_id = "all"
                primary_key = "{KEY}"
                initial_twin = {{ tags = {{ site = "north" }}, desired = {{ interval = 60, colour = "blue" }} }}
                """)
        arguments = ["--data", folder, "--config", configuration, "--control", "none"]
        emulator = Emulator(directory, *arguments)
        connection = http.client.HTTPConnection(emulator.urls["http"].split("://")[1])
        began = time.monotonic()
        for number in range(devices):
            device = f"device-{number:06}-of-the-fleet"
            connection.request("PUT", f"/0ne00002193/registrations/{device}/register?api-version=2021-06-01", "{}",
                               {"Authorization": token(device), "Content-Type": "application/json"})
            response = connection.getresponse()
            if b'"assigned"' not in response.read():
                sys.exit(f"{device} is not assigned: {response.status}")
        filled = time.monotonic() - began
        emulator.stop()
        stopped = Emulator(directory, *arguments)
        costs = {"devices": devices, "registeredInSeconds": filled, "openBytes": stopped.memory("VmHWM"),
                 "folderBytes": os.stat(os.path.join(folder, "emulator.redb")).st_blocks * 512,
                 "startedInSeconds": {"stopped": stopped.started_in}}
        stopped.kill()
        killed = Emulator(directory, *arguments)
        costs["startedInSeconds"]["killed"] = killed.started_in
        killed.kill()
    return costs


def idle():
    """What a connection that says nothing costs the emulator."""
    number = 1000
    costs = {}
    with tempfile.TemporaryDirectory() as directory:
        emulator = Emulator(directory)
        context = ssl.create_default_context(cafile=emulator.ca)

        def connect(listener):
            host, port = emulator.urls[listener].split("://")[1].split(":")
            plain = socket.create_connection(("127.0.0.1", int(port)))
            return plain if listener == "http" else context.wrap_socket(plain, server_hostname=host)

        held = []
        for listener in ["http", "https", "mqtts"]:
            # What the first ones cost is the allocator's. None is closed, or the next would have its memory.
            held += [connect(listener) for _ in range(100)]
            time.sleep(0.5)
            before = emulator.memory("VmRSS")
            held += [connect(listener) for _ in range(number)]
            time.sleep(1)
            costs[listener] = (emulator.memory("VmRSS") - before) / number
        emulator.stop()
    return costs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--devices", default="10,100,1000,2000", help="how many, with commas between")
    parser.add_argument("--transport", choices=["http", "mqtt"], default="http")
    parser.add_argument("--quota", metavar="N", help="registrations that the emulator allows in a minute")
    parser.add_argument("--data", action="store_true", help="measure each number with --data, too")
    parser.add_argument("--open", type=int, metavar="N", help="only measure how long a start with N devices takes")
    parser.add_argument("--idle", action="store_true", help="measure idle connections too")
    arguments = parser.parse_args()
    for package in [["-p", "azure-dps-emulator", "--bin", "dps-emulator"], ["-p", "azure-dps", "--example", "fleet"]]:
        subprocess.run(["cargo", "build", "--quiet", "--release", *package], cwd=ROOT, check=True)

    if arguments.open:
        print(json.dumps(reopen(arguments.open)))
        return

    runs = []
    numbers = map(int, arguments.devices.split(","))
    for devices, is_kept in [(number, kept) for number in numbers for kept in [False, True][:1 + arguments.data]]:
        each = run(devices, arguments.transport, arguments.quota, is_kept)
        runs.append(each)
        if arguments.json:
            continue
        if len(runs) == 1:
            header = QUOTA_HEADER if arguments.quota else HEADER
            print(header, re.sub(r"[^|]+", "---", header), sep="\n")
        latency, emulator, fleet, refused = (each[name] for name in ["latencySeconds", "emulator", "fleet", "refusedCalls"])
        number = lambda count: f"{count:,}".replace(",", " ")
        cells = [number(devices) + (", with --data" if is_kept else ""), number(each["assigned"])]
        if arguments.quota:
            cells += [f"{each['seconds']:.0f}", f"{refused['mean']:.1f}, {refused['most']}",
                      str(refused["mostInASecondAfterTheFirstWave"])]
        else:
            cells += [f"{each['devicesPerSecond']:.1f}",
                      ", ".join(f"{latency[name]:.1f} s" for name in ["p50", "p99", "max"]),
                      ", ".join(f"{part['processorSecondsPerDevice'] * 1e3:.1f} ms" for part in [emulator, fleet]),
                      f"{emulator['peakBytes'] / 1e6:.0f} MB"]
        print("| " + " | ".join(cells) + " |", flush=True)
        for fault in each["faults"]:
            print(f"{devices} devices: {fault}", file=sys.stderr)
    costs = idle() if arguments.idle else None
    if arguments.json:
        print(json.dumps({"transport": arguments.transport, "runs": runs, "idleConnectionBytes": costs}))
    elif costs:
        print("an idle connection, in KB: " + ", ".join(f"{name} {cost / 1e3:.1f}" for name, cost in costs.items()))
    sys.exit(any(each["faults"] for each in runs))


if __name__ == "__main__":
    main()
