#!/usr/bin/env python3
"""Measures the cost of a fleet: 10, 100, 1 000 and 2 000 devices at the same time, with custom allocation and TLS.
1 % of the answers get lost, and 1 % of the webhook's calls are throttled.

    python3 benches/fleet.py [--json] [--devices 10,100] [--transport mqtt] [--idle]
    python3 benches/fleet.py --quota 100 --devices 250
    python3 benches/fleet.py --data --devices 2000
    python3 benches/fleet.py --open 100000
    python3 benches/fleet.py --connect --devices 2000

Builds the emulator and the example `fleet` with optimizations. Starts a new emulator for each number of devices. The
emulator asks the devices to poll every second. Prints the table of docs/evidence/fleet.md. --json also has the number
of lost answers, of devices that registered again for this reason, and of throttled calls of the webhook.

With --quota, the emulator allows this number of registrations a minute. No answer gets lost, and no call of the webhook
is throttled. The table then counts the refused calls (status 429). The first wave is the first call of each device.

With --data, each number of devices is measured twice: in memory, and with the emulator's --data. The folder is in the
system's folder for temporary files.

With --open, this number of devices registers over HTTP at an emulator with --data, one request each. Then the emulator
is stopped and started, and killed and started. Prints the time of both starts, the memory, and the size of the folder.

With --connect, the devices also connect to their hubs, over plain MQTT and over TLS, all at the same time. Each device
reads its twin, reports a property and sends a message. Prints the cost of a connected device. Then the same with
--data: each device reports every second. The emulator is killed and started again while all devices are connected.
Then an operator changes a desired property of each device. The exit code is 1 in each of these cases:
- an accepted report is lost
- a device is not connected again, has another hub, or must subscribe again
- a device does not receive the change

The exit code is also 1 if a device is not assigned exactly once. This means: the device got one assignment, a look-up
afterwards returns the same hub and device ID, no answer named another hub, and no other device has the same identity.
(If a device registers again, the service assigns the same hub.)

Needs Linux, because memory and processor time come from /proc."""

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
# The tutorial's public keys.
KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
EVERY = "100"
# The header of the table in the documentation.
HEADER = "| devices at once | assigned, once each | a second | latency: p50, p99, max | CPU for each: emulator, device | the emulator's memory |"
QUOTA_HEADER = "| devices at once | assigned, once each | seconds | refused calls of a device: mean, most | most refused in a second, after the first wave |"


