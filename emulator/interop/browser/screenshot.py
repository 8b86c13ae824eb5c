"""Makes the picture of the page for the README: the tutorial's two devices, and a device that the webhook refuses."""

import base64
import io
import sys

from PIL import Image

from support import Browser, Emulator, provision

with Emulator() as emulator, Browser("--disable-lcd-text", width=1400, height=860) as browser:
    for device in ("breakroom499-contoso-tstrsd-007", "mainbuilding167-contoso-hpsd-088", "contoso-unknown-1"):
        provision(emulator, device, {"modelId": "dtmi:contoso:appliance;1"})
    browser.open(emulator.control)
    browser.until(lambda: len(browser.rows()) >= 9, "all entries")
    browser.select_row("contoso-unknown-1", "Webhook")
    browser.until(lambda: "AllocationRequest" in browser.text("#details"), "the call is shown")
    browser.script("document.activeElement.blur(); document.querySelector('#details-body').scrollTop = 0")
    png = base64.b64decode(browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
# 256 colours are enough for the page, and make the file a third as large.
picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
picture.save(sys.argv[1], optimize=True)
