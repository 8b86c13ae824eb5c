"""Tests the page of the emulator in headless Chromium: it shows registrations, performs actions, and rejects other
origins. run.sh starts this script."""

import base64
import concurrent.futures
import http.client
import importlib.util
import json
import pathlib
import re
import socket
import time
import unittest

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from support import (
    GROUP, HEAT_PUMPS, TOASTERS, Browser, Emulator, HubDevice, Server, Webhook, connect_mqtt, provision, register,
)

# This code runs if it becomes an element.
MARKUP = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>'


def axe():
    """Returns the source of axe-core, which is in the Python package."""
    package = importlib.util.find_spec("axe_playwright_python")
    return (pathlib.Path(package.origin).parent / "axe.min.js").read_text()


def setUpModule():
    global shared_browser
    shared_browser = unittest.enterModuleContext(Browser())


class PageTest(unittest.TestCase):
    """One emulator and one webhook for all tests of a class. Each test has its own devices."""

    arguments = ["--time-scale", "20", "--mqtt", "127.0.0.1:0"]

    @classmethod
    def setUpClass(cls):
        cls.webhook = cls.enterClassContext(Webhook())
        cls.emulator = cls.enterClassContext(Emulator("--webhook", cls.webhook.url, *cls.arguments))
        cls.browser = shared_browser

    def setUp(self):
        self.browser.size(1400, 900)
        self.browser.open(self.emulator.control)
        self.browser.console()
        self.browser.script(
            """window.violations = [];
               document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective))"""
        )

    def tearDown(self):
        """Checks that the console has no error, that nothing violated the policy, and that no payload ran as a script."""
        self.assertEqual(self.browser.console(), [])
        self.assertEqual(self.browser.script("return window.violations ?? []"), [])
        self.assertIsNone(self.browser.script("return window.ran ?? null"))

    def until_row(self, *parts):
        self.browser.until(
            lambda: any(all(part in row for part in parts) for row in self.browser.rows()), f"a row with {parts}"
        )

    def until_details(self, *parts):
        self.browser.until(lambda: all(part in self.browser.text("#details") for part in parts), f"details with {parts}")

    def filter_device(self, device):
        field = self.browser.one("#filter-device")
        field.clear()
        field.send_keys(device)


class Devices(PageTest):
    def test_a_device_registers_and_appears_without_a_reload(self):
        browser, device = self.browser, "appears-1"
        browser.script("window.loadedOnce = true")
        before = int(browser.text("#request-count"))
        provision(self.emulator, device)
        browser.until(lambda: any(device in text for text in browser.texts("#device-list li")), "the device is listed")
        for parts in [("Register", "202 assigning"), ("Webhook 1 of 11", "200"), ("Poll", "200 assigned")]:
            self.until_row(device, *parts)
        self.assertGreaterEqual(int(browser.text("#request-count")), before + 2)
        self.assertTrue(browser.script("return window.loadedOnce"))

    def test_a_device_has_its_own_details_and_timeline(self):
        browser, device = self.browser, "details-1"
        self.webhook.answers[device] = (
            200,
            {
                "iotHubHostName": HEAT_PUMPS,
                "initialTwin": {"tags": {"room": "5/12"}, "properties": {"desired": {"interval": 30}}},
            },
        )
        provision(self.emulator, device)
        provision(self.emulator, "details-other")
        self.until_row("details-other", "200 assigned")
        browser.one(f"#device-list [data-key='{device}'] button").click()
        self.until_details(HEAT_PUMPS, device, "initialAssignment", GROUP, "once", '"room": "5/12"', '"interval": 30')
        rows = browser.rows()
        self.assertTrue(rows and all(device in row for row in rows), rows)
        browser.button("Show all")
        self.until_row("details-other")

    def test_a_hidden_page_is_updated_when_it_is_shown(self):
        browser, device = self.browser, "unseen-1"
        see = """Object.defineProperty(document, "hidden", { value: arguments[0], configurable: true });
                 document.dispatchEvent(new Event("visibilitychange"))"""
        browser.script(see, True)
        provision(self.emulator, device)
        self.assertEqual([row for row in browser.rows() if device in row], [])
        browser.script(see, False)
        self.until_row(device, "200 assigned")
        self.assertEqual(len([row for row in browser.rows() if device in row and "Register" in row]), 1)

    def test_a_twin_is_edited(self):
        browser, device = self.browser, "twin-1"
        self.webhook.answers[device] = (
            200, {"iotHubHostName": TOASTERS, "initialTwin": {"tags": {"old": 1, "kept": True}, "properties": {"desired": {}}}},
        )
        provision(self.emulator, device)
        browser.until(lambda: any(device in text for text in browser.texts("#device-list li")), "the device is listed")
        browser.one(f"#device-list [data-key='{device}'] button").click()
        self.until_details('"old": 1')
        browser.button("Edit the twin")
        tags = browser.one("#details textarea[name=tags]")
        tags.clear()
        tags.send_keys("{broken")
        browser.button("Save", "#details")
        self.until_details("The tags are not JSON")
        tags = browser.one("#details textarea[name=tags]")
        self.assertEqual(tags.get_property("value"), "{broken")
        tags.clear()
        tags.send_keys(json.dumps({"kept": True, "new": {"text": MARKUP}}))
        browser.button("Save", "#details")
        self.until_details('"new"', "<img src=x")
        twin = self.emulator.ask("GET", f"devices/{device}")[1]["twin"]
        self.assertEqual(twin["tags"], {"kept": True, "new": {"text": MARKUP}})

    def test_failures_look_different_and_have_a_reason(self):
        browser, device = self.browser, "refused-1"
        status, _ = register(self.emulator, device, key_for="another-device")
        self.assertEqual(status, 401)
        provision(self.emulator, "accepted-1")
        self.filter_device("-1")
        self.until_row("refused-1", "401")
        self.until_row("accepted-1", "200 assigned")
        looks = browser.script(
            """return ["refused-1", "accepted-1"].map((id) => {
                 const row = [...document.querySelectorAll("#entries [role=option]")].find((row) =>
                   row.innerText.includes(id) && /401|200 assigned/.test(row.innerText));
                 const badge = row.querySelector(".badge");
                 const style = getComputedStyle(badge);
                 return [badge.textContent, style.backgroundColor, style.fontWeight];
               })"""
        )
        self.assertIn("✕", looks[0][0])
        self.assertIn("rejected or failed", looks[0][0])
        self.assertIn("✓", looks[1][0])
        for refused, accepted in zip(*looks):
            self.assertNotEqual(refused, accepted)
        browser.select_row("refused-1", "401")
        why = self.emulator.ask("GET", "requests?limit=1000")[1]["requests"]
        why = next(request["outcome"] for request in why if request["registrationId"] == device)
        self.until_details("401", why, '"registrationId": "refused-1"', '"errorCode"')


