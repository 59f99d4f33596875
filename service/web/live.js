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
  /** Whether the video shows what was not sent yet, and who waits for that. */
  #fresh = true;
  #wake = () => {};
  side = 640;

  constructor(video, stream) {
    super();
    this.#video = video;
    this.#stream = stream;
    stream.addEventListener("reply", ({ detail }) => this.#pace(detail.message));
  }

  start(options) {
    this.stop();
    this.#service = this.#next = 0;
    this.#stopped = new AbortController();
    this.#stream.open(options);
    this.#watch(this.#stopped.signal);
    this.#send(this.#stopped.signal);
  }

  stop() {
    this.#stopped?.abort();
    this.#stopped = null;
    this.#wake();
    this.#stream.close();
  }

  /** Send what the video shows once more: the answer may be another now. */
  again() {
    this.#fresh = true;
    this.#wake();
  }

  /** A frame goes when the server is about to be done with the one before: waiting only ages it. */
  #pace({ timings_ms: timings }) {
    if (timings) this.#service += (timings.total - this.#service) * (this.#service ? 0.2 : 1);
    this.#next = this.#stream.unanswered ? this.#nearlyDone() : 0;
  }

  #nearlyDone() {
    return performance.now() + 0.9 * this.#service;
  }

  /** Take note of every frame: the last one before a pause must not be missed. */
  #watch(signal) {
    this.#fresh = true;
    const seen = () => {
      if (signal.aborted) return;
      this.again();
      this.#video.requestVideoFrameCallback(seen);
    };
    this.#video.requestVideoFrameCallback(seen);
  }

  async #send(signal) {
    while (!signal.aborted) {
      if (!this.#fresh) await new Promise((wake) => (this.#wake = wake));
      if (!(await this.#turn()) || signal.aborted) return;
      this.#fresh = false;
      const blob = await this.#grab();
      if (!blob || signal.aborted || !this.#stream.hasRoom) {
        this.#fresh = true;
        continue;
      }
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
