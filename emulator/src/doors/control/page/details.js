// The details of the entry that is selected: a request, a webhook call or a failed connection.

import { el, facts } from "./dom.js";
import { badge, clock, duration, hubMark } from "./entries.js";
import { titledBody } from "./json.js";

const heading = (entry, title = entry.title) => el("h3", {}, badge(entry.tone, entry.status), " ", title);
export const outcome = (tone, text) => el("p", { class: `outcome-line ${tone}`, text });
export const when = (at) => el("time", { datetime: at, text: `${at.slice(0, 10)} ${clock(at)} UTC` });
export const id = (text) => el("span", { class: "id", text });

function deviceLink(device, actions) {
  if (!device) return undefined;
  return el("button", { type: "button", class: "plain id", text: device, on: { click: () => actions.showDevice(device) } });
}

export function requestDetails(entry, actions) {
  const { data } = entry;
  return [
    heading(entry, entry.hub ? [hubMark(), " ", entry.title] : entry.title),
    outcome(entry.tone, data.outcome),
    facts([
      ["Device", deviceLink(entry.device, actions)],
      ["Hub", entry.hub && id(entry.hub)],
      ["Answered", when(data.at)],
      ["Request", id(`${data.method} ${data.path}`)],
      ["Listener", data.listener],
      ["Credentials", data.authorization ? "a token or password (not kept)" : "no token; a client certificate is in the TLS handshake"],
      ["Status", data.httpStatus === null ? "none" : String(data.httpStatus)],
      ["Retry-After", data.retryAfter === null ? undefined : `${data.retryAfter} s`],
    ]),
    titledBody("Request body", data.body, "The request has no body."),
    titledBody("Answer", data.responseBody, data.httpStatus === null ? "There was no answer." : "The answer has no body."),
  ];
}

export function failureDetails(entry) {
  const { data } = entry;
  return [
    heading(entry),
    outcome("bad", data.outcome),
    facts([
      ["Ended", when(data.at)],
      ["Listener", data.listener],
      ["From", data.peer],
      ["Not shown", data.hidden > 0 ? `${data.hidden} failed connections before this one` : undefined],
    ]),
  ];
}

/** `full` is the call with its bodies, an `Error` if they cannot be had, or undefined as long as they are on their way. */
export function callDetails(entry, full, attempts, actions) {
  const { data } = entry;
  return [
    heading(entry, data.replayOf === null ? `Webhook call, attempt ${data.attempt} of ${data.attempts}` : "Replay of a webhook call"),
    outcome(entry.tone, data.reason && !data.outcome.includes(data.reason) ? `${entry.outcome}\n${data.reason}` : entry.outcome),
    data.warnings.length > 0 && el("ul", { class: "warnings", "aria-label": "Warnings" }, data.warnings.map((text) => el("li", { text }))),
    attemptsBar(entry, attempts, actions),
    facts([
      ["Device", deviceLink(entry.device, actions)],
      ["Hub", data.assignedHub === null ? undefined : id(data.assignedHub)],
      ["Attempt", data.replayOf === null ? `${data.attempt} of ${data.attempts}` : "replay, which changes no device"],
      ["Next attempt", data.nextInMs === null || entry.underWay ? undefined : `${duration(data.nextInMs)} after this one, divided by the time scale`],
      [entry.underWay ? "Waiting for" : "Answered", entry.underWay ? duration(data.durationMs) : when(data.at)],
      ["Duration", entry.underWay ? undefined : duration(data.durationMs)],
      ["Webhook", id(`POST ${data.url}`)],
    ]),
    entry.underWay
      ? el("p", { class: "quiet", text: "The webhook has not answered yet. The bodies appear here after the answer." })
      : [
          el("p", { class: "buttons" },
            el("button", { type: "button", id: "replay", class: "main", text: "Replay", on: { click: (event) => actions.replay(entry, event.currentTarget) } }),
            el("span", { class: "quiet", text: "Sends the same AllocationRequest again. No device changes." })),
          bodies(full),
        ],
  ].flat(Infinity);
}

/** The attempts of a registration. There may be more of them at any time, so the page updates them alone. */
export function attemptsBar(entry, attempts, actions) {
  return el("div", { id: "attempts", class: "attempts", role: "group", "aria-label": "Attempts of this registration", hidden: attempts.length < 2 },
    el("span", { class: "quiet", text: "Attempts" }),
    attempts.map((other) => el("button", {
      type: "button",
      id: `attempt-${other.key}`,
      "aria-current": other === entry ? "true" : undefined,
      text: `${other.data.attempt}: ${other.status}`,
      on: { click: () => actions.showEntry(other) },
    })));
}

function bodies(full) {
  if (full === undefined) return el("p", { class: "quiet", text: "Loading the bodies …" });
  if (full instanceof Error) return el("p", { class: "error", text: `The bodies cannot be shown. ${full.message}` });
  return [
    titledBody("Answer of the webhook", full.responseBody, full.status === null ? "There was no answer." : "The answer has no body."),
    titledBody("AllocationRequest", full.requestBody, "The request is empty."),
  ];
}
