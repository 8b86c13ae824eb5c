// The page: what is known, what is selected, and who tells whom.

import * as api from "./api.js";
import { attemptsBar, callDetails, failureDetails, requestDetails } from "./details.js";
import { deviceParts, mergePatch, unknownDevice } from "./device.js";
import { byId, el, oncePerFrame, showRows } from "./dom.js";
import { fromCall, fromFailure, fromRequest, row } from "./entries.js";
import { enrollmentKey, firstSteps, showDevices, showEnrollments } from "./lists.js";
import { Timeline } from "./timeline.js";

/** The most entries of the timeline, and how much text they may hold. The oldest ones go first. */
const MOST_ENTRIES = 10_000;
const MOST_TEXT = 32_000_000;
/** The most devices and enrollments that are kept. Others are found by their exact ID. */
const MOST_LISTED = 5_000;

// --- What is known --------------------------------------------------------------------------

let health;
let entries = []; // oldest first
let text = 0;
let newSinceShown = 0;
/** Entries of webhooks that have not answered yet. */
let waiting = new Map();
/** Whether entries before the oldest one are no longer kept. */
let cutOff = false;
/** While the timeline is paused: the key of the last entry that it shows. */
let pausedAt;
const counts = { request: 0, call: 0 };

/** `loadedAt` is the last event that the list shows: earlier events about it are history. */
const devices = { known: new Map(), more: false, loadedAt: 0 };
const enrollments = { known: new Map(), more: false, loadedAt: 0, busy: new Set() };

/**
 * `undefined`, `{ entry, full }` or `{ device, edit, unknown, reading }`: `full` is a webhook call with its bodies, `edit` a
 * twin's form, `unknown` tells that the emulator has no such device, `reading` is the read that is under way.
 */
let selected;
/** The selection whose device the user is asked about: whether it is to be deleted from its hub. */
let removing;

// --- The timeline ---------------------------------------------------------------------------

const timeline = new Timeline(byId("entries"), row, (entry, opened) => selectEntry(entry, opened));
const filters = { device: byId("filter-device"), kind: byId("filter-kind"), tone: byId("filter-tone") };

function passes(entry, device) {
  return (pausedAt === undefined || entry.key <= pausedAt)
    && (!device || entry.device?.toLowerCase().includes(device))
    && (!filters.kind.value || entry.kind === filters.kind.value)
    && (!filters.tone.value || entry.tone === filters.tone.value);
}

const showTimeline = oncePerFrame(() => {
  const device = filters.device.value.trim().toLowerCase();
  const passing = (entry) => passes(entry, device);
  const shown = entries.filter(passing);
  const added = newSinceShown > 0 ? entries.slice(-newSinceShown).filter(passing).length : 0;
  newSinceShown = 0;
  const filtered = device !== "" || filters.kind.value !== "" || filters.tone.value !== "";
  timeline.show(shown, added);
  byId("filter-clear").hidden = !filtered;
  byId("entry-count").textContent = filtered ? `${shown.length} of ${entries.length}` : `${entries.length}${cutOff ? ", older entries are gone" : ""}`;
  const more = cutOff ? "+" : "";
  byId("request-count").textContent = counts.request + more;
  byId("call-count").textContent = counts.call + more;
  const held = pausedAt === undefined ? 0 : entries.length - 1 - entries.findLastIndex((entry) => entry.key <= pausedAt);
  byId("pause").textContent = pausedAt === undefined ? "Pause" : `Resume (${held} new)`;
  byId("entries").hidden = shown.length === 0;
  byId("entries-empty").hidden = shown.length > 0;
  byId("entries-empty").textContent = entries.length === 0
    ? "Nothing has happened yet. Requests of devices and webhook calls appear here."
    : "No entry matches the filter.";
});

function addEntry(entry) {
  entries.push(entry);
  text += entry.size;
  newSinceShown += 1;
  if (entry.type in counts) counts[entry.type] += 1;
  if (entries.length > MOST_ENTRIES || text > MOST_TEXT) {
    // Some more than one, so that this is not done for each new entry.
    let gone = 0;
    while (entries.length - gone > MOST_ENTRIES - 100 || text > MOST_TEXT) text -= entries[gone++].size;
    entries.splice(0, gone);
    cutOff = true;
  }
  showTimeline();
}

