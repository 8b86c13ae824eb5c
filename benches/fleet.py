#!/usr/bin/env python3
"""What a fleet costs: 10, 100, 1 000 and 2 000 devices at the same time, through custom allocation and
over TLS, while 1 % of the answers get lost and 1 % of the webhook's calls are throttled.

    python3 benches/fleet.py [--json] [--devices 10,100] [--transport mqtt] [--idle]
    python3 benches/fleet.py --quota 100 --devices 250
    python3 benches/fleet.py --data --devices 2000,2000,2000

Builds the emulator and the example `fleet` with optimizations, and starts a new emulator for each
number. The emulator asks for 1 s between polls. Prints the table of the README, as Markdown; --json has
more: the answers lost, the devices that registered again because of that, and the webhook's refusals.

With --quota the emulator allows so many registrations a minute, and nothing gets lost or throttled
besides. The table then is about the refused calls: status 429. The first wave is the first call of each
device.

With --data each number is measured twice: in memory, and with the emulator's --data. The folder is in
the system's folder for temporary files. After the second run the emulator is started again from its
folder: once as it was stopped, once as a SIGKILL leaves it.

Exits with 1 if a device is not assigned exactly once: the device was told of one assignment, a look-up
afterwards names the same hub and device ID, no answer ever named another hub for it, and no other
device has its identity. (The service assigns a device that registers again to the same hub.)

Needs Linux: memory and processor time come from /proc."""

import argparse
import collections
import glob
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


def run(devices, transport, quota):
    trouble = ["--registrations-per-minute", quota] if quota else ["--drop-every", EVERY, "--throttle-webhook-every", EVERY]
    with tempfile.TemporaryDirectory() as directory:
        emulator = Emulator(directory, *trouble)
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
    parser.add_argument("--idle", action="store_true", help="measure idle connections too")
    arguments = parser.parse_args()
    for package in [["-p", "azure-dps-emulator", "--bin", "dps-emulator"], ["-p", "azure-dps", "--example", "fleet"]]:
        subprocess.run(["cargo", "build", "--quiet", "--release", *package], cwd=ROOT, check=True)

    runs = []
    for devices in map(int, arguments.devices.split(",")):
        each = run(devices, arguments.transport, arguments.quota)
        runs.append(each)
        if arguments.json:
            continue
        if len(runs) == 1:
            header = QUOTA_HEADER if arguments.quota else HEADER
            print(header, re.sub(r"[^|]+", "---", header), sep="\n")
        latency, emulator, fleet, refused = (each[name] for name in ["latencySeconds", "emulator", "fleet", "refusedCalls"])
        number = lambda count: f"{count:,}".replace(",", " ")
        cells = [number(devices), number(each["assigned"])]
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
