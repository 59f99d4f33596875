/** What a track's emotions were of late, and a small chart of them: areas, one upon the other. */

import { COLOURS } from "./labels.js";

const SPAN_MS = 30_000;

export class History {
  #samples = [];

  add(time, probabilities) {
    this.#samples.push({ time, probabilities });
    while (this.#samples[0].time < time - SPAN_MS) this.#samples.shift();
  }

  /** The label that had most of the time. */
  get leading() {
    const totals = {};
    for (const { probabilities } of this.#samples) {
      for (const [label, share] of Object.entries(probabilities)) totals[label] = (totals[label] ?? 0) + share;
    }
    return Object.keys(totals).reduce((best, label) => (totals[label] > totals[best] ? label : best));
  }

  /** Draw the last 30 seconds; now is at the right edge. */
  draw(canvas) {
    const ratio = window.devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const now = this.#samples.at(-1).time;
    const across = this.#samples.map(({ time }) => width * (1 - (now - time) / SPAN_MS));
    let floor = this.#samples.map(() => height);
    for (const label of Object.keys(this.#samples[0].probabilities)) {
      const top = this.#samples.map(({ probabilities }, i) => floor[i] - height * probabilities[label]);
      fill(context, COLOURS[label] ?? COLOURS.neutral, across, top, floor);
      floor = top;
    }
  }
}

function fill(context, colour, across, top, floor) {
  context.beginPath();
  across.forEach((x, i) => context.lineTo(x, top[i]));
  for (let i = across.length - 1; i >= 0; i--) context.lineTo(across[i], floor[i]);
  context.closePath();
  context.fillStyle = colour;
  context.fill();
}
