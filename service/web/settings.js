/** The settings' form, and what it means for a request, a stream and the frames sent. */

import { HEADS } from "./labels.js";

export class Settings extends EventTarget {
  #form;
  #offered = [];

  constructor(form) {
    super();
    this.#form = form;
    form.onsubmit = (event) => event.preventDefault();
    form.onchange = () => form.reportValidity() && this.dispatchEvent(new Event("change"));
    // The form is reset after its event.
    form.onreset = () => setTimeout(() => this.dispatchEvent(new Event("change")));
  }

  /** Offer what is served. */
  offer(models) {
    this.#offered = HEADS.filter((head) => models.some((model) => head in model.heads));
    this.#fill("attributes", this.#offered.map((head) => ({ value: head, text: head, checked: true })));
    this.#fill("models", models.map(({ name, heads }) => (
      { value: name, text: `${name}: ${Object.keys(heads).join(", ")}`, checked: false }
    )));
  }

  /** Options of a request; those at their default are left to the server. */
  get query() {
    return Object.fromEntries(Object.entries(this.#options).map(([name, value]) => [name, String(value)]));
  }

  /** Options of a stream. */
  get session() {
    const { smoothing, policy } = this.#form.elements;
    return { ...this.#options, smoothing: Number(smoothing.value), drop_policy: policy.value };
  }

  /** The longer side of frames that are sent, in pixels. */
  get side() {
    return Number(this.#form.elements.side.value);
  }

  get #options() {
    const [attributes, models] = [this.#ticked("attributes"), this.#ticked("models")];
    const threshold = this.#form.elements.threshold.value;
    return {
      ...(attributes.length < this.#offered.length && { attributes }),
      ...(models.length && { models }),
      ...(threshold && { detection_threshold: Number(threshold) }),
    };
  }

  #ticked(name) {
    return [...this.#form.querySelectorAll(`#${name} :checked`)].map((box) => box.value);
  }

  #fill(name, choices) {
    const labels = choices.map(({ value, text, checked }) => {
      const [label, box] = [document.createElement("label"), document.createElement("input")];
      box.type = "checkbox";
      box.value = value;
      box.defaultChecked = checked;
      label.append(box, text);
      return label;
    });
    this.#form.querySelector(`#${name}`).replaceChildren(...labels);
  }
}
