// The lists of devices and of enrollments.

import { byId, el, showRows } from "./dom.js";
import { connectionBadge, stateBadge } from "./entries.js";

/** The most rows of a list. Other devices are found by name. */
const MOST_ROWS = 200;

const ATTESTATION = { symmetricKey: "symmetric key", x509: "X.509", tpm: "TPM" };
const POLICY = { geoLatency: "lowest latency", custom: "custom allocation" };

/** `devices` are summaries, `more` tells that the emulator has others. */
export function showDevices({ devices, more, search, selected, onSelect }) {
  const wanted = search.trim().toLowerCase();
  const found = wanted ? devices.filter((device) => device.registrationId.toLowerCase().includes(wanted)) : devices;
  const newest = found.toSorted((a, b) => compare(changedAt(b), changedAt(a)) || compare(a.registrationId, b.registrationId));
  showRows(byId("device-list"), newest.slice(0, MOST_ROWS).map((device) => {
    const current = device.registrationId === selected;
    return {
      key: device.registrationId,
      state: JSON.stringify([device, current]),
      make: () => deviceRow(device, current, () => onSelect(device.registrationId)),
    };
  }));
  byId("device-count").textContent = devices.length > 0 ? `${devices.length}${more ? "+" : ""}` : "";
  const hidden = found.length - MOST_ROWS;
  const note = wanted && found.length === 0 ? "No listed ID contains this text. Press Enter to look for this exact ID."
    : hidden > 0 || more ? `${hidden > 0 ? hidden : "More"}${more && hidden > 0 ? " or more" : ""} devices are not listed. Type an ID and press Enter to look for it.` : "";
  byId("device-more").textContent = note;
  byId("device-more").hidden = note === "";
}

function deviceRow({ registrationId, lastRegistration, assignedHub, substatus, hub: atHub }, current, onSelect) {
  const hub = assignedHub?.replace(/\.azure-devices\.net$/, "") ?? lastRegistration?.errorMessage ?? "no hub";
  return el("li", {}, el("button", { type: "button", "aria-current": current ? "true" : undefined, on: { click: onSelect } },
    el("span", { class: "id", text: registrationId }),
    el("span", { class: "about-line" }, lastRegistration && stateBadge(lastRegistration.status), el("span", { text: hub })),
    atHub && el("span", { class: "about-line" }, connectionBadge(atHub.connectionState), el("span", { text: atHubNow(atHub) })),
    // The usual substatus would be the same line below each device.
    substatus && substatus !== "initialAssignment" && el("span", { class: "about-line", text: substatus })));
}

function atHubNow({ enabled, telemetryCount }) {
  const telemetry = telemetryCount === 0 ? "" : telemetryCount === 1 ? "1 message" : `${telemetryCount} messages`;
  return [enabled ? "" : "disabled at the hub", telemetry].filter(Boolean).join(", ");
}

const changedAt = ({ lastRegistration }) => lastRegistration?.lastUpdatedDateTimeUtc ?? lastRegistration?.createdDateTimeUtc ?? "";
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

export function showEnrollments({ enrollments, more, busy, onEnable }) {
  showRows(byId("enrollment-list"), enrollments.slice(0, MOST_ROWS).map((enrollment) => {
    const key = enrollmentKey(enrollment);
    return {
      key,
      state: JSON.stringify([enrollment, busy.has(key)]),
      make: () => enrollmentRow(enrollment, busy.has(key), () => onEnable(enrollment)),
    };
  }));
  byId("enrollment-count").textContent = enrollments.length > 0 ? `${enrollments.length}${more ? "+" : ""}` : "";
  byId("enrollment-empty").hidden = enrollments.length > 0;
  const note = more || enrollments.length > MOST_ROWS ? `The first ${MOST_ROWS} are listed.` : "";
  byId("enrollment-more").textContent = note;
  byId("enrollment-more").hidden = note === "";
}

function enrollmentRow({ kind, id, enabled, attestation, allocationPolicy }, busy, onEnable) {
  return el("li", { class: "enrollment" },
    el("span", { class: "id", text: id }),
    el("p", {},
      el("span", { class: `badge ${enabled ? "ok" : "off"}`, text: enabled ? "enabled" : "disabled" }),
      ` ${kind}, ${ATTESTATION[attestation] ?? attestation}, ${POLICY[allocationPolicy] ?? allocationPolicy}`),
    el("button", {
      type: "button",
      // A button that is disabled would lose the focus.
      "aria-disabled": busy ? "true" : undefined,
      text: enabled ? "Disable" : "Enable",
      "aria-label": `${enabled ? "Disable" : "Enable"} ${kind} ${id}`,
      on: { click: busy ? undefined : onEnable },
    }));
}

export const enrollmentKey = ({ kind, id }) => `${kind} ${id}`;

/** What a newcomer sees instead of devices: how to bring one here. */
export function firstSteps(health) {
  const at = health.listeners.filter(({ listener }) => listener !== "control");
  return [
    el("strong", { text: "No device has registered yet." }),
    el("ol", {},
      el("li", {}, "Connect a device to this address instead of global.azure-devices-provisioning.net:",
        el("ul", {}, at.map(({ url }) => el("li", {}, el("code", { text: url }))))),
      el("li", {}, "Use the ID scope ", el("code", { text: health.idScope }), "."),
      el("li", {}, "Register with a key or certificate of an enrollment below. The device then appears here.")),
  ];
}