class Webhooks(PageTest):
    def test_the_attempts_of_a_webhook_that_answers_500_count_up(self):
        browser, device = self.browser, "attempts-1"
        self.webhook.answers[device] = (500, "out of order")
        register(self.emulator, device)
        for attempt in (1, 2, 3):
            self.until_row(device, f"Webhook {attempt} of 11", "500")
        browser.select_row(device, "Webhook 1 of 11")
        self.until_details("attempt 1 of 11", "will be called again in 1.0 s", "out of order", "AllocationRequest", f'"registrationId": "{device}"')
        # The list of attempts grows while it is open.
        browser.until(lambda: len(browser.all("#details .attempts button")) >= 4, "four attempts")
        self.webhook.answers.pop(device)
        self.until_row(device, "✓ 200", "of 11")
        browser.until(lambda: "200" in browser.texts("#details .attempts button")[-1], "the last attempt went well")
        browser.all("#details .attempts button")[-1].click()
        self.until_details(f'"iotHubHostName": "{TOASTERS}"')

    def test_a_pending_call_is_shown(self):
        browser, device = self.browser, "slow-1"
        self.webhook.delays[device] = 3
        register(self.emulator, device)
        self.until_row(device, "Webhook 1 of 11", "waiting")
        browser.select_row(device, "waiting")
        self.until_details("has not answered yet")
        # The answer replaces the waiting entry, in the row and in the details.
        self.until_details(f'"iotHubHostName": "{TOASTERS}"')
        self.assertEqual([row for row in browser.rows() if device in row and "waiting" in row], [])

    def test_replay_calls_the_webhook_and_changes_no_device(self):
        browser, device = self.browser, "replay-1"
        self.webhook.answers[device] = (400, "not this one")
        status, answer = provision(self.emulator, device)
        self.assertEqual((status, answer["status"]), (200, "failed"))
        self.until_row(device, "Webhook 1 of 11", "400")
        browser.select_row(device, "Webhook 1 of 11")
        self.until_details("400207", "not this one")
        self.webhook.answers[device] = (200, {"iotHubHostName": HEAT_PUMPS})
        browser.button("Replay")
        self.until_row(device, "Webhook, replay", "200")
        self.until_details("Replay of a webhook call", f'"iotHubHostName": "{HEAT_PUMPS}"')
        self.assertIsNone(self.emulator.ask("GET", f"devices/{device}")[1].get("assignedHub"))

    def test_a_payload_with_markup_is_shown_and_not_run(self):
        browser = self.browser
        shown = MARKUP.replace('"', '\\"')
        cases = [
            # the webhook's answer; rows, and what their details show
            ((400, MARKUP), [("Webhook 1 of 11", MARKUP), ("Register", shown), ("Poll", "400207")]),
            ((200, MARKUP), [("Webhook 1 of 11", MARKUP), ("Poll", "400207")]),
            ((200, {"iotHubHostName": MARKUP}), [("Webhook 1 of 11", shown), ("Poll", "400207")]),
            (
                (200, {"iotHubHostName": TOASTERS, "payload": {MARKUP: MARKUP},
                       "initialTwin": {"tags": {"<b>tag</b>": MARKUP}, "properties": {"desired": {"<i>d</i>": MARKUP}}}}),
                [("Webhook 1 of 11", shown), ("Poll", shown)],
            ),
        ]
        for number, (answer, expected) in enumerate(cases):
            device = f"markup-{number}"
            with self.subTest(answer=answer):
                self.webhook.answers[device] = answer
                provision(self.emulator, device, {"text": MARKUP})
                self.filter_device(device)
                for row, text in expected:
                    self.until_row(device, row)
                    browser.select_row(device, row)
                    self.until_details(text)
        browser.until(lambda: any("markup-3" in text for text in browser.texts("#device-list li")), "the device is listed")
        browser.one("#device-list [data-key='markup-3'] button").click()
        self.until_details("<b>tag</b>", "<i>d</i>", shown)
        # The user name of MQTT is also text of a client. With a slash, it names a hub.
        connect_mqtt(self.emulator.mqtt, client_id="markup", user_name=MARKUP)
        browser.button("Show all")
        self.until_row("rejected", "Hub Connect")
        browser.select_row("Hub Connect")
        self.until_details(MARKUP)
        self.assertEqual(browser.script("return document.querySelectorAll('img, b, i, main script').length"), 0)


