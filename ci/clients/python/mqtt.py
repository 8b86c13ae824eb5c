"""The MQTT client paho, used as in the documentation's section "Using the MQTT protocol directly": without an SDK, and
with a token that this script signs. Each call is listed with its answer. ../run.sh starts this script."""

import base64
import hashlib
import hmac
import json
import os
import queue
import ssl
import time
from urllib.parse import quote

from paho.mqtt import client as mqtt

import control
from device import device_key, register
from listing import TOASTER, TOASTERS, begin, end, equal, listed

GROUP_KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
EVENTS = f"devices/{TOASTER}/messages/events/"


def token(hub, device_id, key, lifetime=3600):
    resource, expiry = quote(f"{hub}/devices/{device_id}", safe=""), int(time.time()) + lifetime
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}"


class Device:
    def __init__(self, hub, device_id, password, transport="tcp", client_id=None, **options):
        self.hub, self.heard = hub, queue.Queue()
        self.client = mqtt.Client(client_id or device_id, protocol=mqtt.MQTTv311, transport=transport, **options)
        self.client.username_pw_set(f"{hub}/{device_id}/?api-version=2021-04-12", password)
        self.client.tls_set(os.environ["REQUESTS_CA_BUNDLE"], tls_version=ssl.PROTOCOL_TLSv1_2)
        self.client.ws_set_options("/$iothub/websocket")
        hear = lambda kind: lambda *arguments: self.heard.put((kind, *arguments[2:]))
        self.client.on_connect, self.client.on_disconnect = hear("connect"), hear("disconnect")
        self.client.on_subscribe, self.client.on_publish = hear("subscribe"), hear("publish")
        self.client.on_message = hear("message")
        self.transport = transport

    def hears(self, kind):
        heard = self.heard.get(timeout=15)
        equal(heard[0], kind)
        return heard[1:]

    def connect(self, call, code=0):
        self.client.connect(self.hub, 443 if self.transport == "websockets" else 8883)
        self.client.loop_start()
        flags, result = self.hears("connect")
        listed(call, f"CONNACK {result}, session present {flags['session present']}")
        equal(result, code)
        if code:
            self.close()
        return self

    def subscribe(self, topic_filter, qos, granted):
        self.client.subscribe(topic_filter, qos)
        equal(self.hears("subscribe")[1], (granted,))
        listed(f"SUBSCRIBE {topic_filter}, QoS {qos}", f"SUBACK {granted}")

    def ask(self, topic, body, status):
        """Sends a request about the twin. Returns the answer."""
        self.client.publish(topic, body)
        self.hears("publish")
        (message,) = self.hears("message")
        listed(f"PUBLISH {topic} {body or ''}", f"{message.topic} {message.payload.decode()}")
        assert message.topic.startswith(f"$iothub/twin/res/{status}/?$rid={topic.split('$rid=')[1]}"), message.topic
        return json.loads(message.payload or "null"), message.topic

    def send(self, call, topic, body="{}", **options):
        self.client.publish(topic, body, **{"qos": 1, **options})
        self.hears("publish")
        listed(call, "PUBACK" if options.get("qos") != 0 else "sent")

    def told(self, call, patch):
        control.set_desired(TOASTER, patch)
        (message,) = self.hears("message")
        listed(call, f"{message.topic} {message.payload.decode()}")
        told = json.loads(message.payload)
        equal(message.topic, f"$iothub/twin/PATCH/properties/desired/?$version={told.pop('$version')}")
        equal(told, patch)

    def dropped(self, call, order):
        order()
        (result,) = self.hears("disconnect")
        assert result
        listed(call, "the hub closes the connection")
        self.close()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def telemetry(count):
    """Returns the last message if this number of messages has arrived."""

    def counted():
        messages = control.telemetry(TOASTER)
        return len(messages) == count and messages[-1]

    return control.until(f"{count} messages", counted)


key = device_key(GROUP_KEY, TOASTER)
equal(register(TOASTER, key).registration_state.assigned_hub, TOASTERS)


def device(password=None, **options):
    return Device(TOASTERS, TOASTER, password or token(TOASTERS, TOASTER, key), **options)


begin("paho-mqtt 1.6.1")
lasting = device(clean_session=False).connect("CONNECT, clean session 0")
lasting.subscribe("$iothub/twin/res/#", 0, 0)
lasting.subscribe("$iothub/twin/PATCH/properties/desired/#", 2, 1)
twin, _ = lasting.ask("$iothub/twin/GET/?$rid=1", None, 200)
equal(twin, {"desired": {"state": "ready", "darknessSetting": "medium", "$version": 1}, "reported": {"$version": 1}})
_, answered = lasting.ask("$iothub/twin/PATCH/properties/reported/?$rid=2", '{"darkness":7}', 204)
assert answered.endswith("&$version=2"), answered
refusal, _ = lasting.ask("$iothub/twin/PATCH/properties/reported/?$rid=3", '{"darkness":', 400)
assert refusal["errorCode"] and refusal["message"]
lasting.send("PUBLISH telemetry, QoS 1", EVENTS + "alarm%20level=low&%24.ct=application%2Fjson&$.ce=utf-8", '{"a":1}')
equal(telemetry(1), ({"alarm level": "low", "$.ct": "application/json", "$.ce": "utf-8"}, '{"a":1}'))
lasting.send("PUBLISH telemetry, QoS 0", EVENTS, qos=0)
equal(telemetry(2), ({}, "{}"))
lasting.told("the operator changes desired properties", {"darknessSetting": "dark"})
lasting.close()

lasting = device(clean_session=False).connect("CONNECT again, clean session 0")
lasting.told("the operator changes desired properties, and nothing was subscribed", {"darknessSetting": "light"})
lasting.close()
device(clean_session=True).connect("CONNECT, clean session 1").close()
device(clean_session=False).connect("CONNECT, clean session 0, after a clean session 1").close()
device(transport="websockets").connect("CONNECT over WebSocket").close()

dying = device()
dying.client.will_set(EVENTS + "last=words", "{}", qos=1)
dying.connect("CONNECT with a will")
dying.client.loop_stop()
dying.client.socket().close()
equal(telemetry(3), ({"last": "words", "iothub-MessageType": "Will"}, "{}"))
listed("the connection ends without DISCONNECT", "the will is telemetry")

for call, order in {
    "SUBSCRIBE devices/+/messages/events/#": lambda d: d.client.subscribe("devices/+/messages/events/#"),
    "PUBLISH telemetry, QoS 2": lambda d: d.client.publish(EVENTS, "{}", qos=2),
    "PUBLISH telemetry of another device": lambda d: d.client.publish("devices/another/messages/events/", "{}", qos=1),
}.items():
    client = device().connect("CONNECT")
    client.dropped(call, lambda: order(client))

control.set_behaviour(hub_session_after_expiry=0)
expiring = device(token(TOASTERS, TOASTER, key, 2)).connect("CONNECT, a token for 2 s")
expiring.dropped("the token expires", lambda: None)

other = device_key(GROUP_KEY, "another")
device(token(TOASTERS, TOASTER, other)).connect("CONNECT, another device's key", 5)
device(token(TOASTERS, TOASTER, key, -3600)).connect("CONNECT, an expired token", 5)
device("password").connect("CONNECT, no token", 5)
device(client_id="another").connect("CONNECT, another client ID", 5)
end("paho-mqtt")
