/** Gives what is shown as files: the answer as JSON, the picture with its drawing as PNG. */

import { draw } from "./draw.js";
import { numbered } from "./labels.js";

/** The longer side of a picture on which lines and letters have the size that they have on screen. */
const SCREEN = 900;

export function saveJson({ name, result }) {
  save(new Blob([JSON.stringify(result, null, 2)], { type: "application/json" }), `${stem(name)}.json`);
}

export async function savePicture({ name, blob, result }) {
  const picture = await createImageBitmap(blob).catch(() => {
    throw new Error(`This browser cannot draw on ${name}.`);
  });
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const unit = Math.max(1, Math.max(picture.width, picture.height) / SCREEN);
  context.scale(unit, unit);
  draw(context, numbered(result.faces), ({ x, y, width, height }) => (
    { x: x / unit, y: y / unit, width: width / unit, height: height / unit }
  ));
  const drawn = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  save(drawn, `${stem(name)}-faces.png`);
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser has taken it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function stem(name) {
  return name.replace(/\.\w+$/, "");
}
