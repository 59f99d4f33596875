/** Puts the parts of the page together. */

import { Analysis } from "./analysis.js";
import { Api, sentence } from "./api.js";
import { facesUser, openCamera } from "./camera.js";
import { FaceList } from "./faces.js";
import { gather } from "./gather.js";
import { Keys } from "./key.js";
import { counted } from "./labels.js";
import { Live } from "./live.js";
import { Notice } from "./notice.js";
import { Player } from "./player.js";
import { saveJson, savePicture } from "./save.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Stats } from "./stats.js";
import { Stream } from "./stream.js";
import { MOST, Strip } from "./strip.js";

const byId = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

const notice = new Notice(byId.notice);
const keys = new Keys(byId.key);
const api = new Api(keys);
const settings = new Settings(byId.settings);
const stage = new Stage(byId);
const faces = new FaceList({
  list: byId.faces, template: byId["face-card"], summary: byId.summary, used: byId.used,
});
const strip = new Strip(byId.strip);
const analysis = new Analysis(api, strip, settings);
const player = new Player({ ...byId, bar: byId.player });
const stats = new Stats(byId);
const stream = new Stream(streamUrl(), keys);
const live = new Live(byId.video, stream);

/** What is shown and can be saved: {name, blob, result}, or null. */
let shown = null;
/** What is live: {name, item}, or null; the camera is no item. */
let playing = null;
/** When the live figures began, by `performance.now()`. */
let since = 0;
/** Done when what was chosen is on the stage. */
let staged = Promise.resolve();
/** Done when the settings offer what is served; null where that was not asked, or failed. */
let offered = null;

