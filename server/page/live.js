// The newest pictures of a source that the server watches, one long poll after another.

import { request } from "./server.js";
import { openPicture, showBitmap } from "./picture.js";

const FIRST_PAUSE = 500; // ms before the next try, then twice as long
const LONGEST_PAUSE = 8000;
const NEWLINE = 10;

// {name, state, …} of each source; none where the server watches nothing.
export async function listSources() {
  try {
    const response = await request("sources");
    return (await response.json()).sources ?? [];
  } catch {
    return [];
  }
}

export class LiveView {
  // `figure` holds the canvas; `state` is told in words how the source is.
  constructor(figure, state) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.state = state;
    this.frame = null; // {number, state, blob, …} of the picture that is shown
    this.source = null;
    this.ending = new AbortController();
  }

  start(source) {
    this.stop();
    this.source = source;
    this.figure.hidden = false;
    this.canvas.setAttribute("aria-label", `Live picture of ${source}`);
    this.tell(`${source}: waiting for a picture`, false);
    this.follow(source, this.ending.signal);
  }

  stop() {
    this.ending.abort();
    this.ending = new AbortController();
    this.source = null;
    this.frame = null;
    this.figure.hidden = true;
  }

  async follow(source, signal) {
    let number = null;
    let pause = FIRST_PAUSE;
    while (!signal.aborted) {
      try {
        const frame = await fetchNext(source, number, signal);
        if (frame) number = await this.show(frame, signal);
        else this.tell(`${source}: no picture for 5 s`, false);
        pause = FIRST_PAUSE;
        await waitVisible(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.tell(`${source}: ${error.message} Trying again.`, false);
        await sleep(pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
    }
  }

  async show(frame, signal) {
    const bitmap = await createImageBitmap(frame.blob);
    if (!signal.aborted) {
      showBitmap(this.canvas, bitmap);
      this.frame = frame;
      this.tell(`${this.source}: ${frame.state}`, frame.state === "live");
    }
    bitmap.close();
    return frame.number;
  }

  tell(words, isLive) {
    if (this.state.textContent !== words) this.state.textContent = words;
    this.figure.classList.toggle("running", isLive);
  }
}

// A picture that was asked about. Throws what `request` throws.
export async function fetchFrame(source, number) {
  const response = await request(`${pathOf(source)}?number=${number}`);
  return openFrame(source, number, await response.blob());
}

export async function openFrame(source, number, blob) {
  return { ...(await openPicture(blob, `${source}, picture ${number}`)), number };
}

function pathOf(source) {
  return `sources/${encodeURIComponent(source)}/frame`;
}

// The next picture behind `number`; null where none came for a while.
async function fetchNext(source, number, signal) {
  const after = number === null ? "" : `?after=${number}`;
  const response = await request(`${pathOf(source)}${after}`, { signal });
  if (response.status === 204) return null;
  const bytes = new Uint8Array(await response.arrayBuffer());
  const end = bytes.indexOf(NEWLINE);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  return { ...head, blob: new Blob([bytes.subarray(end + 1)], { type: "image/jpeg" }) };
}

// A tab that nobody sees fetches nothing.
function waitVisible(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const once = { once: true, signal };
    document.addEventListener("visibilitychange", resolve, once);
    signal.addEventListener("abort", resolve, { once: true });
  });
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
