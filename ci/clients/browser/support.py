"""Helpers for the tests of the page: the emulator program, a webhook, devices, and Chromium."""

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import queue
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.parse

import paho.mqtt.client as mqtt
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = os.environ.get("DPS_EMULATOR", HERE / "../../../target/debug/dps-emulator")

ID_SCOPE = "0ne00002193"
GROUP = "contoso-custom-allocated-devices"
GROUP_KEY = base64.b64decode("oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==")
TOASTERS = "contoso-toasters-hub-1098.azure-devices.net"
HEAT_PUMPS = "contoso-heatpumps-hub-1098.azure-devices.net"


class Emulator:
    """The emulator program. It ends with the `with` block."""

    def __init__(self, *arguments, environment=None):
        # The tests read the ports from the program's output. Both are free ports.
        command = [PROGRAM, "--json", "--http", "127.0.0.1:0", "--retry-after", "1", *arguments]
        if "--control" not in arguments:
            command += ["--control", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )
        self.http = self.mqtt = self.control = None
        for line in self.process.stdout:
            said = json.loads(line)
            if said.get("listener") in ("http", "mqtt"):
                setattr(self, said["listener"], urllib.parse.urlsplit(said["url"]).netloc)
            if said.get("listener") == "control":
                self.control = said["url"].rstrip("/")
            if "service" in said:
                self.service = dict(part.split("=", 1) for part in said["service"]["connectionString"].split(";"))
                break
        else:
            raise RuntimeError(self.process.stderr.read())
        # The program must not block because its output is not read.
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()

    @property
    def control_address(self):
        return urllib.parse.urlsplit(self.control).netloc

    def ask(self, method, path, body=None, headers=None):
        """Calls the control API. Returns the status and the answer."""
        connection = http.client.HTTPConnection(self.control_address, timeout=20)
        sent = {"Content-Type": "application/json"} if method != "GET" else {}
        connection.request(method, f"/_emulator/{path}", json.dumps(body or {}) if method != "GET" else None, {**sent, **(headers or {})})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None

    def ask_service(self, method, path, body=None):
        """Calls the service API, as a service SDK does. Returns the status and the answer."""
        expiry = int(time.time()) + 3600
        resource = urllib.parse.quote(self.service["HostName"], safe="")
        key = base64.b64decode(self.service["SharedAccessKey"])
        signature = base64.b64encode(hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()).decode()
        authorization = (
            f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(signature, safe='')}&se={expiry}"
            f"&skn={self.service['SharedAccessKeyName']}"
        )
        connection = http.client.HTTPConnection(self.service["HostName"], timeout=20)
        connection.request(
            method, f"{path}?api-version=2021-10-01", json.dumps(body) if body is not None else None,
            {"Authorization": authorization, "Content-Type": "application/json"},
        )
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None

    def device_ids(self):
        return [device["registrationId"] for device in self.ask("GET", "devices")[1]["devices"]]

    def end(self):
        self.process.terminate()
        self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def token(registration_id, key_for=None):
    """Returns the `Authorization` header for a device in the tutorial's group."""
    return f"{signed(f'{ID_SCOPE}/registrations/{registration_id}', key_for or registration_id)}&skn=registration"


def signed(resource, key_for):
    """Returns a token for this resource, signed with the key of a device in the tutorial's group."""
    key = hmac.new(GROUP_KEY, key_for.encode(), hashlib.sha256).digest()
    resource = urllib.parse.quote(resource, safe="")
    expiry = int(time.time()) + 3600
    signature = base64.b64encode(hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()).decode()
    return f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(signature, safe='')}&se={expiry}"


def register(emulator, registration_id, payload=None, key_for=None):
    """Sends the first request of a registration. Returns the status and the answer."""
    body = {"registrationId": registration_id}
    if payload is not None:
        body["payload"] = payload
    return device_request(emulator, "PUT", registration_id, "register", body, key_for)


def provision(emulator, registration_id, payload=None, key_for=None):
    """Registers a device and polls until the end. Returns the last status and answer."""
    status, answer = register(emulator, registration_id, payload, key_for)
    while answer.get("status") == "assigning":
        time.sleep(0.05)
        status, answer = device_request(emulator, "GET", registration_id, f"operations/{answer['operationId']}", key_for=key_for)
    return status, answer


