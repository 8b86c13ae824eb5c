// The details of a device: its registration, its connection to its hub, its twin, and its last telemetry.

import { id, outcome, when } from "./details.js";
import { el, facts } from "./dom.js";
import { connectionBadge, stateBadge } from "./entries.js";
import { body, titledBody } from "./json.js";

/** The control API gives so many bytes of a message. */
const MOST_BODY = 16 * 1024;

export const unknownDevice = (registrationId) => [
  el("h3", {}, id(registrationId)),
  el("p", { text: "The emulator does not know this device. No registration of the device was accepted." }),
];

/**
 * The parts of a device's details, for `showRows`: a part that shows the same as before stays as it is, so that a device
 * that sends telemetry does not disturb somebody who reads its twin. `edit` is undefined, or the texts
 * `{ tags, desired, error }` of a twin that is being edited.
 */
export function deviceParts(device, edit, actions) {
  const parts = [];
  /** `make` gets what the part shows. */
  const part = (key, shown, make) => parts.push({ key, state: JSON.stringify(shown), make: () => make(shown) });
  const { registrationId, lastRegistration, hub, twin } = device;
  part("head", [registrationId, lastRegistration, hub?.connectionState], head);
  // What changes with each message is in a part of its own.
  part("facts", { ...device, twin: undefined, hub: hub && { ...hub, telemetry: undefined, telemetryCount: undefined } }, registration);
  if (hub) part("actions", [hub.enabled, hub.connectionState], ([enabled, state]) => hubActions(enabled, state === "connected", actions));
  if (twin === undefined) {
    part("twin", "Loading the twin …", quiet);
  } else if (twin === null) {
    part("twin", "There is no twin, because the device has no hub.", quiet);
  } else {
    if (edit) {
      part("twin-form", [edit.tags.text, edit.desired.text, edit.error], () => twinForm(edit, actions));
    } else {
      part("tags", twin.tags, (tags) => titledBody("Twin: tags", JSON.stringify(tags), ""));
      part("desired", [twin.desiredVersion, twin.desired], versioned("desired"));
    }
    part("reported", [twin.reportedVersion, twin.reported], versioned("reported"));
    if (!edit) part("edit", "", () => el("p", { class: "buttons" }, el("button", { type: "button", id: "edit-twin", text: "Edit the twin", on: { click: actions.editTwin } })));
  }
  if (hub?.telemetry) part("telemetry", [hub.telemetryCount, hub.telemetry], ([count, messages]) => telemetry(count, messages));
  return parts;
}

const quiet = (text) => el("p", { class: "quiet", text });
const versioned = (name) => ([version, properties]) => titledBody(`Twin: ${name} properties, version ${version}`, JSON.stringify(properties), "");

function head([registrationId, last, connectionState]) {
  const failed = last?.errorMessage ? `${last.errorCode ?? ""} ${last.errorMessage}`.trim() : undefined;
  return el("div", { class: "part" },
    el("h3", {}, last && stateBadge(last.status), last && " ", connectionState && connectionBadge(connectionState), " ", id(registrationId)),
    failed && outcome("bad", failed));
}

function registration({ assignedHub, deviceId, substatus, enrollment, registrations, lastRegistration: last, hub }) {
  const since = hub?.since ? [" since ", when(hub.since)] : [];
  const connection = hub?.connectionState === "connected" ? ["connected", since] : hub?.since ? ["not connected", since] : ["has not connected yet"];
  return facts([
    ["Hub", assignedHub === null ? "none" : [id(assignedHub), hub ? "" : " (the device was deleted there)"]],
    ["Device ID", deviceId === null ? undefined : id(deviceId)],
    ["At the hub", hub && (hub.enabled ? "enabled" : "disabled: the hub rejects the device")],
    ["Connection", hub && connection.flat()],
    ["Substatus", substatus],
    ["Enrollment", enrollment && el("span", {}, id(enrollment.id), ` (${enrollment.kind})`)],
    ["Assigned", registrations === 1 ? "once" : `${registrations} times`],
    ["Registered", last?.createdDateTimeUtc && when(last.createdDateTimeUtc)],
    ["Updated", last?.lastUpdatedDateTimeUtc && when(last.lastUpdatedDateTimeUtc)],
  ]);
}

function hubActions(enabled, connected, actions) {
  const button = (name, text, click, attributes) => el("button", { type: "button", id: `hub-${name}`, text, on: { click }, ...attributes });
  return el("p", { class: "buttons", role: "group", "aria-label": "At the hub" },
    enabled
      ? button("enabled", "Disable at the hub", () => actions.atHub("disable"))
      : button("enabled", "Enable at the hub", () => actions.atHub("enable")),
    // A button that is disabled would lose the focus.
    button("disconnect", "Drop the connection", connected ? () => actions.atHub("disconnect") : undefined, { "aria-disabled": connected ? undefined : "true" }),
    button("remove", "Delete from the hub …", actions.removeFromHub));
}

/** `messages` are the last ones, oldest first. */
function telemetry(count, messages) {
  const some = messages.length < count ? `, the last ${messages.length}` : "";
  return el("section", { class: "titled", id: "telemetry" },
    el("h4", { text: `Telemetry: ${count === 1 ? "1 message" : `${count} messages`}${some}` }),
    messages.length === 0 && count === 0 && quiet("The device has sent no telemetry."),
    el("ol", { class: "messages", hidden: messages.length === 0 }, messages.toReversed().map(message)));
}

function message({ at, properties, body: text, size }) {
  const bag = properties.map(({ name, value }) => `${name}=${value}`);
  return el("li", {},
    el("p", { class: "quiet" }, when(at), bag.length > 0 && [" ", id(bag.join(" & "))]),
    size === 0 ? quiet("The message has no body.") : body(text),
    size > MOST_BODY && quiet(`The message has ${size} bytes. Only the beginning is shown.`));
}

function twinForm(edit, actions) {
  const field = (name, title) => el("label", { class: "titled" }, el("h4", { text: title }),
    (edit[name].box = el("textarea", { name, spellcheck: "false", rows: "8" }, edit[name].text)));
  const form = el("form", { id: "twin-form" },
    field("tags", "Twin: tags"),
    field("desired", "Twin: desired properties"),
    el("p", { class: "error", role: "alert", text: edit.error ?? "" }),
    el("p", { class: "buttons" },
      el("button", { class: "main", text: "Save" }),
      el("button", { type: "button", text: "Cancel", on: { click: actions.cancelTwin } })));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    actions.saveTwin(edit.tags.box.value, edit.desired.box.value);
  });
  return form;
}

/** The merge patch (RFC 7396) that makes `after` of `before`. */
export function mergePatch(before, after) {
  const plain = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  // Without a prototype, so that a member named __proto__ is a member like the others.
  const patch = Object.create(null);
  for (const name of Object.keys(before)) if (!Object.hasOwn(after, name)) patch[name] = null;
  for (const [name, value] of Object.entries(after)) {
    const old = Object.hasOwn(before, name) ? before[name] : undefined;
    if (JSON.stringify(old) === JSON.stringify(value)) continue;
    patch[name] = plain(old) && plain(value) ? mergePatch(old, value) : value;
  }
  return patch;
}