/** A webhook that answers takes the place of its entry that waited. */
function addCall(data, underWay) {
  const id = `${data.attempt} ${data.replayOf} ${data.registrationId}`;
  const waited = waiting.get(id);
  if (waited) {
    const { key } = waited;
    Object.assign(waited, fromCall(data, underWay), { key });
    timeline.changed(key);
    showTimeline();
  } else {
    addEntry(fromCall(data, underWay));
  }
  if (!underWay) waiting.delete(id);
  else if (!waited) waiting.set(id, entries.at(-1));
  const shown = selected?.entry;
  if (shown && shown === waited) selectEntry(shown, false);
  else if (shown?.type === "call" && shown.device === data.registrationId) showAttempts(shown);
}

function showAttempts(entry) {
  const focused = document.activeElement?.id;
  byId("attempts")?.replaceWith(attemptsBar(entry, attemptsOf(entry), actions));
  if (focused?.startsWith("attempt-")) byId(focused)?.focus();
}

/** The calls of the registration to which this one belongs, in their order. */
function attemptsOf(entry) {
  if (entry.data.replayOf !== null) return [];
  const all = entries.filter((other) => other.type === "call" && other.device === entry.device && other.data.replayOf === null);
  const at = all.indexOf(entry);
  const first = all.findLastIndex((other, index) => index <= at && other.data.attempt === 1);
  const next = all.findIndex((other, index) => index > at && other.data.attempt === 1);
  return all.slice(Math.max(first, 0), next < 0 ? undefined : next);
}

// --- What is selected -----------------------------------------------------------------------

function select(selection) {
  selected = selection;
  timeline.select(selection?.entry?.key);
  showDetails();
  listDevices();
}

/** `opened` if the user wants to go to the details: they may be below the list. */
function selectEntry(entry, opened) {
  const selection = { entry };
  select(selection);
  if (entry.type === "call" && !entry.underWay) {
    api.webhookCall(entry.data.number)
      .catch((error) => error)
      .then((full) => {
        selection.full = full;
        if (selected === selection) showDetails();
      });
  }
  if (opened) goToDetails();
}

async function selectDevice(id) {
  const summary = devices.known.get(id.toLowerCase()) ?? { registrationId: id, registrations: 0, assignedHub: null, deviceId: null };
  const selection = { device: summary };
  select(selection);
  filters.device.value = id;
  showTimeline();
  await refreshDevice(selection);
  if (selected === selection) goToDetails();
}

/** Reads the device again. While a read is under way, others wait for one that follows it: a device may change often. */
async function refreshDevice(selection) {
  if (selection.reading) {
    selection.changedMeanwhile = true;
    return selection.reading;
  }
  selection.reading = readDevice(selection);
  await selection.reading;
  selection.reading = undefined;
  if (!selection.changedMeanwhile || selected !== selection) return undefined;
  selection.changedMeanwhile = false;
  return refreshDevice(selection);
}

async function readDevice(selection) {
  try {
    selection.device = await api.device(selection.device.registrationId);
    if (selected === selection) showDetails();
  } catch (error) {
    if (selected !== selection) return;
    selection.unknown = error.status === 404;
    if (selection.unknown) showDetails();
    else notify(error.message, "bad");
  }
}

/** Goes to the details where they are below the list, and takes the keyboard there. */
function goToDetails() {
  byId("details-body").focus({ preventScroll: true });
  if (matchMedia("(max-width: 46rem)").matches) byId("details").scrollIntoView();
}

