"""The device SDK for Python provisions devices and connects them to their hub: `hub.py mqtt`, `hub.py ws`. Each call is
listed with its answer. ../run.sh starts this script."""

import json
import logging
import os
import queue
import sys

from azure.iot.device import X509, IoTHubDeviceClient, Message
from azure.iot.device.exceptions import ClientError, CredentialError
from azure.iot.deviceprovisioning import DeviceProvisioningClient

import control
from device import CA, device_key, register, words
from listing import CONNECTION_STRING, HEAT_PUMP, HEAT_PUMPS, TOASTER, TOASTERS, begin, certificate_file, end, equal, listed, pem

WEBSOCKETS = sys.argv[1] == "ws"
GROUP_KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="

# The client also logs the errors that it passes to on_background_exception.
logging.getLogger("azure.iot").setLevel(logging.CRITICAL)

service = DeviceProvisioningClient.from_connection_string(CONNECTION_STRING)

# --- Calls ---


class Device:
    """A client for the assigned device. It reconnects only with `connection_retry`."""

    def __init__(self, hub, device_id, secret, **options):
        options = {"server_verification_cert": CA, "websockets": WEBSOCKETS, "connection_retry": False, **options}
        if isinstance(secret, X509):
            self.client = IoTHubDeviceClient.create_from_x509_certificate(secret, hub, device_id, **options)
        else:
            self.client = IoTHubDeviceClient.create_from_symmetric_key(secret, hub, device_id, **options)
        self.patches, self.states, self.errors = queue.Queue(), queue.Queue(), queue.Queue()
        self.client.on_connection_state_change = lambda: self.states.put(self.client.connected)
        self.client.on_background_exception = self.errors.put

    def connect(self, call):
        self.client.connect()
        assert self.client.connected
        assert self.states.get(timeout=15)
        listed(call, "connected")
        return self

    def refused(self, call, kind):
        try:
            self.client.connect()
        except ClientError as error:
            self.client.shutdown()
            equal(type(error), kind)
            listed(call, f"{type(error).__name__}: {words(error)}")
        else:
            raise AssertionError(f"{call}: not rejected")

    def dropped(self, call, order):
        """The connection breaks, and the client reports it."""
        order()
        assert not self.states.get(timeout=15)
        error = self.errors.get(timeout=15)
        listed(call, f"not connected; {type(error).__name__}: {words(error)}")
        self.client.shutdown()

    def twin(self, call, desired, reported):
        twin = self.client.get_twin()
        listed(call, json.dumps(twin))
        equal(sorted(twin), ["desired", "reported"])
        for properties in twin.values():
            assert properties.pop("$version") >= 1
        equal(twin, {"desired": desired, "reported": reported})

    def report(self, call, patch):
        self.client.patch_twin_reported_properties(patch)
        listed(call, "done")

    def changed(self, call, registration_id, patch):
        """The operator changes desired properties, and the client receives the change."""
        control.set_desired(registration_id, patch)
        told = self.patches.get(timeout=15)
        listed(call, json.dumps(told))
        assert told.pop("$version") >= 2
        equal(told, patch)

    def close(self):
        self.client.shutdown()


def assigned(call, registration_id, secret, hub):
    state = register(registration_id, secret, WEBSOCKETS).registration_state
    equal(state.assigned_hub, hub)
    listed(call, f"{state.assigned_hub}, {state.device_id}")
    return state.assigned_hub, state.device_id


def x509(name):
    return X509(cert_file=certificate_file(f"{name}.pem"), key_file=certificate_file(f"{name}.key"))


# --- The sequence ---


