/** The API key: asked for where the server wants one, kept for this tab alone. */

import { ApiError } from "./api.js";

const ENTRY = "mien.key";

export class Keys {
  #dialog;
  #asking = null;

  constructor(dialog) {
    this.#dialog = dialog;
  }

  get value() {
    return sessionStorage.getItem(ENTRY) ?? "";
  }

  /** As a header shows it: its UTF-8, a character a byte. */
  get header() {
    return String.fromCharCode(...new TextEncoder().encode(this.value));
  }

  /** Ask for another key than the `refused` one; several who ask at a time share the dialog. */
  ask(refused) {
    if (refused !== this.value) return Promise.resolve();
    this.#asking ??= this.#open(refused).finally(() => (this.#asking = null));
    return this.#asking;
  }

  #open(refused) {
    const form = this.#dialog.querySelector("form");
    this.#dialog.querySelector("#key-reason").textContent = refused
      ? "The server did not take this key. Check it, and enter it again."
      : "Enter the API key that you were given.";
    form.reset();
    this.#dialog.showModal();
    return new Promise((resolve, reject) => {
      form.onsubmit = (event) => {
        event.preventDefault();
        sessionStorage.setItem(ENTRY, form.elements.key.value.trim());
        resolve();
        this.#dialog.close();
      };
      form.elements.cancel.onclick = () => this.#dialog.close();
      this.#dialog.onclose = () => {
        reject(new ApiError("Without a key this server answers nothing."));
      };
    });
  }
}
