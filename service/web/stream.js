/**
 * A session of `/v1/stream` that comes back by itself (docs/stream.md).
 *
 * Events: `reply` {frame: {blob, at}, message}, `lost` [frame, ...], `state` word, and as sentences `trouble`, after
 * which it tries again, and `refused`, after which it does not.
 */

import { sentence } from "./api.js";

const IN_FLIGHT = 2;
const LONGEST_WAIT_MS = 8000;
const ENDINGS = {
  1001: "The server stops or starts anew.",
  1011: "The server failed inside.",
};

export class Stream extends EventTarget {
  #url;
  #keys;
  #options = {};
  #socket = null;
  #offered = null;
  #limits = null;
  #unanswered = new Map();
  #sent = 0;
  #failures = 0;
  #wanted = false;
  #ending = false;
  #asleep = false;
  #waiting = [];

  constructor(url, keys) {
    super();
    this.#url = url;
    this.#keys = keys;
  }

  open(options) {
    this.#options = options;
    this.#wanted = true;
    this.#failures = 0;
    // One that ends is followed by another.
    if (!this.#socket) this.#connect();
  }

  /** Go on with other options; once a frame was sent they need another session. */
  renew(options) {
    this.#options = options;
    if (this.#sent) this.#end();
    else if (this.#offered) this.#configure();
  }

  /** Send no more; what was sent is still answered. */
  close() {
    this.#wanted = false;
    this.#end();
    this.#wake();
  }

  get hasRoom() {
    if (!this.#limits || this.#ending || this.#socket.readyState !== WebSocket.OPEN) return false;
    return this.#unanswered.size < this.#limits.max_in_flight;
  }

  /** Wait until a frame may be sent; false when none will be. */
  async ready() {
    if (this.#wanted && this.#asleep) this.#connect();
    while (this.#wanted && !this.hasRoom) await new Promise((wake) => this.#waiting.push(wake));
    return this.#wanted;
  }

  /** How many frames the server holds. */
  get unanswered() {
    return this.#unanswered.size;
  }

  /** Send a frame; false where the server would not take so large a one. */
  send(blob) {
    if (blob.size > this.#limits.max_frame_bytes) return false;
    this.#unanswered.set(this.#sent++, { blob, at: performance.now() });
    this.#socket.send(blob);
    return true;
  }

  #connect() {
    this.#asleep = false;
    this.#state("connecting");
    const socket = new WebSocket(this.#url, ["mien.v1"]);
    this.#socket = socket;
    socket.onopen = () => this.#keys.value && this.#say({ type: "session.auth", key: this.#keys.value });
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = (event) => this.#closed(event);
  }

  #configure() {
    this.#say({ type: "session.configure", max_in_flight: IN_FLIGHT, ...this.#options });
  }

  #end() {
    if (!this.#socket || this.#ending) return;
    this.#ending = true;
    if (this.#limits) this.#say({ type: "session.close" });
    else this.#socket.close();
  }

  #say(message) {
    // One that closes already would only complain.
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #take(message) {
    if (message.type === "session.created") {
      this.#offered = message.limits;
      this.#configure();
    } else if (message.type === "session.configured") {
      this.#limits = { ...this.#offered, max_in_flight: message.max_in_flight };
      this.#failures = 0;
      this.#state("open");
    } else if (message.type.startsWith("frame.")) {
      const frame = this.#unanswered.get(message.frame);
      this.#unanswered.delete(message.frame);
      this.#tell("reply", { frame, message });
    }
    this.#wake();
  }

  #closed({ code, reason }) {
    this.#tell("lost", [...this.#unanswered.values()]);
    const ended = this.#ending;
    this.#socket = this.#offered = this.#limits = null;
    this.#unanswered.clear();
    this.#sent = 0;
    this.#ending = false;
    if (!this.#wanted) this.#state("closed");
    else if (ended) this.#connect();
    else if (code === 1008) this.#refused(reason);
    else if ([1003, 1007, 1009].includes(code)) this.#refuse(said(reason));
    else if (code === 1013) this.#retry(said(reason));
    else this.#retry(ENDINGS[code] ?? "The connection to the server was lost.");
  }

  /** 1008 says why: a key, the rate, silence, or an option that cannot be met. */
  #refused(reason) {
    if (reason.startsWith("unauthorized")) {
      this.#state("needs a key");
      this.#keys.ask(this.#keys.value).then(() => this.#connect(), (error) => this.#refuse(error.message));
    } else if (reason.startsWith("rate_limited")) {
      this.#retry(said(reason));
    } else if (reason.startsWith("idle")) {
      // Until there is a frame again: a video may be paused for long.
      this.#asleep = true;
      this.#state("paused");
    } else {
      this.#refuse(said(reason));
    }
  }

  #refuse(why) {
    this.#wanted = false;
    this.#state("refused");
    this.#tell("refused", why);
    this.#wake();
  }

  /** Twice as long from try to try, and not all clients of a server that restarts at once. */
  #retry(why) {
    const wait = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.#failures++) * (0.75 + Math.random() / 2);
    this.#state("waiting");
    this.#tell("trouble", `${why} Trying again in ${Math.ceil(wait / 1000)} s.`);
    setTimeout(() => this.#wanted && !this.#socket && this.#connect(), wait);
  }

  #state(text) {
    this.#tell("state", text);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** `overloaded: too many streams at a time` -> `Too many streams at a time.` */
function said(reason) {
  return sentence(reason.replace(/^\w+: /, "") || "the server did not take the stream");
}
