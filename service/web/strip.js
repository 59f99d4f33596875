/** What was given to look at, photos and videos: a row of buttons, of which one is chosen. */

import { counted } from "./labels.js";

/** Held at a time; frames that were kept of the camera are in memory. */
export const MOST = 100;

/** Events: `choose` item, `left` how many that made room for newer ones, `empty`. */
export class Strip extends EventTarget {
  #row;
  #items = [];
  #chosen = null;

  constructor(row) {
    super();
    this.#row = row;
  }

  /** @returns the new items; the first of them is chosen */
  add(files) {
    const items = files.map((file) => this.#make(file));
    const left = this.#items.slice(0, -MOST);
    for (const item of left) this.#drop(item);
    this.#row.hidden = !this.#items.length;
    if (items.length) this.choose(items.find((item) => !left.includes(item)));
    if (left.length) this.#tell("left", left.length);
    return items;
  }

  /** Let go of an item; if it is the chosen one, the one beside it is chosen. */
  remove(item) {
    const index = this.#items.indexOf(item);
    this.#drop(item);
    const beside = this.#items[index] ?? this.#items[index - 1];
    this.#row.hidden = !beside;
    if (!beside) return this.#tell("empty");
    if (item === this.#chosen) this.choose(beside);
    beside.button.focus();
  }

  get chosen() {
    return this.#chosen;
  }

  get photos() {
    return this.#items.filter(({ isVideo }) => !isVideo);
  }

  /** Choose an item, or none: null. */
  choose(item) {
    this.#chosen = item;
    for (const other of this.#items) other.button.setAttribute("aria-pressed", other === item);
    if (!item) return;
    // Along the row alone: the page is not to jump.
    this.#row.scrollLeft += item.button.getBoundingClientRect().left - this.#row.getBoundingClientRect().left - 40;
    this.#tell("choose", item);
  }

  /** Show on an item's button what became of it. */
  update({ button, result, problem }) {
    button.classList.toggle("failed", Boolean(problem));
    const text = problem ? "failed" : result ? counted(result.faces.length, "face") : "waiting";
    button.querySelector(".state").textContent = text;
  }

  #make(file) {
    const [element, button, remove] = ["div", "button", "button"].map((name) => document.createElement(name));
    button.type = remove.type = "button";
    const isVideo = file.type.startsWith("video/");
    const item = {
      file, isVideo, element, button, time: 0,
      url: isVideo ? null : URL.createObjectURL(file),
    };
    const image = document.createElement("img");
    image.src = item.url ?? "web/film.svg";
    image.alt = "";
    image.onerror = () => (image.src = "web/none.svg");
    const [name, state] = [document.createElement("span"), document.createElement("span")];
    name.textContent = file.name;
    state.className = "state";
    state.textContent = isVideo ? "video" : "waiting";
    element.className = "item";
    button.className = "pick";
    button.append(image, name, state);
    button.onclick = () => this.choose(item);
    remove.className = "remove";
    remove.textContent = "✕";
    button.ariaKeyShortcuts = "Delete";
    remove.ariaLabel = `Remove ${file.name}`;
    remove.onclick = () => this.remove(item);
    element.onkeydown = ({ key }) => {
      if (key === "Delete") this.remove(item);
    };
    element.append(button, remove);
    this.#row.append(element);
    this.#items.push(item);
    return item;
  }

  #drop(item) {
    this.#items = this.#items.filter((other) => other !== item);
    item.element.remove();
    if (item.url) URL.revokeObjectURL(item.url);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
