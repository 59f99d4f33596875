/** The REST calls; whatever goes wrong is an ApiError whose message is a sentence. */

const TYPES = ["jpeg", "png", "webp", "bmp", "tiff", "gif", "avif"].map((name) => `image/${name}`);

export class ApiError extends Error {
  constructor(message, code = "") {
    super(sentence(message));
    this.code = code;
  }
}

/** `the image is damaged` -> `The image is damaged.` */
export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export class Api {
  #keys;

  constructor(keys) {
    this.#keys = keys;
  }

  async models() {
    return (await this.#ask("v1/models")).models;
  }

  analyze(image, query) {
    return this.#post("v1/analyze", image, query);
  }

  explain(image, query) {
    return this.#post("v1/explain", image, { ...query, overlay: "true" });
  }

  #post(path, image, query) {
    // The server goes by the bytes; it only wants the name of a type that it takes.
    const type = TYPES.includes(image.type) ? image.type : TYPES[0];
    const target = `${path}?${new URLSearchParams(query)}`;
    return this.#ask(target, { method: "POST", body: image, headers: { "content-type": type } });
  }

  async #ask(target, options = {}) {
    const key = this.#keys.value;
    const headers = { ...options.headers, ...(key && { "x-api-key": this.#keys.header }) };
    const response = await reach(target, { ...options, headers });
    if (response.status === 401) {
      await this.#keys.ask(key);
      return this.#ask(target, options);
    }
    if (!response.ok) throw await problem(response);
    return response.json();
  }
}

async function reach(target, options) {
  try {
    return await fetch(target, { ...options, cache: "no-store" });
  } catch {
    if (!(await readable(options.body))) {
      throw new ApiError("The file can no longer be read: it was moved, changed or deleted after it was chosen.");
    }
    throw new ApiError(
      "The server cannot be reached. It may have stopped, or the connection is gone; try again in a moment.",
    );
  }
}

/** Whether there is what was to be sent: a file stays on the disk until then. */
async function readable(file) {
  try {
    await file?.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

async function problem(response) {
  const said = await response.json().catch(() => ({}));
  const wait = response.headers.get("retry-after");
  const text = sentence(said.detail || said.title || `The server answered ${response.status}`);
  return new ApiError(wait ? `${text} Try again in ${wait} s.` : text, said.code);
}