class Actions(PageTest):
    def test_an_enrollment_is_disabled_and_enabled(self):
        browser = self.browser
        browser.button("Disable", "#enrollments")
        browser.until(lambda: "disabled" in browser.text("#enrollment-list"), "the enrollment is disabled")
        # The focus does not move.
        browser.until(
            lambda: browser.script("return document.activeElement.ariaLabel") == f"Enable group {GROUP}", "the focus is on Enable"
        )
        self.assertEqual(provision(self.emulator, "disabled-1")[1]["status"], "disabled")
        self.until_row("disabled-1", "✕", "disabled")
        browser.button("Enable", "#enrollments")
        browser.until(lambda: "enabled" in browser.texts("#enrollment-list .badge"), "the enrollment is enabled")
        self.assertEqual(provision(self.emulator, "disabled-1")[1]["status"], "assigned")

    def test_an_enrollment_of_the_service_api_appears_and_disappears(self):
        browser = self.browser
        path, key = "/enrollmentGroups/from-a-service-sdk", base64.b64encode(b"a key of the test, 32 bytes long").decode()
        group = {
            "enrollmentGroupId": "from-a-service-sdk",
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
            "allocationPolicy": "hashed",
            "provisioningStatus": "disabled",
        }
        status, answer = self.emulator.ask_service("PUT", path, group)
        self.assertEqual(status, 200, answer)
        listed = "#enrollment-list [data-key='group from-a-service-sdk']"
        browser.until(lambda: "disabled" in browser.text(listed), "the enrollment is listed")
        self.assertIn("hashed", browser.text(listed))
        status, answer = self.emulator.ask_service("POST", f"{path}/attestationmechanism")
        self.assertEqual((status, answer["symmetricKey"]["primaryKey"]), (200, key))
        # The SDK sends and receives keys. The page shows none.
        for row in (f"PUT {path}", f"POST {path}/attestationmechanism"):
            self.until_row(row, "200")
            browser.select_row(row)
            self.until_details("Request body", "from-a-service-sdk")
            self.assertNotIn(key, browser.script("return document.body.textContent"))
        self.assertEqual(self.emulator.ask_service("DELETE", path)[0], 204)
        browser.until(lambda: browser.text(listed) == "", "the enrollment is gone")

    def test_reset_asks_for_confirmation_and_deletes_everything(self):
        browser, device = self.browser, "reset-1"
        provision(self.emulator, device)
        self.until_row(device, "200 assigned")
        browser.button("Reset …")
        self.assertEqual(browser.text("dialog[open] h2"), "Reset the emulator?")
        browser.button("Cancel", "dialog[open]")
        self.assertIn(device, self.emulator.device_ids())
        browser.button("Reset …")
        ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
        browser.until(lambda: not browser.all("dialog[open]"), "the dialog is closed")
        self.assertIn(device, self.emulator.device_ids())
        browser.button("Reset …")
        browser.button("Reset", "dialog[open]")
        browser.until(lambda: browser.rows() == [] and "No device has registered yet" in browser.text("#devices"), "all is gone")
        self.assertEqual(self.emulator.device_ids(), [])
        provision(self.emulator, "reset-2")
        self.until_row("reset-2", "200 assigned")

    def test_the_timeline_is_filtered_and_paused(self):
        browser = self.browser
        self.webhook.answers["filter-bad"] = (400, "no")
        provision(self.emulator, "filter-good")
        provision(self.emulator, "filter-bad")
        self.until_row("filter-bad", "200 failed")
        self.filter_device("filter-")
        for field, option, wanted, unwanted in [
            ("#filter-kind", "webhook calls", "Webhook", "Poll"),
            ("#filter-kind", "registrations", "Register", "Webhook"),
            ("#filter-tone", "rejected or failed", "filter-bad", "filter-good"),
            ("#filter-tone", "succeeded", "filter-good", "filter-bad"),
        ]:
            choice = Select(browser.one(field))
            choice.select_by_visible_text(option)
            browser.until(
                lambda: browser.rows() and all(wanted in row and unwanted not in row for row in browser.rows()), f"only {option}"
            )
            choice.select_by_visible_text("all")
        browser.button("Show all")
        browser.button("Pause")
        before = browser.rows()
        provision(self.emulator, "while-paused")
        browser.until(lambda: re.search(r"Resume \([1-9]\d* new\)", browser.text("#pause")), "new entries are counted")
        self.assertEqual(browser.rows(), before)
        browser.one("#pause").click()
        self.until_row("while-paused", "200 assigned")

    def test_the_main_task_works_with_the_keyboard_only(self):
        browser, device = self.browser, "keyboard-1"
        self.webhook.answers[device] = (400, "not this one")
        provision(self.emulator, device)
        self.until_row(device, "200 failed")

        def press(*keys):
            for key in keys:
                ActionChains(browser.driver).send_keys(key).perform()

        def focus():
            return browser.script(
                """const e = document.activeElement;
                   return e === document.body ? "" : (e.id || e.ariaLabel || e.innerText)"""
            )

        # The first Tab moves to the skip link. The link leads to the timeline.
        press(Keys.TAB)
        self.assertEqual(focus(), "Skip to the timeline")
        press(Keys.ENTER)
        press(Keys.TAB) if focus() != "entries" else None
        self.assertEqual(focus(), "entries")
        # From the newest entry to the webhook call, and then to its details.
        press(Keys.HOME)
        for _ in range(20):
            active = browser.script(
                "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).innerText"
            )
            if "Webhook" in active and device in active:
                break
            press(Keys.ARROW_DOWN)
        press(Keys.ENTER)
        self.assertEqual(focus(), "details-body")
        self.until_details("not this one")
        visible = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
        self.assertNotEqual(visible, "none")
        for _ in range(5):
            press(Keys.TAB)
            if focus() == "replay":
                break
        self.assertEqual(focus(), "replay")
        self.webhook.answers.pop(device)
        press(Keys.ENTER)
        self.until_row(device, "Webhook, replay", "200")
        # Tab reaches every control, and the focus is visible.
        seen = set()
        for _ in range(60):
            press(Keys.TAB)
            if focus() == "":
                continue  # The document itself, after the last control.
            seen.add(focus())
            style = browser.script("const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth")
            self.assertNotIn("none", style, focus())
        for control in ["reset", "device-search", "pause", "filter-device", "filter-kind", "entries", f"Disable group {GROUP}"]:
            self.assertIn(control, seen)