const actions = {
  showDevice: selectDevice,
  showEntry: (entry) => {
    selectEntry(entry, false);
    timeline.reveal(entry.key);
    byId("details-body").focus({ preventScroll: true });
  },
  replay: (entry, button) => attempt(async () => {
    button.disabled = true;
    button.textContent = "Replaying …";
    try {
      const call = await api.replay(entry.data.number);
      notify(`Replayed: the webhook answered ${call.status ?? "nothing"}. ${call.outcome}`, call.assignedHub === null ? "bad" : "ok");
      // The event of the call may be a moment behind the answer.
      const known = await appears(() => entries.findLast((other) => other.type === "call" && other.data.number === call.number));
      if (known) actions.showEntry(known);
    } finally {
      button.disabled = false;
      button.textContent = "Replay";
    }
  }),
  editTwin: () => {
    const pretty = (value) => JSON.stringify(value, null, 2);
    const { tags, desired } = selected.device.twin;
    // The device may change its twin while somebody edits it: the patch is made against what was there at first.
    selected.edit = { base: { tags, desired }, tags: { text: pretty(tags) }, desired: { text: pretty(desired) } };
    showDetails();
    selected.edit.tags.box.focus();
  },
  cancelTwin: () => endEdit(selected),
  saveTwin: async (tags, desired) => {
    const selection = selected;
    const { registrationId } = selection.device;
    const { base } = selection.edit;
    try {
      const patch = { tags: mergePatch(base.tags, object("tags", tags)), desired: mergePatch(base.desired, object("desired", desired)) };
      // What is not changed is not named: a patch of the desired properties raises their version.
      for (const name of Object.keys(patch)) if (Object.keys(patch[name]).length === 0) delete patch[name];
      selection.device = await api.changeTwin(registrationId, patch);
      if (selected === selection) endEdit(selection);
      notify(`The twin of ${registrationId} was changed.`, "ok");
    } catch (error) {
      selection.edit = { base, tags: { text: tags }, desired: { text: desired }, error: error.message };
      if (selected === selection) showDetails();
    }
  },
  atHub: (action) => attempt(async () => {
    const selection = selected;
    const { registrationId, assignedHub } = selection.device;
    selection.device = await api.atHub(registrationId, action);
    if (selected === selection) showDetails();
    const done = { enable: `is enabled at ${assignedHub}`, disable: `is disabled at ${assignedHub}`, disconnect: `was disconnected from ${assignedHub}` };
    notify(`${registrationId} ${done[action]}.`, "ok");
  }),
  removeFromHub: () => {
    removing = selected;
    const { registrationId, assignedHub } = removing.device;
    byId("remove-text").textContent = `${registrationId} and its twin will be deleted from ${assignedHub}. The hub rejects the device until it registers again.`;
    byId("remove-dialog").returnValue = "";
    byId("remove-dialog").showModal();
  },
};

function endEdit(selection) {
  selection.edit = undefined;
  showDetails();
  byId("edit-twin")?.focus();
}