def life():
    """Connects by the name of the hub, which is in the hosts file."""
    key = device_key(GROUP_KEY, TOASTER)
    hub = assigned(f"device {TOASTER}", TOASTER, key, TOASTERS)
    device = Device(*hub, key).connect("connect, with the name of the hub")
    device.twin("get_twin", {"state": "ready", "darknessSetting": "medium"}, {})
    device.client.on_twin_desired_properties_patch_received = device.patches.put
    device.changed("desired properties change", TOASTER, {"darknessSetting": "dark", "crumbs": {"tray": "full"}})
    device.changed("desired properties are deleted", TOASTER, {"crumbs": None})
    device.client.on_method_request_received = device.client.on_message_received = lambda _: None
    listed("on_method_request_received and on_message_received, which are granted only", "subscribed")

    device.report("patch_twin_reported_properties", {"darkness": 7, "firmware": {"version": "1.0"}})
    device.report("patch_twin_reported_properties, null deletes", {"firmware": None})
    equal(control.device(TOASTER)["twin"]["reported"], {"darkness": 7})
    try:
        device.client.patch_twin_reported_properties({f"text{index}": "x" * 3700 for index in range(9)})
    except ClientError as error:
        listed("patch_twin_reported_properties, 33 kB", f"{type(error).__name__}: {words(error)}")
    else:
        raise AssertionError("the hub accepts 33 kB")

    message = Message(json.dumps({"slices": 2}), message_id="first", content_type="application/json", content_encoding="utf-8")
    message.custom_properties["alarm level"] = "low & slow"
    device.client.send_message(message)
    listed("send_message", "done")
    ((properties, body),) = control.telemetry(TOASTER)
    listed("what arrived", f"{json.dumps(properties)}, {body}")
    system = {"$.mid": "first", "$.ct": "application/json", "$.ce": "utf-8"}
    equal((properties, body), ({**system, "alarm level": "low & slow"}, message.data))

    device.client.disconnect()
    device.client.connect()
    device.changed("desired properties change, after disconnect and connect", TOASTER, {"darknessSetting": "medium"})
    device.close()


def lasting():
    """Clients that stay connected and subscribe only once."""
    key = device_key(GROUP_KEY, TOASTER)
    # The client takes a new token 120 s before the old one expires.
    device = Device(TOASTERS, TOASTER, key, sastoken_ttl=126).connect("connect, sastoken_ttl=126")
    device.client.on_twin_desired_properties_patch_received = device.patches.put
    device.changed("desired properties change", TOASTER, {"darknessSetting": "light"})
    connects_again(lambda: None)
    device.changed("desired properties change, after a new token", TOASTER, {"darknessSetting": "dark"})
    device.report("patch_twin_reported_properties, after a new token", {"darkness": 2})
    device.close()

    device = Device(TOASTERS, TOASTER, key, connection_retry=True, connection_retry_interval=1).connect("connect")
    device.client.on_twin_desired_properties_patch_received = device.patches.put
    device.changed("desired properties change", TOASTER, {"darknessSetting": "light"})
    connects_again(lambda: control.disconnect(TOASTER))
    device.changed("desired properties change, after a lost connection", TOASTER, {"darknessSetting": "medium"})

    def refuse_twice():
        connects = len(control.requests(TOASTER, "CONNECT"))
        control.set_behaviour(unavailable_hubs=[TOASTERS])
        control.requests(TOASTER, "CONNECT", connects + 2)
        control.set_behaviour(unavailable_hubs=[])

    connects_again(refuse_twice)
    device.changed("desired properties change, after the hub was unavailable", TOASTER, {"darknessSetting": "light"})

    control.restart()
    control.requests(TOASTER, "GET", 1)
    device.changed("desired properties change, after a SIGKILL of the emulator", TOASTER, {"darknessSetting": "dark"})
    device.close()


def connects_again(order):
    """Calls `order`, and waits until the client has connected again. The client then reads the twin, and reports all
    desired properties if they have changed."""
    connects, reads = (len(control.requests(TOASTER, method)) for method in ("CONNECT", "GET"))
    order()
    control.requests(TOASTER, "CONNECT", connects + 1)
    control.requests(TOASTER, "GET", reads + 1)


def gateways():
    """Connects through a gateway, without the name of the hub in a hosts file."""
    key = device_key(GROUP_KEY, HEAT_PUMP)
    hub = assigned(f"device {HEAT_PUMP}", HEAT_PUMP, key, HEAT_PUMPS)
    for gateway in ("localhost", "gw.local"):
        device = Device(*hub, key, gateway_hostname=gateway).connect(f"connect, gateway_hostname={gateway}")
        device.twin("get_twin", {"state": "on", "temperatureSetting": "65"}, {})
        device.close()
    os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"]
    device = Device(*hub, key, server_verification_cert=None).connect("connect, SSL_CERT_FILE for server_verification_cert")
    device.close()
    del os.environ["SSL_CERT_FILE"]
    Device(*hub, key, server_verification_cert=pem("factory-ca.pem")).refused(
        "connect, server_verification_cert of another CA", ClientError
    )

    other_key = device_key(GROUP_KEY, TOASTER)
    Device(*hub, other_key).refused("connect, another device's key", CredentialError)
    Device(TOASTERS, HEAT_PUMP, key).refused("connect, at a hub where the device is not", CredentialError)
    Device(HEAT_PUMPS, "nobody", key).refused("connect, a device that was never provisioned", CredentialError)


