/** Live figures: what became of the frames, and how long answers take. */

const LATENCIES = 100;
const RATE_MS = 3000;

export class Stats {
  #elements;
  #counts;
  #latencies;
  #answers;

  /** @param elements by the id of each figure */
  constructor(elements) {
    this.#elements = elements;
    this.reset();
  }

  reset() {
    this.#counts = { sent: 0, answered: 0, dropped: 0, errors: 0, lost: 0 };
    this.#latencies = [];
    this.#answers = [];
    this.#show();
  }

  count(name, by = 1) {
    this.#counts[name] += by;
    this.#show();
  }

  /** An answer came, `latency` milliseconds after its frame was sent. */
  answered(now, latency) {
    this.#latencies = [...this.#latencies, latency].slice(-LATENCIES);
    this.#answers = [...this.#answers, now].filter((time) => time > now - RATE_MS);
    this.count("answered");
  }

  set connection(text) {
    this.#elements.connection.textContent = text;
  }

  #show() {
    for (const [name, value] of Object.entries(this.#counts)) this.#elements[name].textContent = value;
    // It is the network's doing, and rare.
    this.#elements.lost.parentElement.hidden = this.#counts.lost === 0;
    const span = this.#answers.at(-1) - this.#answers[0];
    const rate = span ? ((this.#answers.length - 1) * 1000) / span : 0;
    this.#elements.rate.textContent = rate ? rate.toFixed(1) : "–";
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    this.#elements.p50.textContent = quantile(sorted, 0.5);
    this.#elements.p95.textContent = quantile(sorted, 0.95);
  }
}

function quantile(sorted, share) {
  if (!sorted.length) return "–";
  return `${Math.round(sorted[Math.floor(share * (sorted.length - 1))])} ms`;
}
