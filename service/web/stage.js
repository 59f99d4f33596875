/** The picture or the moving picture, with the drawing over it and a button on each face. */

import { draw } from "./draw.js";
import { inWords, numbered } from "./labels.js";

export class Stage extends EventTarget {
  #frame;
  #image;
  #video;
  #canvas;
  #boxes;
  #size = { width: 1, height: 1 };
  #faces = [];
  #reason = null;

  constructor({ frame, image, video, overlay, boxes }) {
    super();
    this.#frame = frame;
    this.#image = image;
    this.#video = video;
    this.#canvas = overlay;
    this.#boxes = boxes;
    new ResizeObserver(() => this.#draw()).observe(frame);
  }

  /** Show a photo by its address; `size` is what its boxes refer to. */
  showImage(url, name, size) {
    this.#image.src = url;
    this.#image.alt = name;
    this.#show(this.#image, size, false);
  }

  showVideo(size, mirrored) {
    this.#show(this.#video, size, mirrored);
  }

  hide() {
    this.setFaces([], this.#size);
    this.#frame.hidden = true;
  }

  /** The faces of what is shown; `size` is the picture's that their boxes refer to. */
  setFaces(faces, size) {
    this.#size = size;
    this.#frame.style.setProperty("--ratio", size.width / size.height);
    this.#faces = numbered(faces);
    this.#reason = null;
    this.#draw();
  }

  /** Lay a saliency map over the photo: {image, area}, or null for none. */
  setReason(reason) {
    this.#reason = reason;
    this.#draw();
  }

  #show(element, size, mirrored) {
    this.#frame.hidden = false;
    for (const other of [this.#image, this.#video]) other.hidden = other !== element;
    this.#frame.classList.toggle("mirrored", mirrored);
    this.setFaces([], size);
  }

  #place(box) {
    const scale = this.#frame.clientWidth / this.#size.width;
    const x = this.#frame.classList.contains("mirrored") ? this.#size.width - box.x - box.width : box.x;
    return { x: x * scale, y: box.y * scale, width: box.width * scale, height: box.height * scale };
  }

  #draw() {
    const { clientWidth, clientHeight } = this.#frame;
    const ratio = window.devicePixelRatio;
    // This also wipes it.
    this.#canvas.width = Math.round(clientWidth * ratio);
    this.#canvas.height = Math.round(clientHeight * ratio);
    const context = this.#canvas.getContext("2d");
    context.scale(ratio, ratio);
    const place = (box) => this.#place(box);
    draw(context, this.#faces, place, this.#reason);
    this.#placeButtons(place);
  }

  /** Buttons are kept by the face's id, so that one keeps the focus while the face moves. */
  #placeButtons(place) {
    const left = new Map([...this.#boxes.children].map((button) => [button.dataset.id, button]));
    for (const { id, face } of this.#faces) {
      const button = left.get(String(id)) ?? this.#addButton(id);
      left.delete(String(id));
      button.setAttribute("aria-label", `Face ${id}: ${inWords(face)}. Show why`);
      for (const [side, value] of Object.entries(place(face.box))) {
        button.style.setProperty({ x: "left", y: "top" }[side] ?? side, `${value}px`);
      }
    }
    for (const button of left.values()) button.remove();
  }

  #addButton(id) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.id = id;
    button.onclick = () => this.dispatchEvent(new CustomEvent("why", { detail: id }));
    this.#boxes.append(button);
    return button;
  }
}
