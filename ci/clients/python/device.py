"""A device with Microsoft's client for Python, used as in its documentation."""

import base64
import hashlib
import hmac
import os
import pathlib

from azure.iot.device import X509, ProvisioningDeviceClient

CA = pathlib.Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text()


def device_key(group_key, registration_id):
    """Returns the device key, derived from the group key."""
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def register(registration_id, secret, websockets=False):
    """Registers a device with a key or with an X509. Returns the result of the client."""
    options = {"server_verification_cert": CA, "websockets": websockets}
    if isinstance(secret, X509):
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            "localhost", registration_id, "0ne00002193", secret, **options
        )
    else:
        client = ProvisioningDeviceClient.create_from_symmetric_key(
            "localhost", registration_id, "0ne00002193", secret, **options
        )
    client.provisioning_payload = {"MyDeviceFirmwareVersion": "12.0.2.5"}
    return client.register()


def words(error):
    """Returns the text of an error. The text of the service is in the cause of the cause."""
    said = []
    while error:
        said.append(str(error))
        error = error.__cause__
    return " / ".join(said)


def provision(registration_id, secret, websockets=False):
    """Registers a device. Returns the hub, or the client's error."""
    try:
        result = register(registration_id, secret, websockets)
    except Exception as error:
        return words(error)
    state = result.registration_state
    return state.assigned_hub if result.status == "assigned" else str(state)
