/** One message above the picture: what went wrong, or what is going on. */

export class Notice {
  #element;

  constructor(element) {
    this.#element = element;
    element.querySelector("button").onclick = () => this.clear();
  }

  /** Something failed, and it is told at once. */
  fail(text) {
    this.#show(text, "alert");
  }

  /** Something to know that passes by itself. */
  mention(text) {
    this.#show(text, "status");
  }

  clear() {
    this.#element.hidden = true;
  }

  /** What was going on is over; a failure stays until it was read. */
  settle() {
    if (this.#element.classList.contains("mild")) this.clear();
  }

  #show(text, role) {
    this.#element.hidden = false;
    this.#element.classList.toggle("mild", role === "status");
    const paragraph = this.#element.querySelector("p");
    // A role that is set with the text is read out; one that stood there before might not be.
    paragraph.setAttribute("role", role);
    paragraph.textContent = text;
  }
}