class AtHub(PageTest):
    """Devices that connect to their hub."""

    def provision(self, device, twin=None):
        """Registers a device, and selects it on the page."""
        self.webhook.answers[device] = (200, {"iotHubHostName": TOASTERS, "initialTwin": twin or {}})
        self.assertEqual(provision(self.emulator, device)[1]["status"], "assigned")
        self.browser.until(lambda: self.listed(device) != "", "the device is listed")
        self.browser.one(f"#device-list [data-key='{device}'] button").click()

    def listed(self, device):
        return self.browser.text(f"#device-list [data-key='{device}']")

    def until_listed(self, device, text):
        self.browser.until(lambda: text in self.listed(device), f"{device} is listed with {text!r}")

    def test_a_device_connects_and_disconnects_without_a_reload(self):
        browser, device = self.browser, "connects-1"
        browser.script("window.loadedOnce = true")
        self.provision(device)
        self.until_details("has not connected yet")
        self.assertIn("not connected", self.listed(device))
        with HubDevice(self.emulator, device):
            browser.until(lambda: "not connected" not in self.listed(device), "the device is connected")
            self.until_details("connected since")
            # Rows of the hub differ from rows of DPS.
            self.until_row(device, "done", "Hub Connect")
            self.until_row(device, "done", "Hub Subscribe")
            rows = browser.rows()
            self.assertTrue(any("Register" in row for row in rows) and not any("Hub Register" in row for row in rows), rows)
        self.until_listed(device, "not connected")
        self.until_details("not connected since")
        self.assertTrue(browser.script("return window.loadedOnce"))

    def test_the_timeline_is_filtered_by_hub_events(self):
        browser, device = self.browser, "filtered-1"
        self.provision(device)
        with HubDevice(self.emulator, device) as connected:
            connected.send("1")
            connected.report({"a": 1})
            self.until_row(device, "Hub Report")
            kind = Select(browser.one("#filter-kind"))
            for value, shown, hidden in [
                ("hub", ["Hub Connect", "Hub Report"], ["Telemetry", "Register"]),
                ("telemetry", ["Hub Telemetry"], ["Connect", "Register"]),
                ("register", ["Register"], ["Hub"]),
            ]:
                kind.select_by_value(value)
                with self.subTest(kind=value):
                    for text in shown:
                        self.until_row(text)
                    browser.until(
                        lambda: not [row for row in browser.rows() if any(text in row for text in hidden)],
                        f"rows with {hidden} are hidden",
                    )
            kind.select_by_value("")
            self.until_row(device, "Hub Report")
            browser.select_row(device, "Hub Report")
            self.until_details(TOASTERS, '"a": 1', "204")

    def test_a_desired_change_reaches_the_connected_device(self):
        browser, device = self.browser, "desired-1"
        self.provision(device, {"properties": {"desired": {"state": "ready", "old": 1}}})
        self.until_details("desired properties, version 1", '"state": "ready"')
        with HubDevice(self.emulator, device) as connected:
            self.until_details("connected since")
            browser.button("Edit the twin")
            desired = browser.one("#details textarea[name=desired]")
            desired.clear()
            desired.send_keys(json.dumps({"state": MARKUP}))
            # During the edit, the device reports, and another operator adds a property. The edit continues, and no
            # change is lost.
            self.assertEqual(connected.report({"firmware": "1.2"}), "$iothub/twin/res/204/?$rid=1&$version=2")
            self.emulator.ask("POST", f"devices/{device}/twin", {"desired": {"added": True}})
            self.assertEqual(connected.message()[1], {"added": True, "$version": 2})
            self.until_details("reported properties, version 2", '"firmware": "1.2"')
            self.assertEqual(desired.get_property("value"), json.dumps({"state": MARKUP}))
            browser.button("Save", "#details")
            topic, patch = connected.message()
            self.assertEqual(topic, "$iothub/twin/PATCH/properties/desired/?$version=3")
            self.assertEqual(patch, {"state": MARKUP, "old": None, "$version": 3})
            self.until_details("desired properties, version 3", "<img src=x", '"added": true')
            self.until_row(device, "sent", "Hub Desired change", "$version 3")

    def test_a_reported_value_appears(self):
        browser, device = self.browser, "reported-1"
        self.provision(device)
        self.until_details("reported properties, version 1")
        with HubDevice(self.emulator, device) as connected:
            connected.report({"status": MARKUP, MARKUP[:20].replace(" ", ""): 1})
            self.until_details("reported properties, version 2", "<img src=x", "<imgsrc=x")
            self.until_row(device, "204", "Hub Report")
        self.assertEqual(browser.script("return document.querySelectorAll('img, main script').length"), 0)

    def test_telemetry_appears_and_changes_no_other_part(self):
        browser, device = self.browser, "telemetry-1"
        self.provision(device, {"tags": {"room": "5/12"}})
        self.until_details("has sent no telemetry", '"room": "5/12"')
        # An unchanged part is not drawn again.
        browser.script("window.tags = [...document.querySelectorAll('#details .titled')].find((e) => e.innerText.includes('Twin: tags'))")
        with HubDevice(self.emulator, device) as connected:
            self.until_details("connected since")
            connected.send(json.dumps({"temperature": 21.5}), "%24.ct=application%2Fjson&level=warm&" + "x%3Cb%3E=1")
            self.until_details("Telemetry: 1 message", '"temperature": 21.5', "$.ct=application/json", "level=warm", "x<b>=1")
            for number in range(39):
                connected.send(MARKUP + str(number))
            self.until_details("Telemetry: 40 messages, the last 32", MARKUP + "38", MARKUP + "7")
            self.until_listed(device, "40 messages")
            self.assertNotIn("temperature", browser.text("#telemetry"))
            self.assertIn(MARKUP + "38", browser.text("#telemetry li"))
            self.until_row(device, "received", "Hub Telemetry")
        self.assertTrue(browser.script("return window.tags.isConnected"))
        self.assertEqual(browser.script("return document.querySelectorAll('img, b, main script').length"), 0)

    def test_a_device_is_disabled_enabled_disconnected_and_deleted(self):
        browser, device = self.browser, "operated-1"
        self.provision(device)
        self.until_details("Disable at the hub")
        disabled = lambda: browser.script("return document.querySelector('#hub-disconnect').ariaDisabled")
        self.assertEqual(disabled(), "true")
        focus = lambda: browser.script("return document.activeElement.id")
        for name, button, told in [
            ("Drop the connection", "hub-disconnect", "was disconnected from"),
            ("Disable at the hub", "hub-enabled", "is disabled at"),
        ]:
            with HubDevice(self.emulator, device) as connected:
                browser.until(lambda: disabled() is None, "the device is connected")
                browser.button(name)
                self.assertTrue(connected.ended.wait(20), name)
                browser.until(lambda: f"{device} {told} {TOASTERS}" in browser.text("#notices"), told)
                self.until_listed(device, "not connected")
                self.until_row(device, "dropped", "Hub Link")
                browser.until(lambda: focus() == button, "the focus stays where it was")
        self.until_listed(device, "disabled at the hub")
        self.until_details("disabled: the hub rejects the device")
        with self.assertRaises(ConnectionError):
            HubDevice(self.emulator, device)
        self.until_row(device, "rejected", "Hub Connect")
        browser.button("Enable at the hub")
        self.until_details("Disable at the hub")
        with HubDevice(self.emulator, device) as connected:
            self.until_details("connected since")
            browser.button("Delete from the hub …")
            self.assertIn(TOASTERS, browser.text("dialog[open]"))
            browser.button("Cancel", "dialog[open]")
            self.assertFalse(connected.ended.is_set())
            browser.button("Delete from the hub …")
            browser.button("Delete", "dialog[open]")
            self.assertTrue(connected.ended.wait(20), "deleted")
        self.until_details("the device was deleted there", "There is no twin")
        self.assertEqual(browser.all("#hub-remove"), [])
        self.assertNotIn("connected", self.listed(device))
        with self.assertRaises(ConnectionError):
            HubDevice(self.emulator, device)
        # The device registers again, and appears again.
        provision(self.emulator, device)
        self.until_details("desired properties, version 1", "Delete from the hub")
        with HubDevice(self.emulator, device):
            self.until_details("connected since")