CONNECT_HEADER = "| connected at the same time | a second | latency: p50, p99, max | CPU for each: emulator, device | the emulator's memory for each |"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Emulator:
    def __init__(self, directory, *arguments, ports=None):
        ports = ports or {name: 0 for name in ["http", "https", "mqtts"]}
        started = time.monotonic()
        self.ca = os.path.join(directory, "ca.pem")
        self.log = os.path.join(directory, "log")
        command = [os.path.join(TARGET, "dps-emulator"), "--json", "--retry-after", "1", "--ca-out", self.ca, *arguments]
        for name, port in ports.items():
            command += ["--" + name, f"127.0.0.1:{port}"]
        # A second start appends to the same file.
        with open(self.log, "a") as log:
            began = log.tell()
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE)
        self.urls = {}
        self.began = began
        while "wss" not in self.urls:
            if self.process.poll() is not None:
                sys.exit(self.process.stderr.read().decode())
            time.sleep(0.02)
            self.urls = {line["listener"]: line["url"] for line in self.lines() if "listener" in line}
        self.started_in = time.monotonic() - started

    def lines(self):
        with open(self.log) as log:
            log.seek(self.began)
            # The last line may be incomplete, so it is ignored.
            return [json.loads(line) for line in log if line.endswith("\n")]

    def memory(self, what):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what)) * 1024

    def processor_seconds(self):
        threads = glob.glob(f"/proc/{self.process.pid}/task/*/schedstat")
        return sum(int(open(thread).read().split()[0]) for thread in threads) / 1e9

    def connections(self):
        # The listeners and other files of the emulator are about 16.
        return len(os.listdir(f"/proc/{self.process.pid}/fd")) - 16

    def control(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.urls["control"].split("://")[1])
        connection.request(method, "/_emulator/" + path, body and json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status != 200:
            sys.exit(f"{method} {path}: {response.status} {answer}")
        return answer

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Stops the emulator. Returns the time that this takes. Any output is a failure."""
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
            # RFC 3339 timestamps, cut to the second.
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
            "another answer to the look-up": transport == "http" and report["verification"]["same"] != devices,
            "not exactly one assignment": list(told.values()) != [1] * devices,
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


def fleet_command(emulator, devices, *arguments):
    command = [os.path.join(TARGET, "examples", "fleet"), "--id-scope", "0ne00002193", "--devices", str(devices),
               "--registration-id", "fleet-{}-contoso-tstrsd-007", "--host", emulator.urls["https"], "--ca", emulator.ca,
               "--concurrency", "200", "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"AZURE_DPS_SYMMETRIC_KEY": KEY})


def finish(fleet):
    """Waits for the fleet to end. Returns its report, its exit code and its processor time."""
    report = json.loads(fleet.stdout.read())
    _, status, usage = os.wait4(fleet.pid, 0)
    return report, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def wait_until(what, is_true):
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > 300:
            sys.exit(f"not {what} within 300 s")
        time.sleep(0.1)


def connect(devices, listener):
    """Measures the cost of a connected device."""
    with tempfile.TemporaryDirectory() as directory:
        emulator = Emulator(directory, "--control", "none", ports={"https": 0, listener: 0})
        # The first run measures a device without a connection to its hub: its memory, and the cost of DPS.
        costs = []
        for arguments in [[], ["--connect", "--hold", "5", "--interval", "3600", "--hub-address", emulator.urls[listener]]]:
            at_rest, before = emulator.memory("VmRSS"), emulator.processor_seconds()
            fleet = fleet_command(emulator, devices, *arguments)
            if arguments:
                wait_until("all connected", lambda: emulator.connections() >= devices)
                # The last report is answered within this time.
                time.sleep(2)
            held = emulator.memory("VmRSS")
            report, code, seconds = finish(fleet)
            costs.append((emulator.processor_seconds() - before, seconds, held - at_rest))
        emulator.stop()
    (emulator_dps, fleet_dps, _), (emulator_all, fleet_all, memory) = costs
    connection = report["connection"]
    return {
        "devices": devices,
        "listener": listener,
        "faults": [] if code == 0 else [f"the fleet ended with {code}: {connection}"],
        "connection": connection,
        "emulator": {"bytesPerDevice": memory / devices,
                     "processorSecondsPerDevice": (emulator_all - emulator_dps) / devices},
        "fleet": {"processorSecondsPerDevice": (fleet_all - fleet_dps) / devices},
    }


def kill_connected(devices):
    """Kills the emulator while all devices are connected, and reports the losses."""
    with tempfile.TemporaryDirectory() as directory:
        ports = {name: free_port() for name in ["https", "mqtts", "control"]}
        start = lambda: Emulator(directory, "--data", os.path.join(directory, "data"), ports=ports)
        emulator = start()
        fleet = fleet_command(emulator, devices, "--connect", "--hold", "60", "--interval", "1",
                              "--hub-address", emulator.urls["mqtts"])
        wait_until("all connected", lambda: emulator.connections() >= devices)
        time.sleep(5)
        emulator.kill()
        emulator = start()
        restarted = time.monotonic()
        wait_until("all connected again", lambda: emulator.connections() >= devices)
        back = time.monotonic() - restarted
        time.sleep(5)
        ids = [f"fleet-{number}-contoso-tstrsd-007" for number in range(1, devices + 1)]
        for device in ids:
            emulator.control("POST", f"devices/{device}/twin", {"desired": {"afterTheKill": True}})
        report, code, _ = finish(fleet)
        reported = {device: emulator.control("GET", f"devices/{device}")["twin"]["reported"] for device in ids}
        hubs = {device: emulator.control("GET", f"devices/{device}")["assignedHub"] for device in ids}
        started_in = emulator.started_in
        emulator.kill()
    stays = {result["registrationId"]: result.get("stay") or {} for result in report["results"]}
    assigned = {result["registrationId"]: result.get("assignedHub") for result in report["results"]}
    count = lambda is_wrong: sum(is_wrong(stays[device], device) for device in ids)
    faults = {
        "ended with " + str(code): code != 0,
        "lost a report that was accepted": count(lambda stay, device: stay.get("lastReport", 0) > reported[device].get("report", 0)),
        "are at another hub": count(lambda stay, device: hubs[device] != assigned[device]),
        "subscribed again": count(lambda stay, device: stay.get("sessions", 0) - stay.get("resumedSessions", 0) != 1),
        "did not receive the change": count(lambda stay, device: stay.get("changes", 0) != 1),
        "had no second session": count(lambda stay, device: stay.get("sessions", 0) < 2),
    }
    return {
        "devices": devices,
        "faults": [f"{number} {what}" for what, number in faults.items() if number],
        "connection": report["connection"],
        "startedInSeconds": started_in,
        "connectedAgainInSeconds": back,
        "longestBreakSeconds": max(stay.get("longestBreakSeconds", 0) for stay in stays.values()),
    }


def connected(devices, is_json):
    runs = [connect(devices, listener) for listener in ["mqtt", "mqtts"]]
    killed = kill_connected(devices)
    if is_json:
        print(json.dumps({"runs": runs, "killed": killed}))
    else:
        print(CONNECT_HEADER, re.sub(r"[^|]+", "---", CONNECT_HEADER), sep="\n")
        for each in runs:
            connection, latency = each["connection"], each["connection"]["latencySeconds"]
            cells = [f"{connection['connected']}, {'plain MQTT' if each['listener'] == 'mqtt' else 'TLS'}",
                     f"{connection['devicesPerSecond']:.0f}",
                     ", ".join(f"{latency[name]:.1f} s" for name in ["p50", "p99", "max"]),
                     ", ".join(f"{each[part]['processorSecondsPerDevice'] * 1e3:.1f} ms" for part in ["emulator", "fleet"]),
                     f"{each['emulator']['bytesPerDevice'] / 1e3:.0f} KB"]
            print("| " + " | ".join(cells) + " |")
        connection = killed["connection"]
        print(f"killed with {devices} connected: started in {killed['startedInSeconds']:.2f} s, all connected again in "
              f"{killed['connectedAgainInSeconds']:.1f} s, {connection['reports']} reports accepted, "
              f"{connection['telemetry']} messages, {connection['changes']} changes received, "
              f"{connection['resumedSessions']} of {connection['sessions']} sessions resumed")
    faults = [fault for each in [*runs, killed] for fault in each["faults"]]
    print(*faults, sep="\n", file=sys.stderr)
    return faults


def reopen(devices):
    """Measures how long the emulator takes to start with this number of devices, after a stop and after a kill."""
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
    """Measures the memory of an idle connection in the emulator."""
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
            # The first connections also grow the allocator. All stay open, so that the next ones cannot reuse their
            # memory.
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--devices", default="10,100,1000,2000", help="the numbers of devices, separated by commas")
    parser.add_argument("--transport", choices=["http", "mqtt"], default="http")
    parser.add_argument("--quota", metavar="N", help="registrations that the emulator allows in a minute")
    parser.add_argument("--data", action="store_true", help="measure each number of devices with --data, too")
    parser.add_argument("--open", type=int, metavar="N", help="only measure how long a start with N devices takes")
    parser.add_argument("--connect", action="store_true", help="only measure devices that are connected to their hubs")
    parser.add_argument("--idle", action="store_true", help="measure idle connections too")
    arguments = parser.parse_args()
    for package in [["-p", "azure-dps-emulator", "--bin", "dps-emulator"], ["-p", "azure-dps", "--example", "fleet"]]:
        subprocess.run(["cargo", "build", "--quiet", "--release", *package], cwd=ROOT, check=True)

    if arguments.open:
        print(json.dumps(reopen(arguments.open)))
        return

    if arguments.connect:
        sys.exit(any([connected(int(devices), arguments.json) for devices in arguments.devices.split(",")]))

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
