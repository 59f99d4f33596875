/** The list of faces: a card each, which stays while its face does. */

import { History } from "./history.js";
import { COLOURS, counted, numbered, percent, predictions } from "./labels.js";

/** A face that was not seen for so long leaves the list. */
const AWAY_MS = 1000;
/** No track outlives a gap of 10 s, and answers may be late: until then a face may come back to its history. */
const GONE_MS = 12_000;
const NONE = [];

export class FaceList extends EventTarget {
  #list;
  #template;
  #summary;
  #used;
  #cards = new Map();
  #anew = false;

  constructor({ list, template, summary, used }) {
    super();
    this.#list = list;
    this.#template = template;
    this.#summary = summary;
    this.#used = used;
  }

  /** Show an answer for one picture. */
  show(result) {
    this.clear();
    for (const { id, face } of numbered(result.faces)) this.#card(id).update(face);
    this.#summarise(result);
  }

  /** The next answer is of another session, whose tracks are others. */
  beginAnew() {
    this.#anew = true;
  }

  /** Show an answer of a stream: cards of faces that are still there are kept. */
  follow(result, time) {
    if (this.#anew) this.clear();
    for (const { id, face } of numbered(result.faces)) {
      const card = this.#card(id);
      card.update(face);
      card.remember(time, face);
    }
    for (const [id, card] of this.#cards) {
      const away = time - card.seen;
      if (away > GONE_MS) this.#remove(id);
      else card.away = away;
    }
    this.#summarise(result);
  }

  clear(text = "") {
    this.#anew = false;
    for (const id of [...this.#cards.keys()]) this.#remove(id);
    this.#say(this.#summary, text);
    this.#say(this.#used, "");
  }

  /** Show why: `reasons` is [{head, label, image}], of which `chosen` lies over the picture. */
  explain(id, reasons, chosen, choose) {
    for (const [other, card] of this.#cards) card.explain(other === id ? reasons : NONE, chosen, choose);
    // Of a face of a stream, whose card was replaced when it became a photo's.
    if (document.activeElement === document.body) this.#cards.get(id)?.focus();
  }

  #card(id) {
    if (!this.#cards.has(id)) {
      const card = new Card(this.#template, id);
      card.onwhy = () => this.dispatchEvent(new CustomEvent("why", { detail: id }));
      this.#cards.set(id, card);
      this.#list.append(card.element);
    }
    return this.#cards.get(id);
  }

  #remove(id) {
    this.#cards.get(id).element.remove();
    this.#cards.delete(id);
  }

  #summarise({ faces, models }) {
    this.#say(this.#summary, `${counted(faces.length, "face")} found.`);
    this.#say(this.#used, `Answered by ${[...new Set(Object.values(models))].join(", ")}.`);
  }

  /** Readers of the screen are told again of each text that is set, so only news is. */
  #say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
}

class Card {
  #parts;
  #bars = new Map();
  #history = new History();
  #reasons = NONE;
  seen = Infinity;

  constructor(template, id) {
    this.element = template.content.cloneNode(true).firstElementChild;
    this.element.dataset.id = id;
    const part = (name) => this.element.querySelector(name);
    this.#parts = {
      answers: part(".answers"),
      bars: part(".bars"),
      why: part(".why"),
      history: part(".history"),
      reasons: part(".reasons"),
    };
    part(".badge").textContent = id;
    this.#parts.why.setAttribute("aria-label", `Why? Face ${id}`);
    this.#parts.why.onclick = () => this.onwhy();
  }

  /** For how many milliseconds it was not seen. */
  set away(away) {
    this.element.classList.toggle("away", away > 0);
    this.element.hidden = away > AWAY_MS;
  }

  update(face) {
    const said = predictions(face);
    this.#parts.why.hidden = !said.length;
    this.#parts.answers.replaceChildren(...said.map(answer));
    this.#parts.bars.hidden = !face.emotion;
    for (const [label, share] of Object.entries(face.emotion?.probabilities ?? {})) {
      this.#setBar(label, share);
    }
  }

  /** Put a frame's emotions into the history, and draw it. */
  remember(time, face) {
    this.seen = time;
    if (!face.emotion) return;
    this.#parts.history.hidden = false;
    this.#history.add(time, face.emotion.probabilities);
    const canvas = this.#parts.history.querySelector("canvas");
    canvas.setAttribute("aria-label", `Emotions over the last 30 seconds: mostly ${this.#history.leading}`);
    this.#history.draw(canvas);
  }

  focus() {
    this.#parts.why.focus();
  }

  explain(reasons, chosen, choose) {
    const { reasons: group } = this.#parts;
    if (reasons !== this.#reasons) {
      this.#reasons = reasons;
      this.element.classList.toggle("chosen", reasons.length > 0);
      group.hidden = reasons.length === 0;
      group.replaceChildren(...reasons.map((reason) => reasonButton(reason, choose)));
    }
    for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.head === chosen);
  }

  #setBar(label, share) {
    if (!this.#bars.has(label)) this.#bars.set(label, this.#addBar(label));
    const { fill, text } = this.#bars.get(label);
    fill.style.setProperty("--share", `${share * 100}%`);
    text.textContent = percent(share);
  }

  #addBar(label) {
    const [row, name, text] = [element("li"), element("span", "", label), element("span", "percent")];
    const [track, fill] = [element("span", "track"), element("span", "fill")];
    fill.style.setProperty("--colour", COLOURS[label] ?? COLOURS.neutral);
    track.append(fill);
    row.append(name, track, text);
    this.#parts.bars.append(row);
    return { fill, text };
  }
}

function answer({ head, label, probability, uncertain }) {
  const span = element("span");
  span.dataset.head = head;
  span.append(head === "age" ? `age ${label}` : label, " ", element("span", "percent", percent(probability)));
  if (uncertain) span.append(" ", element("span", "uncertain", "uncertain"));
  return span;
}

function reasonButton({ head, label, image }, choose) {
  const [button, canvas] = [element("button"), element("canvas")];
  button.type = "button";
  button.dataset.head = head;
  button.onclick = () => choose(button.ariaPressed === "true" ? null : head);
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
  button.append(canvas, `${head}: ${label}`);
  return button;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
