/** What was given to look at, photos and videos: a row of buttons, of which one is chosen. */

import { counted } from "./labels.js";

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
    this.#row.hidden = this.#items.length < 2;
    if (items.length) this.choose(items[0]);
    return items;
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
    this.dispatchEvent(new CustomEvent("choose", { detail: item }));
  }

  /** Show on an item's button what became of it. */
  update({ button, result, problem }) {
    button.classList.toggle("failed", Boolean(problem));
    const text = problem ? "failed" : result ? counted(result.faces.length, "face") : "waiting";
    button.querySelector(".state").textContent = text;
  }

  #make(file) {
    const button = document.createElement("button");
    button.type = "button";
    const isVideo = file.type.startsWith("video/");
    const item = {
      file, isVideo, button, time: 0,
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
    button.append(image, name, state);
    button.onclick = () => this.choose(item);
    this.#row.append(button);
    this.#items.push(item);
    return item;
  }
}
