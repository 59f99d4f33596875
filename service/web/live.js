/** Sends what a video shows as fast as answers come, and no faster. */

const QUALITY = 0.85;

export class Live extends EventTarget {
  #video;
  #stream;
  #canvas = document.createElement("canvas");
  /** Milliseconds that the server takes for a frame. */
  #service = 0;
  /** When the next frame may go, by `performance.now()`. */
  #next = 0;
  #stopped = null;
  side = 640;

  constructor(video, stream) {
    super();
    this.#video = video;
    this.#stream = stream;
    stream.addEventListener("reply", ({ detail }) => this.#pace(detail.message));
  }

  get running() {
    return this.#stopped !== null;
  }

  start(options) {
    this.stop();
    this.#service = this.#next = 0;
    this.#stopped = new AbortController();
    this.#stream.open(options);
    this.#send(this.#stopped.signal);
  }

  stop() {
    this.#stopped?.abort();
    this.#stopped = null;
    this.#stream.close();
  }

  /** A frame goes when the server is about to be done with the one before: waiting only ages it. */
  #pace({ timings_ms: timings }) {
    if (timings) this.#service += (timings.total - this.#service) * (this.#service ? 0.2 : 1);
    this.#next = this.#stream.unanswered ? this.#nearlyDone() : 0;
  }

  #nearlyDone() {
    return performance.now() + 0.9 * this.#service;
  }

  async #send(signal) {
    while (await this.#frame(signal)) {
      if (!(await this.#turn())) continue;
      // What it shows by now, not what it showed then: of a video that stands still, both are the same.
      const blob = await this.#grab();
      if (!blob || signal.aborted || !this.#stream.hasRoom) continue;
      const sent = this.#stream.send(blob);
      if (this.#stream.unanswered === 1) this.#next = this.#nearlyDone();
      this.dispatchEvent(new CustomEvent(sent ? "sent" : "toolarge"));
    }
  }

  /** Wait until the server can take a frame; false when it never will. */
  async #turn() {
    const ready = await this.#stream.ready();
    await new Promise((resolve) => setTimeout(resolve, this.#next - performance.now()));
    return ready;
  }

  /** Wait for the video's next frame; false once stopped. */
  #frame(signal) {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(false);
      const stop = () => resolve(false);
      signal.addEventListener("abort", stop, { once: true });
      this.#video.requestVideoFrameCallback(() => {
        signal.removeEventListener("abort", stop);
        resolve(!signal.aborted);
      });
    });
  }

  /** The frame that the video shows, as a JPEG whose longer side is at most `side`. */
  #grab() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const scale = Math.min(1, this.side / Math.max(width, height));
    this.#canvas.width = Math.max(1, Math.round(width * scale));
    this.#canvas.height = Math.max(1, Math.round(height * scale));
    const context = this.#canvas.getContext("2d");
    context.drawImage(this.#video, 0, 0, this.#canvas.width, this.#canvas.height);
    return new Promise((resolve) => this.#canvas.toBlob(resolve, "image/jpeg", QUALITY));
  }
}
