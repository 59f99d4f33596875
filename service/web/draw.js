/** Boxes and labels on a canvas; the same for the screen and for the picture that is saved. */

import { percent, predictions } from "./labels.js";

const BOX = "#8ea2ff";
const SHADE = "rgb(12 15 28 / 62%)";
const CHIP = "rgb(12 15 28 / 88%)";
const FONT = "system-ui, sans-serif";

/**
 * Draw what was said of the faces.
 *
 * @param context of the canvas, in units in which lines and letters are drawn
 * @param faces [{id, face}]
 * @param place a box in pixels of the picture -> one in the context's units
 * @param reason {image, area}: a saliency map and where it lies, or null
 */
export function draw(context, faces, place, reason = null) {
  if (reason) {
    const { x, y, width, height } = place(reason.area);
    context.drawImage(reason.image, x, y, width, height);
  }
  const labels = [];
  for (const { id, face } of faces) drawFace(context, id, face, place(face.box), labels);
}

function drawFace(context, id, face, box, labels) {
  context.beginPath();
  context.roundRect(box.x, box.y, box.width, box.height, 7);
  // A dark edge on both sides: the line is seen on bright and on dark pictures.
  context.setLineDash([]);
  context.lineWidth = 5;
  context.strokeStyle = SHADE;
  context.stroke();
  context.setLineDash(face.emotion?.uncertain ? [7, 5] : []);
  context.lineWidth = 2.5;
  context.strokeStyle = BOX;
  context.stroke();
  drawLabel(context, lines(id, face, box.width), box, labels);
}

/** Fewer words on smaller faces, so that groups can be read. */
function lines(id, face, width) {
  const [first, ...others] = predictions(face).map(({ head, label, probability, uncertain }) => {
    const share = head === "emotion" ? ` ${percent(probability)}` : "";
    return `${label}${uncertain ? "?" : ""}${share}`;
  });
  if (!first || width < 34) return [String(id)];
  const named = `${id}  ${first}`;
  return width < 64 || !others.length ? [named] : [named, others.join(" · ")];
}

function drawLabel(context, texts, box, labels) {
  const [line, pad] = [17, 7];
  context.font = `600 13px ${FONT}`;
  const width = Math.max(...texts.map((text) => context.measureText(text).width)) + 2 * pad;
  const height = texts.length * line + pad;
  const { left, top } = besides(context, box, width, height, labels);
  labels.push({ left, top, width, height });
  context.beginPath();
  context.roundRect(left, top, width, height, 6);
  context.fillStyle = CHIP;
  context.fill();
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  texts.forEach((text, index) => {
    context.font = `${index ? 450 : 600} 13px ${FONT}`;
    context.fillText(text, left + pad, top + pad / 2 + line * (index + 0.5));
  });
}

/** Above the box, or below it, or inside: wherever the picture has room beside other labels. */
function besides(context, box, width, height, labels) {
  const scale = context.getTransform().a;
  const [right, bottom] = [context.canvas.width / scale, context.canvas.height / scale];
  const left = Math.max(0, Math.min(box.x, right - width));
  const inside = Math.max(0, box.y + 4);
  const tops = [box.y - height - 4, box.y + box.height + 4, inside];
  const shown = tops.filter((top) => top >= 0 && top + height <= bottom);
  // Half a label that another covers reads as another word: "female" as "male".
  const free = shown.find((top) => !labels.some((other) => cover(other, { left, top, width, height })));
  return { left, top: free ?? shown[0] ?? inside };
}

function cover(one, other) {
  const across = one.left < other.left + other.width && other.left < one.left + one.width;
  return across && one.top < other.top + other.height && other.top < one.top + one.height;
}