function object(what, json) {
  let value;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new Error(`The ${what} are not JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error(`The ${what} must be a JSON object.`);
  return value;
}

async function appears(find) {
  for (let tries = 0; tries < 20; tries += 1) {
    const found = find();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return undefined;
}

function showDetails() {
  const body = byId("details-body");
  const isSame = body.dataset.shows === shownKey();
  if (selected?.device && !selected.unknown) {
    if (!isSame) body.replaceChildren();
    showRows(body, deviceParts(selected.device, selected.edit, actions));
  } else {
    const focused = body.contains(document.activeElement) ? document.activeElement.id : undefined;
    const scrolled = body.scrollTop;
    body.replaceChildren(...contents().filter(Boolean));
    body.scrollTop = isSame ? scrolled : 0;
    if (focused) (document.getElementById(focused) ?? body).focus({ preventScroll: true });
  }
  if (!isSame) body.scrollTop = 0;
  body.dataset.shows = shownKey();
}

/** What the details show: another entry or device begins at its top. */
function shownKey() {
  if (selected?.entry) return `entry ${selected.entry.key}`;
  if (selected?.device) return `${selected.unknown ? "unknown" : "device"} ${selected.device.registrationId.toLowerCase()}`;
  return "";
}

function contents() {
  if (selected?.unknown) return unknownDevice(selected.device.registrationId);
  const entry = selected?.entry;
  if (entry?.type === "request") return requestDetails(entry, actions);
  if (entry?.type === "failure") return failureDetails(entry);
  if (entry?.type === "call") return callDetails(entry, selected.full, attemptsOf(entry), actions);
  return [el("p", { class: "quiet", text: "Select an entry of the timeline to see its bodies and the reason of its answer. Select a device to see its twin." })];
}

// --- Devices and enrollments ----------------------------------------------------------------

const listDevices = oncePerFrame(() => {
  showDevices({
    devices: [...devices.known.values()],
    more: devices.more,
    search: byId("device-search").value,
    selected: selected?.device?.registrationId,
    onSelect: selectDevice,
  });
  byId("device-empty").hidden = devices.known.size > 0;
});

const listEnrollments = oncePerFrame(() => {
  showEnrollments({
    enrollments: [...enrollments.known.values()],
    more: enrollments.more,
    busy: enrollments.busy,
    onEnable: (enrollment) => attempt(async () => {
      const key = enrollmentKey(enrollment);
      enrollments.busy.add(key);
      try {
        const changed = await api.enable(enrollment, !enrollment.enabled);
        keep(enrollments, key, changed);
        notify(`${changed.id} is ${changed.enabled ? "enabled" : "disabled"}.`, "ok");
      } finally {
        enrollments.busy.delete(key);
        listEnrollments();
      }
    }),
  });
});

/** Keeps what an event or an answer tells of one entry of a list: `undefined` or null if it is gone. */
function keep(list, key, value) {
  if (!value) list.known.delete(key);
  else if (list.known.has(key) || list.known.size < MOST_LISTED) list.known.set(key, value);
  else list.more = true;
}

const deviceKey = ({ registrationId }) => registrationId.toLowerCase();

async function load() {
  const [allDevices, allEnrollments] = await Promise.all([api.list("devices", MOST_LISTED), api.list("enrollments", MOST_LISTED)]);
  for (const [list, loaded, keyOf] of [[devices, allDevices, deviceKey], [enrollments, allEnrollments, enrollmentKey]]) {
    list.known = new Map(loaded.entries.map((entry) => [keyOf(entry), entry]));
    list.more = loaded.more;
    list.loadedAt = loaded.lastEvent;
  }
  listDevices();
  listEnrollments();
}

// --- Events ---------------------------------------------------------------------------------

function clear() {
  entries = [];
  text = 0;
  newSinceShown = 0;
  waiting = new Map();
  cutOff = false;
  pausedAt = undefined;
  byId("pause").setAttribute("aria-pressed", "false");
  counts.request = counts.call = 0;
  for (const field of Object.values(filters)) field.value = "";
  select(undefined);
  showTimeline();
}

function onEvent(kind, data) {
  switch (kind) {
    case "request": return addEntry(fromRequest(data));
    case "webhook": return addCall(data, false);
    case "webhookUnderWay": return addCall(data, true);
    case "connectionFailed": return addEntry(fromFailure(data));
    case "device": return onDevice(data);
    case "telemetry": return onTelemetry(data);
    case "enrollment":
      if (data.number <= enrollments.loadedAt) return undefined;
      keep(enrollments, enrollmentKey(data), data.enrollment);
      return listEnrollments();
    case "reset":
      // The history begins with the last reset: what it did is loaded already.
      if (data.number <= devices.loadedAt) return undefined;
      clear();
      notify("The emulator was reset.", "ok");
      return attempt(load);
    case "missed":
      cutOff = true;
      showTimeline();
      return attempt(load);
    default: return undefined;
  }
}

function onDevice({ number, registrationId, device }) {
  if (number <= devices.loadedAt) return;
  keep(devices, registrationId.toLowerCase(), device);
  listDevices();
  const shown = selected?.device;
  if (shown && deviceKey(shown) === registrationId.toLowerCase()) {
    if (device) refreshDevice(selected);
    else select(undefined);
  }
}

/** Tells the new counts of devices. `more` others sent telemetry, too: then the selected one may be among them. */
function onTelemetry({ devices: counts, more }) {
  for (const { registrationId, count } of counts) {
    const key = registrationId.toLowerCase();
    const known = devices.known.get(key);
    if (known?.hub) devices.known.set(key, { ...known, hub: { ...known.hub, telemetryCount: count } });
  }
  listDevices();
  const shown = selected?.device && deviceKey(selected.device);
  if (shown && (more > 0 || counts.some((one) => deviceKey(one) === shown))) refreshDevice(selected);
}

const events = new api.Events({
  event: onEvent,
  async begin(now, restarted) {
    health = now;
    clear();
    byId("version").textContent = health.version;
    byId("id-scope").textContent = health.idScope;
    byId("device-empty").replaceChildren(...firstSteps(health));
    await load();
    if (restarted) notify("The emulator was restarted. The timeline starts again.", "ok");
  },
  state(name) {
    const words = { live: "Live", lost: "Not connected. Trying again …", token: "Token required" };
    const shown = byId("connection");
    if (shown.dataset.state === name) return;
    shown.dataset.state = name;
    shown.textContent = words[name];
    document.title = name === "live" ? "DPS emulator" : `${words[name]} – DPS emulator`;
    byId("reset").disabled = name !== "live";
    if (name === "token" && !byId("token-dialog").open) byId("token-dialog").showModal();
  },
});

// --- Notices, buttons, dialogs --------------------------------------------------------------

let noticeTimer;

/** Tells the user how an action went. */
function notify(message, tone) {
  clearTimeout(noticeTimer);
  const close = el("button", { type: "button", class: "plain", text: "Close", on: { click: () => byId("notices").replaceChildren() } });
  byId("notices").replaceChildren(el("p", { class: `notice ${tone}` }, el("span", { text: message }), close));
  if (tone !== "bad") noticeTimer = setTimeout(() => byId("notices").replaceChildren(), 8000);
}

/** Does what the user asked for, and tells why it did not work. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    notify(error.message, "bad");
    if (error.status === 401) events.connect();
  }
}

byId("pause").addEventListener("click", () => {
  pausedAt = pausedAt === undefined ? (entries.at(-1)?.key ?? 0) : undefined;
  byId("pause").setAttribute("aria-pressed", String(pausedAt !== undefined));
  showTimeline();
});
byId("filters").addEventListener("input", showTimeline);
byId("filters").addEventListener("change", showTimeline);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => {
  // The fields are emptied after this event.
  setTimeout(() => {
    showTimeline();
    filters.device.focus();
  });
});
byId("device-search").addEventListener("input", listDevices);
byId("device-search").addEventListener("keydown", (event) => {
  const id = event.target.value.trim();
  if (event.key === "Enter" && id) selectDevice(id);
});
byId("back").addEventListener("click", () => {
  byId("entries").focus({ preventScroll: true });
  byId("timeline-heading").scrollIntoView();
});

byId("reset").addEventListener("click", () => {
  const lost = devices.known.size === 1 ? "One device with its twin" : `${devices.known.size} devices with their twins`;
  byId("reset-text").textContent = `${lost}, the timeline, scripts, quotas, and all changes of enrollments and behavior are deleted. The state after the start is restored.`;
  byId("reset-dialog").returnValue = "";
  byId("reset-dialog").showModal();
});
byId("reset-dialog").addEventListener("close", () => {
  if (byId("reset-dialog").returnValue === "reset") attempt(api.reset);
});

byId("remove-dialog").addEventListener("close", () => {
  if (byId("remove-dialog").returnValue !== "remove") return;
  const selection = removing;
  const { registrationId, assignedHub } = selection.device;
  attempt(async () => {
    selection.device = await api.removeFromHub(registrationId);
    if (selected === selection) showDetails();
    // The button that was pressed is gone.
    byId("details-body").focus({ preventScroll: true });
    notify(`${registrationId} was deleted from ${assignedHub}.`, "ok");
  });
});

byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
byId("token-dialog").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api.startSession(byId("token").value);
    byId("token").value = "";
    byId("token-error").textContent = "";
    byId("token-dialog").close();
    events.connect();
  } catch (error) {
    byId("token-error").textContent = error.status === 401 ? "The token is wrong." : error.message;
  }
});

/**
 * A token in the address is exchanged for a cookie, and does not stay in the address bar or in the history. Returns
 * `true` if there was the right one. A wrong one is asked for again, since the first call is then refused.
 */
async function useTokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return false;
  history.replaceState(null, "", location.pathname + location.search);
  return api.startSession(token).then(() => true, () => false);
}

// The address may get a token while the page is open.
addEventListener("hashchange", async () => {
  if (await useTokenOfAddress()) {
    byId("token-dialog").close();
    events.connect();
  }
});

// A browser has six connections to a server, and a stream takes one: a page that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => (document.hidden ? events.disconnect() : events.connect()));

showDetails();
await useTokenOfAddress();
await events.connect();
