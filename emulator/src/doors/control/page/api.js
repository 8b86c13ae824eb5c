// The control API, as emulator/docs/control-api.json describes it.

const ROOT = "_emulator/";
/** The kinds of events that the page knows. */
const KINDS = ["request", "webhook", "webhookUnderWay", "connectionFailed", "device", "telemetry", "enrollment", "reset", "missed"];
/** Milliseconds between attempts to reach an emulator that is gone. */
const RETRY_AFTER = [500, 1000, 2000, 3000];

/** An answer that refuses, or no answer: then `status` is 0. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  const options = { method, headers: { accept: "application/json" }, cache: "no-store" };
  if (method !== "GET") {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  let response;
  try {
    response = await fetch(ROOT + path, options);
  } catch {
    throw new ApiError(0, "The emulator does not answer. Check that it is running.");
  }
  const text = await response.text();
  let answer;
  try {
    answer = text && JSON.parse(text);
  } catch {
    throw new ApiError(response.status, `The emulator answered ${response.status} without JSON.`);
  }
  if (!response.ok) throw new ApiError(response.status, answer?.message ?? `The emulator answered ${response.status}.`);
  return answer;
}

const one = encodeURIComponent;

export const device = (id) => call("GET", `devices/${one(id)}`);
export const changeTwin = (id, patch) => call("POST", `devices/${one(id)}/twin`, patch);
/** Does something to a device at its hub: `enable`, `disable` or `disconnect`. */
export const atHub = (id, action) => call("POST", `devices/${one(id)}/hub/${action}`);
export const removeFromHub = (id) => call("DELETE", `devices/${one(id)}/hub`);
export const webhookCall = (number) => call("GET", `webhook-calls/${number}`);
export const replay = (number) => call("POST", `webhook-calls/${number}/replay`);
export const enable = ({ kind, id }, enabled) =>
  call("POST", `enrollments/${one(id)}/${enabled ? "enable" : "disable"}?kind=${kind}`);
export const reset = () => call("POST", "reset");
/** Exchanges the token for a cookie, because an event stream cannot send a header. */
export const startSession = (token) => call("POST", "session", { token });

/**
 * Reads a whole list, `what` is `devices` or `enrollments`, but at most `most` entries. Returns the entries, the number
 * of the last event that they show, and whether there are more.
 */
export async function list(what, most) {
  const entries = [];
  let after = "";
  let lastEvent;
  do {
    const page = await call("GET", `${what}?limit=1000${after}`);
    entries.push(...page[what]);
    // Later pages may show later events. Those are applied again, which does no harm.
    lastEvent ??= page.lastEvent;
    after = page.next === null ? undefined : `&after=${one(page.next)}`;
  } while (after && entries.length < most);
  return { entries, lastEvent, more: after !== undefined };
}

/**
 * Follows the events, and comes back by itself when the emulator does.
 *
 * `handlers`: `state(name)` with `live`, `lost` or `token`; `begin(health, restarted)` before the first event of each
 * run of the emulator, may be asynchronous; `event(kind, data)`.
 */
export class Events {
  #handlers;
  #source;
  /** When the emulator that was last reached was started. */
  #started = null;
  #last = 0;
  #failures = 0;
  #timer;
  /** Counts the calls of `connect` and `disconnect`: one that waits for an answer ends if another was called. */
  #turn = 0;

  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** Stops following. `connect` goes on where this left off. */
  disconnect() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  /** Connects, now. */
  async connect() {
    this.disconnect();
    const turn = this.#turn;
    try {
      const health = await call("GET", "health");
      if (turn !== this.#turn) return;
      if (health.startedAt !== this.#started) {
        await this.#handlers.begin(health, this.#started !== null);
        if (turn !== this.#turn) return;
        this.#started = health.startedAt;
        this.#last = 0;
      }
    } catch (error) {
      if (turn !== this.#turn) return;
      if (error.status === 401) this.#handlers.state("token");
      else this.#lost();
      return;
    }
    const source = new EventSource(`${ROOT}events?after=${this.#last}`);
    this.#source = source;
    source.onopen = () => {
      this.#failures = 0;
      this.#handlers.state("live");
    };
    source.onerror = () => {
      source.close();
      this.#lost();
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, ({ data, lastEventId }) => {
        if (lastEventId) this.#last = Number(lastEventId);
        this.#handlers.event(kind, JSON.parse(data));
      });
    }
  }

  #lost() {
    this.#handlers.state("lost");
    const wait = RETRY_AFTER[Math.min(this.#failures, RETRY_AFTER.length - 1)];
    this.#failures += 1;
    this.#timer = setTimeout(() => this.connect(), wait);
  }
}
