/** Plays what is to be analysed, the camera or a file, and has the controls of the file. */

export class Player extends EventTarget {
  #video;
  #bar;
  #play;
  #seek;
  #clock;

  constructor({ video, bar, play, seek, clock }) {
    super();
    this.#video = video;
    this.#bar = bar;
    this.#play = play;
    this.#seek = seek;
    this.#clock = clock;
    play.onclick = () => (video.paused ? video.play() : video.pause());
    seek.oninput = () => (video.currentTime = seek.value);
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, () => this.#showState());
    video.addEventListener("timeupdate", () => this.#showTime());
  }

  get size() {
    return { width: this.#video.videoWidth, height: this.#video.videoHeight };
  }

  /** Where to go on, in seconds. */
  get time() {
    return this.#video.ended ? 0 : this.#video.currentTime;
  }

  async playCamera(camera) {
    this.stop();
    this.#video.srcObject = camera;
    camera.getVideoTracks()[0].onended = () => this.dispatchEvent(new CustomEvent("gone"));
    await this.#start();
  }

  /** Play a file from a time in seconds. */
  async playFile(file, from) {
    this.stop();
    this.#video.src = URL.createObjectURL(file);
    this.#video.currentTime = from;
    try {
      await this.#start();
    } catch {
      throw new Error(`This browser cannot play ${file.name}. MP4 with H.264 and WebM work in most browsers.`);
    }
    this.#seek.max = this.#video.duration;
    this.#showState();
    this.#showTime();
    this.#bar.hidden = false;
  }

  /** Let go of camera and file. */
  stop() {
    const { srcObject, src } = this.#video;
    for (const track of srcObject?.getTracks() ?? []) track.stop();
    this.#video.srcObject = null;
    if (src) URL.revokeObjectURL(src);
    this.#video.removeAttribute("src");
    this.#video.load();
    this.#bar.hidden = true;
  }

  #start() {
    const shown = new Promise((resolve, reject) => {
      this.#video.onloadeddata = () => (this.#video.videoWidth ? resolve() : reject(new Error("no picture")));
      this.#video.onerror = () => reject(this.#video.error);
    });
    return Promise.all([shown, this.#video.play()]);
  }

  #showState() {
    const { paused, ended } = this.#video;
    this.#play.textContent = ended ? "Play again" : paused ? "Play" : "Pause";
  }

  #showTime() {
    const { currentTime, duration } = this.#video;
    this.#seek.value = currentTime;
    this.#seek.setAttribute("aria-valuetext", clock(currentTime));
    this.#clock.textContent = `${clock(currentTime)} / ${clock(duration)}`;
  }
}

function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