def take_over():
    key = device_key(GROUP_KEY, HEAT_PUMP)
    hub = (HEAT_PUMPS, HEAT_PUMP)
    first = Device(*hub, key).connect("connect")
    second = Device(*hub, key)
    first.dropped("a second client connects", second.client.connect)
    second.states.get(timeout=15)
    second.twin("get_twin, of the second", {"state": "on", "temperatureSetting": "65"}, {})

    second.dropped("the operator disables the device", lambda: control.disable(HEAT_PUMP))
    Device(*hub, key).refused("connect, disabled", CredentialError)
    control.enable(HEAT_PUMP)
    again = Device(*hub, key).connect("connect, enabled again")

    again.dropped("the operator deletes the device at the hub", lambda: control.remove_from_hub(HEAT_PUMP))
    Device(*hub, key).refused("connect, deleted", CredentialError)
    back = assigned(f"device {HEAT_PUMP} provisions again", HEAT_PUMP, key, HEAT_PUMPS)
    Device(*back, key).connect("connect").close()


def enrollment_at(hub, attestation, migrate=True, **members):
    return {
        "attestation": attestation,
        "allocationPolicy": "static",
        "iotHubs": [hub],
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": migrate},
        **members,
    }


def enroll(registration_id, enrollment, if_match=None):
    service.enrollment.create_or_update(
        registration_id, {"registrationId": registration_id, **enrollment}, if_match=if_match
    )


def move():
    """Changes the enrollment, so that the device moves from `hub.localhost` to other hubs."""
    key = device_key("AAAA", "a key of its own")

    def enroll_rover(hub, migrate, if_match=None):
        attestation = {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}
        twin = {"tags": {"site": "north"}, "properties": {"desired": {"mode": "idle"}}}
        enroll("rover", enrollment_at(hub, attestation, migrate, deviceId="Rover-7", initialTwin=twin), if_match)

    enroll_rover("hub.localhost", True)
    old = assigned("device rover", "rover", key, "hub.localhost")
    equal(old[1], "Rover-7")
    device = Device(*old, key).connect("connect, hub.localhost")
    device.twin("get_twin", {"mode": "idle"}, {})
    device.report("patch_twin_reported_properties", {"battery": 80})

    enroll_rover(TOASTERS, True, "*")
    device.dropped(
        "device rover registers, and is moved",
        lambda: assigned("device rover, moved, the twin is migrated", "rover", key, TOASTERS),
    )
    Device(*old, key).refused("connect, at the old hub", CredentialError)
    moved = Device(TOASTERS, old[1], key).connect("connect, at the new hub")
    moved.twin("get_twin", {"mode": "idle"}, {"battery": 80})
    moved.close()

    enroll_rover(HEAT_PUMPS, False, "*")
    hub = assigned("device rover, moved, the twin is reset", "rover", key, HEAT_PUMPS)
    reset = Device(*hub, key).connect("connect, at the newest hub")
    reset.twin("get_twin", {"mode": "idle"}, {})
    reset.close()


def certificates():

    def attested(kind, certificate):
        return {"type": "x509", "x509": {kind: {"primary": {"certificate": pem(certificate)}}}}

    enroll("front-door-lock", enrollment_at(TOASTERS, attested("clientCertificates", "front-door-lock.pem")))
    lock = x509("front-door-lock")
    hub = assigned("device front-door-lock, X.509", "front-door-lock", lock, TOASTERS)
    device = Device(*hub, lock).connect("connect, X.509")
    device.twin("get_twin", {}, {})
    device.close()
    certified = x509("back-door-lock")
    Device(*hub, certified).refused("connect, X.509, another certificate", CredentialError)

    factory = enrollment_at(HEAT_PUMPS, attested("signingCertificates", "factory-ca.pem"))
    service.enrollment_group.create_or_update("factory", {"enrollmentGroupId": "factory", **factory})
    hub = assigned("device back-door-lock, certified by a CA", "back-door-lock", certified, HEAT_PUMPS)
    Device(*hub, certified).connect("connect, X.509, certified by a CA").close()


begin(f"azure-iot-device 2.14.0 (Python), {'MQTT over WebSocket' if WEBSOCKETS else 'MQTT'}")
life()
lasting()
gateways()
take_over()
move()
certificates()
end(f"device SDK for Python, {sys.argv[1]}")
