/** Has photos analysed one after the other, and explained when somebody asks why. */

import { ApiError } from "./api.js";

/** Two boxes of one face overlap by more than this. */
const SAME_FACE = 0.5;

export class Analysis extends EventTarget {
  #api;
  #strip;
  #settings;
  #running = false;

  constructor(api, strip, settings) {
    super();
    this.#api = api;
    this.#strip = strip;
    this.#settings = settings;
  }

  /** Analyse every photo that was not, or with other settings; the chosen one goes first. */
  async run() {
    if (this.#running) return;
    this.#running = true;
    for (let item; (item = this.#next()); ) {
      await this.#analyse(item);
      this.#strip.update(item);
      this.dispatchEvent(new CustomEvent("done", { detail: item }));
    }
    this.#running = false;
  }

  /** Take an answer that is there already, of a frame of a stream. */
  take(item, result) {
    Object.assign(item, { result, asked: this.#asked });
    this.#strip.update(item);
  }

  /**
   * Ask what the answers of a face rest on.
   *
   * @returns [{head, label, image, area}]
   */
  async why(item, face) {
    item.explained ??= this.#api.explain(item.file, this.#settings.query);
    const { faces } = await item.explained.catch((error) => {
      item.explained = null;
      throw error;
    });
    const same = faces.find(({ box }) => overlap(box, face.box) > SAME_FACE);
    if (!same) throw new ApiError("Only the largest faces of a picture are explained, and this is none of them.");
    same.reasons ??= Promise.all(Object.entries(same.explanations).map(picture));
    return same.reasons;
  }

  get #asked() {
    return JSON.stringify(this.#settings.query);
  }

  #next() {
    const waiting = this.#strip.photos.filter(({ asked }) => asked !== this.#asked);
    return waiting.find((item) => item === this.#strip.chosen) ?? waiting[0];
  }

  async #analyse(item) {
    Object.assign(item, { asked: this.#asked, explained: null });
    try {
      item.result = await this.#api.analyze(item.file, this.#settings.query);
      item.problem = null;
    } catch (error) {
      item.result = null;
      item.problem = `${item.file.name}: ${error.message}`;
    }
  }
}

async function picture([head, { label, area, png }]) {
  const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
  const blob = new Blob([bytes], { type: "image/png" });
  return { head, label, area, image: await createImageBitmap(blob) };
}

function overlap(a, b) {
  const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  const shared = Math.max(0, across) * Math.max(0, down);
  return shared / (a.width * a.height + b.width * b.height - shared);
}
