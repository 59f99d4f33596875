/** The settings' form, and what it means for a request, a stream and the frames sent. */

import { HEADS } from "./labels.js";

export class Settings extends EventTarget {
  #form;
  #offered = [];
  /** What was entered into each field of a number last that it takes. */
  #numbers = {};

  constructor(form) {
    super();
    this.#form = form;
    form.onsubmit = (event) => event.preventDefault();
    form.onchange = ({ target }) => this.#changed(target.validity.valid);
    // The form is reset after its event.
    form.onreset = () => setTimeout(() => this.#changed(true));
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
    const { policy } = this.#form.elements;
    return { ...this.#options, smoothing: Number(this.#number("smoothing")), drop_policy: policy.value };
  }

  /** The longer side of frames that are sent, in pixels. */
  get side() {
    return Number(this.#form.elements.side.value);
  }

  get #options() {
    const [attributes, models] = [this.#ticked("attributes"), this.#ticked("models")];
    const threshold = this.#number("threshold");
    return {
      ...(attributes.length < this.#offered.length && { attributes }),
      ...(models.length && { models }),
      ...(threshold && { detection_threshold: Number(threshold) }),
    };
  }

  #changed(valid) {
    for (const field of this.#form.querySelectorAll("[type=number]")) this.#judge(field);
    if (valid) this.dispatchEvent(new Event("change"));
  }

  /** Say beside a field what is wrong with what was entered. */
  #judge(field) {
    const { min, max, step, validity: { valid } } = field;
    field.ariaInvalid = String(!valid);
    this.#form.querySelector(`#${field.name}-fault`).textContent = valid
      ? ""
      : `Enter a number from ${min} to ${max} in steps of ${step}. Until then the one before holds.`;
  }

  #number(name) {
    const field = this.#form.elements[name];
    if (field.validity.valid) this.#numbers[name] = field.value;
    return this.#numbers[name] ?? field.defaultValue;
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