function streamUrl() {
  const url = new URL("v1/stream", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}

function show(what) {
  shown = what;
  byId["save-json"].disabled = byId["save-picture"].disabled = !what;
}

/** Offer what is served; where that could not be told at first, once something was answered. */
function offer() {
  offered ??= api.models().then((models) => settings.offer(models), (error) => {
    offered = null;
    throw error;
  });
  return offered;
}

/** Run what a person asked for; what goes wrong is told. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    notice.fail(sentence(error.message));
  }
}

// Photos --------------------------------------------------------------------------------------

async function showPhoto(item) {
  const { url, size } = await load(item);
  if (item !== strip.chosen) return;
  byId.welcome.hidden = true;
  stage.showImage(url, item.file.name, size);
  showAnswer(item);
  analysis.run();
}

async function load({ url }) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    // The server may read what the browser cannot.
    return { url: "web/none.svg", size: { width: 3, height: 2 } };
  }
  return { url, size: { width: image.naturalWidth, height: image.naturalHeight } };
}

function showAnswer({ file, result, problem }) {
  show(result ? { name: file.name, blob: file, result } : null);
  if (problem) notice.fail(problem);
  if (!result) return faces.clear(problem ? "None." : "Looking for faces…");
  stage.setFaces(result.faces, result.image);
  faces.show(result);
}

// Camera and video ----------------------------------------------------------------------------

function stopLive() {
  if (playing?.item) playing.item.time = player.time;
  playing = null;
  live.stop();
  player.stop();
  byId.stats.hidden = true;
  byId.camera.textContent = "Use camera";
}

/** Go live once `start` plays, unless something else was chosen by then. */
async function startLive(source, start, mirrored) {
  playing = source;
  // From here on: what was live before may still be answered, and must not pass for this.
  since = performance.now();
  stats.reset();
  show(null);
  faces.clear("Looking for faces…");
  try {
    await start();
  } catch (error) {
    if (playing !== source) return;
    endLive();
    throw error;
  }
  if (playing !== source) return;
  byId.welcome.hidden = true;
  byId.stats.hidden = false;
  stage.showVideo(player.size, mirrored);
  live.side = settings.side;
  live.start(settings.session);
}

async function toggleCamera() {
  notice.clear();
  if (playing && !playing.item) return endLive();
  const camera = await openCamera();
  stopLive();
  strip.choose(null);
  byId.camera.textContent = "Stop camera";
  await startLive({ name: "camera", item: null }, () => player.playCamera(camera), facesUser(camera));
}

function showVideo(item) {
  return startLive({ name: item.file.name, item }, () => player.playFile(item.file, item.time), false);
}

/** Whether it was sent since the figures began; what was live before may still be answered. */
function counts(frame) {
  return frame.at >= since;
}

function takeReply({ frame, message }) {
  const now = performance.now();
  if (!counts(frame)) return;
  if (message.type === "frame.dropped") return stats.count("dropped");
  if (message.type === "frame.error") {
    stats.count("errors");
    return notice.fail(sentence(message.detail));
  }
  stats.answered(now, now - frame.at);
  if (!playing) return;
  show({ name: playing.name, blob: frame.blob, result: message });
  stage.setFaces(message.faces, message.image);
  faces.follow(message, now);
}

// Why -----------------------------------------------------------------------------------------

/** Keep the frame that was answered last as a photo. */
function keepFrame() {
  const { blob, result, name } = shown;
  const file = new File([blob], `${name.replace(/\.\w+$/, "")}-${result.frame}.jpg`, { type: blob.type });
  const [item] = strip.add([file]);
  analysis.take(item, result);
  byId.stats.hidden = false;
  return item;
}

/** Stop what is live, and leave the last frame to look at. */
function endLive() {
  if (shown) keepFrame();
  else showNothing();
}

function showNothing() {
  stopLive();
  show(null);
  faces.clear();
  stage.hide();
  byId.welcome.hidden = false;
}

async function explain(id) {
  if (!shown) return;
  const face = shown.result.faces.find((other, index) => (other.track_id ?? index + 1) === id);
  if (!face) return;
  // A face of a stream moves on.
  const item = playing ? keepFrame() : strip.chosen;
  const reasons = await analysis.why(item, face);
  await staged;
  if (item !== strip.chosen) return;
  const choose = (head) => {
    faces.explain(id, reasons, head, choose);
    stage.setReason(reasons.find((reason) => reason.head === head) ?? null);
  };
  choose(reasons[0]?.head);
}

// Wiring --------------------------------------------------------------------------------------

gather({
  button: byId.choose,
  input: byId.files,
  refuse: (text) => notice.fail(text),
  take: (files) => {
    strip.add(files);
    analysis.run();
  },
});
byId.camera.onclick = () => attempt(toggleCamera);
byId["save-json"].onclick = () => saveJson(shown);
byId["save-picture"].onclick = () => attempt(() => savePicture(shown));
for (const source of [stage, faces]) source.addEventListener("why", ({ detail }) => attempt(() => explain(detail)));

strip.addEventListener("choose", ({ detail: item }) => {
  notice.clear();
  stopLive();
  staged = attempt(() => (item.isVideo ? showVideo(item) : showPhoto(item)));
});
strip.addEventListener("left", ({ detail: count }) => {
  notice.mention(`The page holds ${MOST} pictures at a time: ${counted(count, "older one")} left it.`);
});
strip.addEventListener("empty", () => {
  byId.choose.focus();
  if (!playing || playing.item) showNothing();
});
analysis.addEventListener("done", ({ detail: item }) => {
  if (item === strip.chosen) showAnswer(item);
  if (item.result) attempt(offer);
});
settings.addEventListener("change", () => {
  live.side = settings.side;
  stream.renew(settings.session);
  live.again();
  analysis.run();
});

live.addEventListener("sent", () => stats.count("sent"));
live.addEventListener("toolarge", () => {
  notice.fail("The frames are larger than the server takes. Choose a smaller side in the settings.");
});
stream.addEventListener("reply", ({ detail }) => takeReply(detail));
stream.addEventListener("lost", ({ detail: frames }) => stats.count("lost", frames.filter(counts).length));
stream.addEventListener("state", ({ detail: word }) => {
  stats.connection = word;
  if (word !== "open") return;
  notice.settle();
  faces.beginAnew();
  attempt(offer);
});
stream.addEventListener("trouble", ({ detail }) => notice.mention(detail));
stream.addEventListener("refused", ({ detail }) => {
  endLive();
  notice.fail(detail);
});
player.addEventListener("gone", () => {
  endLive();
  notice.fail("The camera was disconnected.");
});

attempt(offer);