class Looks(PageTest):
    """Tests of the layout, with content in each part of the page."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.webhook.answers["looks-failed"] = (400, "x" * 2000)
        provision(cls.emulator, "looks-assigned", {"long": "y" * 2000})
        provision(cls.emulator, "looks-failed")
        provision(cls.emulator, "looks-with-a-very-long-registration-id-" + "z" * 80)
        register(cls.emulator, "looks-refused", key_for="other")
        connected = cls.enterClassContext(HubDevice(cls.emulator, "looks-assigned"))
        connected.report({"long": "r" * 2000})
        for text in ('{"temperature": 21.5}', "z" * 2000):
            connected.send(text, "%24.ct=text&" + "p" * 300 + "=" + "q" * 300)

    def views(self):
        """Opens each view of the page in turn."""
        browser = self.browser
        yield "nothing selected"
        self.until_row("looks-refused", "401")
        browser.select_row("looks-failed", "Webhook 1 of 11")
        self.until_details("AllocationRequest")
        yield "a refused webhook call"
        browser.select_row("looks-refused", "401")
        self.until_details("Request body")
        yield "a refused request"
        browser.one("#device-list [data-key='looks-assigned'] button").click()
        self.until_details("Twin: tags", "Telemetry: 2 messages")
        yield "a device"
        browser.button("Edit the twin")
        yield "a twin that is edited"
        browser.button("Cancel", "#details")
        browser.button("Delete from the hub …")
        yield "a device that is to be deleted from its hub"
        browser.button("Cancel", "dialog[open]")
        browser.button("Show all")
        browser.select_row("looks-assigned", "Hub Telemetry")
        self.until_details("Request body", "zzzz")
        yield "telemetry"
        browser.button("Reset …")
        yield "a dialog"
        browser.button("Cancel", "dialog[open]")

    def test_the_page_follows_the_accessibility_rules(self):
        browser, source = self.browser, axe()
        browser.script(source)
        for scheme, width in [("light", 1400), ("dark", 400)]:
            browser.scheme(scheme)
            browser.size(width, 900)
            for view in self.views():
                passed, broken = browser.asynchronous(
                    """const told = await axe.run();
                       return [told.passes.length,
                               told.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html}`))]"""
                )
                with self.subTest(scheme=scheme, width=width, view=view):
                    # Few rules apply while a dialog hides the page, so 15 is enough.
                    self.assertGreater(passed, 15)
                    self.assertEqual(broken, [])
        browser.scheme("light")

    def test_no_width_makes_the_page_scroll_sideways(self):
        browser = self.browser
        for width in (320, 400, 1000):
            browser.size(width, 900)
            for view in self.views():
                with self.subTest(width=width, view=view):
                    self.assertLessEqual(browser.script("return document.documentElement.scrollWidth"), width)

    def test_light_and_dark_are_two_palettes(self):
        grounds = []
        for scheme in ("light", "dark"):
            self.browser.scheme(scheme)
            color = self.browser.script("return getComputedStyle(document.body.parentElement).backgroundColor")
            grounds.append(sum(map(int, re.findall(r"\d+", color)[:3])))
        self.browser.scheme("light")
        self.assertGreater(grounds[0], 600)
        self.assertLess(grounds[1], 150)


class Many(PageTest):
    def measure_pauses(self):
        """From now on, `window.longest` has the longest pause of the page in milliseconds."""
        self.browser.script(
            """window.longest = 0;
               let last = performance.now();
               const tick = () => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; setTimeout(tick, 10); };
               tick()"""
        )

    def test_a_fleet_that_sends_telemetry_does_not_flood_the_page(self):
        browser, devices, messages = self.browser, [f"fleet-{number}" for number in range(20)], 500
        for device in devices:
            provision(self.emulator, device)
        fleet = [self.enterContext(HubDevice(self.emulator, device)) for device in devices]
        browser.until(lambda: all("not connected" not in text for text in browser.texts("#device-list li")), "all are connected")
        browser.one(f"#device-list [data-key='{devices[0]}'] button").click()
        self.until_details("has sent no telemetry")
        before = int(browser.text("#request-count"))
        self.measure_pauses()
        started = time.monotonic()

        def send(device):
            for number in range(messages):
                # The program waits for the acknowledgement of the last message.
                device.send(f"{number}", qos=int(number == messages - 1))

        with concurrent.futures.ThreadPoolExecutor(len(fleet)) as pool:
            list(pool.map(send, fleet))
        took = time.monotonic() - started
        browser.until(lambda: all(f"{messages} messages" in text for text in browser.texts("#device-list li")), "all are counted")
        self.until_details(f"Telemetry: {messages} messages, the last 32")
        longest, shown = browser.script("return window.longest"), int(browser.text("#request-count")) - before
        print(f"\n  {len(fleet) * messages} messages in {took:.1f} s: {shown} entries, the longest pause {longest:.0f} ms", end=" ")
        self.assertLessEqual(shown, 100 * (took // 10 + 2))
        self.assertLess(longest, 1000)

    def test_ten_thousand_entries_do_not_freeze_the_page(self):
        browser = self.browser
        before = int(browser.text("#request-count"))
        self.measure_pauses()

        def some(worker):
            connection = http.client.HTTPConnection(self.emulator.http)
            for number in range(2750):
                connection.request("POST", f"/0ne00002193/registrations/many-{worker}-{number}?api-version=2021-06-01", "{}",
                                   {"Content-Type": "application/json"})
                connection.getresponse().read()

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(some, range(4)))
        browser.until(lambda: int(browser.text("#request-count").rstrip("+")) >= before + 11_000, "all are counted", 60)
        entries = int(re.match(r"\d+", browser.text("#entry-count"))[0])
        longest = browser.script("return window.longest")
        self.assertLessEqual(entries, 10_000)
        self.assertGreater(entries, 9_000)
        self.assertLess(browser.script("return document.querySelectorAll('*').length"), 1500)
        # From the newest to the oldest entry and back.
        browser.script("document.querySelector('#entries').scrollTop = 1e9")
        browser.until(lambda: browser.script(
            f"return [...document.querySelectorAll('#entries [role=option]')].some((row) => row.ariaPosInSet === '{entries}')"
        ), "the oldest entry")
        started = time.monotonic()
        browser.open(self.emulator.control)
        browser.until(lambda: int(re.match(r"\d+", browser.text("#entry-count"))[0]) >= 9_000, "the entries are back", 30)
        reload = time.monotonic() - started
        print(f"\n  {entries} entries: the longest pause {longest:.0f} ms, a reload {reload:.1f} s", end=" ")
        self.assertLess(longest, 1000)
        self.assertLess(reload, 15)


class Strangers(unittest.TestCase):
    """Pages of other origins, and foreign host names that resolve to this machine."""

    @classmethod
    def setUpClass(cls):
        cls.emulator = cls.enterClassContext(Emulator())
        provision(cls.emulator, "breakroom499-contoso-tstrsd-007")
        cls.port = cls.emulator.control_address.rsplit(":", 1)[1]
        cls.page = cls.enterClassContext(Server(lambda *_: (200, "text/html", "<!doctype html><title>stranger</title><body>")))
        cls.browser = cls.enterClassContext(Browser("--host-resolver-rules=MAP *.test 127.0.0.1"))

    def unharmed(self):
        self.assertEqual(self.emulator.device_ids(), ["breakroom499-contoso-tstrsd-007"])
        self.assertTrue(self.emulator.ask("GET", "enrollments")[1]["enrollments"][0]["enabled"])

    def test_a_foreign_origin_reads_nothing_and_changes_nothing(self):
        browser = self.browser
        control = f"http://127.0.0.1:{self.port}"
        for origin in (f"http://evil.test:{self.page.port}", f"http://127.0.0.1:{self.page.port}"):
            browser.driver.get(f"{origin}/")
            for path in ("health", "devices", "requests", "webhook-calls", "enrollments"):
                with self.subTest(origin=origin, path=path):
                    read = browser.asynchronous("return (await fetch(arguments[0])).text()", f"{control}/_emulator/{path}")
                    self.assertTrue(read.startswith("error: TypeError"), read)
                    opaque = browser.asynchronous("return (await fetch(arguments[0], { mode: 'no-cors' })).text()", f"{control}/_emulator/{path}")
                    self.assertTrue(opaque == "" or opaque.startswith("error: TypeError"), opaque)
            with self.subTest(origin=origin, what="EventSource"):
                seen = browser.asynchronous(
                    """return new Promise((resolve) => {
                         const source = new EventSource(arguments[0]);
                         source.onopen = () => resolve("open");
                         source.onerror = () => resolve(source.readyState);
                         source.addEventListener("request", (e) => resolve(e.data));
                       })""",
                    f"{control}/_emulator/events?after=0",
                )
                self.assertEqual(seen, 2)
            for mode, kind in [("cors", "application/json"), ("no-cors", "text/plain"), ("no-cors", "application/x-www-form-urlencoded")]:
                for path in ("reset", f"enrollments/{GROUP}/disable"):
                    with self.subTest(origin=origin, what="POST", mode=mode, kind=kind, path=path):
                        browser.asynchronous(
                            "await fetch(arguments[0], { method: 'POST', mode: arguments[1], headers: { 'content-type': arguments[2] }, body: '{}' })",
                            f"{control}/_emulator/{path}", mode, kind,
                        )
                        self.unharmed()
            for enctype in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                with self.subTest(origin=origin, what="form", enctype=enctype):
                    browser.script(
                        """const form = document.createElement("form");
                           form.method = "post"; form.action = arguments[0]; form.enctype = arguments[1];
                           form.append(Object.assign(document.createElement("input"), { name: '{"a":"', value: '"}' }));
                           document.body.append(form); form.submit()""",
                        f"{control}/_emulator/reset", enctype,
                    )
                    browser.until(lambda: "_emulator/reset" in browser.driver.current_url, "the form is sent")
                    self.unharmed()
                    browser.driver.get(f"{origin}/")
            with self.subTest(origin=origin, what="frame"):
                # No other page may show this page in a frame (clickjacking).
                browser.script(
                    """const frame = document.createElement("iframe");
                       frame.src = arguments[0]; frame.width = 800; frame.height = 600; document.body.append(frame)""",
                    control,
                )
                time.sleep(1)
                browser.driver.switch_to.frame(0)
                self.assertNotIn("Timeline", browser.script("return document.body.innerText"))
                browser.driver.switch_to.default_content()
            with self.subTest(origin="null"):
                read = browser.asynchronous(
                    """const frame = document.createElement("iframe");
                       frame.sandbox = "allow-scripts";
                       frame.srcdoc = `<script>fetch("${arguments[0]}").then((r) => r.text(), (e) => "error: " + e).then((t) => parent.postMessage(t, "*"))</` + "script>";
                       const said = new Promise((resolve) => addEventListener("message", (e) => resolve(e.data), { once: true }));
                       document.body.append(frame);
                       return said""",
                    f"{control}/_emulator/devices",
                )
                self.assertTrue(read.startswith("error: TypeError"), read)
        self.unharmed()

    def test_a_foreign_host_gets_nothing(self):
        browser = self.browser
        # For the browser, these hosts have the origin of the requesting page. Only the emulator can reject them.
        for host in ("evil.test", "localhost.test", "127.0.0.1.test"):
            browser.driver.get(f"http://{host}:{self.port}/")
            with self.subTest(host=host):
                self.assertNotIn("Timeline", browser.script("return document.body.innerText"))
                for method, path in [("GET", "devices"), ("GET", "events?after=0"), ("POST", "reset"), ("GET", "../")]:
                    status, text = browser.asynchronous(
                        """const response = await fetch(arguments[1], arguments[0] === "GET" ? {} : {
                             method: arguments[0], headers: { "content-type": "application/json" }, body: "{}" });
                           return [response.status, await response.text()]""",
                        method, f"/_emulator/{path}",
                    )
                    self.assertEqual(status, 403)
                    self.assertNotIn("breakroom499", text)
        self.unharmed()
        browser.open(f"http://localhost:{self.port}/")
        self.assertIn("breakroom499", browser.text("#device-list") or browser.text("#devices"))


class Restart(unittest.TestCase):
    def test_the_page_reconnects_after_a_restart(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        browser = shared_browser
        with Emulator("--control", address) as emulator:
            browser.open(emulator.control)
            provision(emulator, "breakroom499-contoso-tstrsd-007")
            browser.until(lambda: "breakroom499" in " ".join(browser.rows()), "the device is shown")
        browser.until(lambda: "Not connected" in browser.text("#connection"), "the page reports the lost connection")
        self.assertIn("breakroom499", " ".join(browser.rows()))
        with Emulator("--control", address) as emulator:
            browser.until(lambda: browser.text("#connection") == "Live", "the page is connected again")
            browser.until(lambda: "restarted" in browser.text("#notices"), "the page says what happened")
            self.assertEqual(browser.rows(), [])
            self.assertIn("No device has registered yet", browser.text("#devices"))
            provision(emulator, "mainbuilding167-contoso-hpsd-088")
            browser.until(lambda: "mainbuilding167" in " ".join(browser.rows()), "the next device is shown")
            # The console lists requests that were sent while no emulator ran.
            self.assertEqual([line for line in browser.console() if "net::ERR_" not in line], [])


class Token(unittest.TestCase):
    def setUp(self):
        self.emulator = self.enterContext(Emulator(environment={"DPS_EMULATOR_CONTROL_TOKEN": "a-secret+of-20-signs"}))
        self.browser = shared_browser
        self.browser.driver.delete_all_cookies()
        self.browser.console()

    def test_a_token_in_the_address_is_used_and_removed(self):
        browser = self.browser
        browser.open(f"{self.emulator.control}/#token=a-secret%2Bof-20-signs")
        self.assertNotIn("token", browser.driver.current_url)
        cookies = browser.driver.get_cookies()
        self.assertEqual([(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies], [(True, "Strict")])
        self.assertNotIn("secret", json.dumps(cookies))
        self.assertEqual(browser.script("return document.cookie"), "")
        browser.open(self.emulator.control)
        self.assertEqual(browser.console(), [])

    def test_without_the_token_the_page_asks_for_it_and_shows_nothing(self):
        browser = self.browser
        browser.driver.get(f"{self.emulator.control}/#token=wrong")
        browser.until(lambda: "requires a token" in browser.text("dialog[open]"), "the page asks")
        self.assertEqual(browser.text("#id-scope"), "–")
        self.assertNotIn("wrong", browser.driver.current_url)
        browser.one("#token").send_keys("wrong, too", Keys.ENTER)
        browser.until(lambda: "token is wrong" in browser.text("#token-error"), "the page says that it is wrong")
        browser.one("#token").clear()
        browser.one("#token").send_keys("a-secret+of-20-signs", Keys.ENTER)
        browser.until(lambda: browser.text("#connection") == "Live", "the page is connected")
        self.assertEqual(browser.text("#id-scope"), "0ne00002193")


    def test_a_token_may_be_added_to_the_address_of_an_open_page(self):
        browser = self.browser
        browser.driver.get(self.emulator.control)
        browser.until(lambda: "requires a token" in browser.text("dialog[open]"), "the page asks")
        browser.driver.get(f"{self.emulator.control}/#token=a-secret%2Bof-20-signs")
        browser.until(lambda: browser.text("#connection") == "Live", "the page is connected")
        self.assertEqual(browser.all("dialog[open]"), [])
        self.assertNotIn("token", browser.driver.current_url)


class FirstSteps(unittest.TestCase):
    def test_an_empty_page_explains_how_to_start(self):
        emulator, browser = self.enterContext(Emulator()), shared_browser
        browser.driver.get("about:blank")
        browser.console()
        browser.open(emulator.control)
        for text in ("No device has registered yet", f"http://{emulator.http}", "0ne00002193"):
            self.assertIn(text, browser.text("#devices"))
        self.assertIn("Nothing has happened yet", browser.text("#entries-empty"))
        self.assertIn("Select an entry", browser.text("#details"))
        self.assertEqual(browser.console(), [])


class Timed(unittest.TextTestResult):
    """Prints the duration of each test."""

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()

    def addSuccess(self, test):
        self.stream.write(f"{time.monotonic() - self.started:.1f} s ")
        super().addSuccess(test)


if __name__ == "__main__":
    unittest.main(verbosity=2, testRunner=unittest.TextTestRunner(verbosity=2, resultclass=Timed))
