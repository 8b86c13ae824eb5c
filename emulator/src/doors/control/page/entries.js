// What an entry of the timeline means: its kind, how it went, and how its row looks.

import { el } from "./dom.js";

/** How it went. The sign stands beside the colour, for those who do not see the colour. */
const SIGN = { ok: "✓", wait: "…", bad: "✕", plain: "·" };
const WORD = { ok: "succeeded", wait: "in progress", bad: "rejected or failed", plain: "" };
/** How the states of a registration went. */
const STATE = { assigned: "ok", assigning: "wait", unassigned: "wait", failed: "bad", disabled: "bad" };

/** `12:03:09.167`, in UTC as in the program's log. */
export function clock(rfc3339) {
  const found = /T(\d\d:\d\d:\d\d)(\.\d{1,3})?/.exec(rfc3339 ?? "");
  return found ? found[1] + (found[2] ?? ".").padEnd(4, "0") : "";
}

export function duration(ms) {
  if (ms < 1000) return `${ms} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

/** A badge such as `✕ 401`. */
export function badge(tone, text) {
  return el("span", { class: `badge ${tone}` },
    el("span", { "aria-hidden": "true", text: SIGN[tone] }),
    el("span", { text }),
    WORD[tone] && el("span", { class: "hidden", text: `, ${WORD[tone]}` }));
}

/** The badge of a registration's state. */
export const stateBadge = (status) => badge(STATE[status] ?? "plain", status);

/** Whether a device is connected to its hub. */
export const connectionBadge = (state) => el("span", { class: `connected ${state === "connected" ? "yes" : "no"}`, text: state === "connected" ? "connected" : "not connected" });

/** What a device does at its hub, by the method of the request. `-` is a link that was dropped. */
const AT_HUB = { CONNECT: "Connect", SUBSCRIBE: "Subscribe", GET: "Read twin", PATCH: "Report", PUBLISH: "Telemetry", NOTIFY: "Desired change", "-": "Link" };

/** `register`, `poll`, `hub`, `telemetry`, `service` or `other`, and what a person calls it. */
function kindOf({ hub, method, path }) {
  if (hub !== null) return [method === "PUBLISH" ? "telemetry" : "hub", AT_HUB[method] ?? method];
  if (/\/registrations\/[^/]+\/register\b|^\$dps\/registrations\/PUT\//i.test(path)) return ["register", "Register"];
  if (/\/operations\/|^\$dps\/registrations\/GET\//i.test(path)) return ["poll", "Poll"];
  if (/^\/(enrollments|enrollmentGroups|registrations)\b/i.test(path)) return ["service", `${method} ${path.split("?")[0]}`];
  if (method === "POST" && /^\/[^/]+\/registrations\/[^/?]+(\?|$)/i.test(path)) return ["poll", "Look-up"];
  return ["other", method === "-" ? "Listener" : `${method} ${method === "SUBSCRIBE" ? "" : path.split("?")[0]}`.trim()];
}

/** How a request went, and what its badge says. */
function resultOf(kind, { hub, method, httpStatus, responseBody, outcome }) {
  if (httpStatus === null) {
    // MQTT's own packets have no status.
    if (method === "CONNECT" || method === "SUBSCRIBE") {
      return /^(connected|subscribed)\b/.test(outcome) ? ["ok", "done"] : ["bad", "rejected"];
    }
    if (hub !== null && method === "PUBLISH") return /^(not accepted|the will was not)\b/.test(outcome) ? ["bad", "rejected"] : ["ok", "received"];
    if (hub !== null && method === "NOTIFY") return ["ok", "sent"];
    return ["bad", method !== "-" ? "no answer" : hub === null ? "note" : "dropped"];
  }
  if (httpStatus >= 300) return ["bad", String(httpStatus)];
  const state = kind === "register" || kind === "poll" ? /"status"\s*:\s*"([a-z]+)"/i.exec(responseBody)?.[1] : undefined;
  return state ? [STATE[state.toLowerCase()] ?? "plain", `${httpStatus} ${state}`] : ["ok", String(httpStatus)];
}

/** `key` stays the same as long as the entry is in the timeline. */
export function fromRequest(data) {
  const [kind, title] = kindOf(data);
  const [tone, status] = resultOf(kind, data);
  // The title of a call of the service API has its path.
  const device = kind === "service" ? undefined : (data.registrationId ?? undefined);
  const size = data.path.length + data.body.length + data.responseBody.length + data.outcome.length;
  return { key: data.number, type: "request", kind, title, tone, status, device, hub: data.hub, at: data.at, outcome: data.outcome, size, data };
}

/** `underWay` if the webhook has not answered yet. */
export function fromCall(data, underWay) {
  const tone = underWay ? "wait" : data.assignedHub === null ? "bad" : "ok";
  return {
    key: data.number,
    type: "call",
    kind: "webhook",
    title: data.replayOf === null ? `Webhook ${data.attempt} of ${data.attempts}` : "Webhook, replay",
    tone,
    status: underWay ? "waiting" : data.status === null ? "no answer" : String(data.status),
    device: data.registrationId,
    at: data.at,
    outcome: data.nextInMs === null ? data.outcome : `${data.outcome} in ${duration(data.nextInMs)}`,
    size: data.outcome.length + data.url.length,
    underWay,
    data,
  };
}

export function fromFailure(data) {
  return {
    key: data.number,
    type: "failure",
    kind: "other",
    title: `Connection to ${data.listener} from ${data.peer}`,
    tone: "bad",
    status: "failed",
    device: undefined,
    at: data.at,
    outcome: data.outcome,
    size: data.outcome.length,
    data,
  };
}

/** Marks what happened at a hub. Everything else happened at DPS. */
export const hubMark = () => el("span", { class: "mark", text: "Hub" });

/** The contents of an entry's row. */
export function row(entry) {
  return [
    badge(entry.tone, entry.status),
    el("span", { class: "what" }, entry.hub && [hubMark(), " "], entry.title),
    el("span", { class: "id", text: entry.device ?? "" }),
    el("time", { datetime: entry.at, text: clock(entry.at) }),
    el("span", { class: "outcome", text: entry.outcome }),
  ];
}
