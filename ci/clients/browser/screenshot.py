"""Takes the screenshot of the page for the README: the two devices of the tutorial, one of them connected to its hub, and
a device that the webhook rejects."""

import base64
import contextlib
import io
import sys

from PIL import Image

from support import Browser, Emulator, HubDevice, provision

TOASTER = "breakroom499-contoso-tstrsd-007"
with (
    Emulator("--mqtt", "127.0.0.1:0") as emulator,
    Browser("--disable-lcd-text", width=1400, height=860) as browser,
    contextlib.ExitStack() as connected,
):
    for device in ("mainbuilding167-contoso-hpsd-088", TOASTER, "contoso-unknown-1"):
        provision(emulator, device, {"modelId": "dtmi:contoso:appliance;1"})
    toaster = connected.enter_context(HubDevice(emulator, TOASTER))
    toaster.report({"firmware": "1.2.0"})
    toaster.send('{"temperature": 21.5}')
    browser.open(emulator.control)
    browser.until(lambda: len(browser.rows()) >= 13 and "1 message" in browser.text("#devices"), "all entries")
    browser.select_row("contoso-unknown-1", "Webhook")
    browser.until(lambda: "AllocationRequest" in browser.text("#details"), "the call is shown")
    browser.script("document.activeElement.blur(); document.querySelector('#details-body').scrollTop = 0")
    png = base64.b64decode(browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
# 256 colors are enough for the page, and reduce the file to a third.
picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
picture.save(sys.argv[1], optimize=True)