def device_request(emulator, method, registration_id, rest, body=None, key_for=None):
    connection = http.client.HTTPConnection(emulator.http, timeout=20)
    connection.request(
        method,
        f"/{ID_SCOPE}/registrations/{registration_id}/{rest}?api-version=2021-06-01",
        json.dumps(body) if body is not None else None,
        {"Authorization": token(registration_id, key_for), "Content-Type": "application/json"},
    )
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def connect_mqtt(address, client_id, user_name):
    """Sends CONNECT with a user name and a password, and waits for the answer."""
    host, port = address.split(":")

    def text(value):
        return struct.pack("!H", len(value.encode())) + value.encode()

    content = text("MQTT") + bytes([4, 0xC2]) + struct.pack("!H", 60) + text(client_id) + text(user_name) + text("no token")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(bytes([0x10, len(content) % 128 | 0x80, len(content) // 128]) + content)
        connection.recv(4)


class HubDevice:
    """A device that is connected to its hub over MQTT without TLS. It does not reconnect."""

    def __init__(self, emulator, registration_id, hub=TOASTERS):
        self.id, self.messages, self.ended = registration_id, queue.Queue(), threading.Event()
        connected, subscribed = queue.Queue(), queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, registration_id)
        self.client.username_pw_set(f"{hub}/{registration_id}/?api-version=2021-04-12", signed(f"{hub}/devices/{registration_id}", registration_id))
        self.client.on_connect = lambda _client, _data, _flags, reason, _properties: connected.put(reason)
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.on_message = lambda _client, _data, message: self.messages.put((message.topic, json.loads(message.payload or b"null")))
        host, port = emulator.mqtt.split(":")
        self.client.connect(host, int(port))
        threading.Thread(target=self.serve, daemon=True).start()
        reason = connected.get(timeout=20)
        if reason.is_failure:
            raise ConnectionError(f"{registration_id}: {reason}")
        self.client.subscribe([("$iothub/twin/res/#", 0), ("$iothub/twin/PATCH/properties/desired/#", 0)])
        subscribed.get(timeout=20)

    def serve(self):
        while self.client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
            pass
        self.ended.set()

    def message(self):
        """Returns the topic and the body of the next message."""
        return self.messages.get(timeout=20)

    def report(self, patch):
        """Reports properties. Returns the topic of the answer."""
        self.client.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", json.dumps(patch))
        return self.message()[0]

    def send(self, body, bag="", qos=1):
        """Sends telemetry. With QoS 1, waits until the hub has received it."""
        sent = self.client.publish(f"devices/{self.id}/messages/events/{bag}", body, qos)
        if qos > 0:
            sent.wait_for_publish(20)

    def leave(self):
        self.client.disconnect()
        self.ended.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


class Server:
    """An HTTP server for a test. `answer(method, path, body)` returns a status, a media type and a body."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, kind, text = answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = handle_any

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Webhook(Server):
    """A custom allocation webhook. `answers` and `delays` (seconds) are by device. Other devices get the first hub."""

    def __init__(self):
        self.answers, self.delays = {}, {}
        super().__init__(self.allocate)
        self.url = f"http://127.0.0.1:{self.port}/api/allocate?code=a-function-key"

    def allocate(self, _method, _path, body):
        request = json.loads(body)
        device = request["deviceRuntimeContext"]["registrationId"]
        time.sleep(self.delays.get(device, 0))
        status, answer = self.answers.get(device, (200, {"iotHubHostName": request["linkedHubs"][0]}))
        if isinstance(answer, str):
            return status, "text/plain", answer
        return status, "application/json", json.dumps(answer)


class Browser:
    """Chromium without a window."""

    def __init__(self, *arguments, width=1400, height=900):
        options = webdriver.ChromeOptions()
        options.binary_location = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])))
        # Containers have little shared memory, and no user namespaces for the sandbox.
        for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", *arguments]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(30)
        self.size(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name):
        """Sets the preferred color scheme: `light` or `dark`."""
        media = {"features": [{"name": "prefers-color-scheme", "value": name}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def open(self, url):
        self.driver.get(url)
        self.until(lambda: self.text("#connection") == "Live", "the page is connected")

    def script(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def asynchronous(self, script, *arguments):
        """Runs the body of an asynchronous function. Returns its result, or its error as text."""
        wrapped = f"const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, (e) => done(`error: ${{e}}`));"
        return self.driver.execute_async_script(wrapped, *arguments)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """Returns the visible text of the element, or an empty string if there is no such element."""
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def texts(self, selector):
        return self.script("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)

    def until(self, condition, what, seconds=15):
        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition(), f"never: {what}")

    def button(self, name, within="body"):
        """Presses the button with this text."""
        found = [button for button in self.all(f"{within} button") if button.is_displayed() and button.text.strip() == name]
        assert len(found) == 1, f"{len(found)} buttons {name!r} in {within}"
        found[0].click()

    def rows(self):
        """Returns the rows of the timeline that are in the document, newest first, each as one line."""
        lines = self.script(
            """return [...document.querySelectorAll("#entries [role=option]")]
                 .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
                 .map((row) => [...row.children].map((part) => part.innerText).join(" | "))"""
        )
        return [" ".join(line.split()) for line in lines]

    def select_row(self, *parts):
        """Presses the newest row that contains these parts."""
        found = self.script(
            """const row = [...document.querySelectorAll("#entries [role=option]")]
                 .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
                 .find((row) => arguments[0].every((part) => row.innerText.includes(part)));
               row?.scrollIntoView({ block: "nearest" });
               return row""",
            list(parts),
        )
        assert found, f"no row with {parts} in {self.rows()}"
        found.click()

    def console(self):
        """Returns the new errors in the console: of scripts, of the content security policy, of loading."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
