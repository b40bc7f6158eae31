// The browser's own camera.

import { encodeCanvas } from "./picture.js";

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia); // only where the page is from a safe origin
}

export class Camera {
  // `take` is called with the picture, a Blob.
  constructor(dialog, take) {
    this.dialog = dialog;
    this.video = dialog.querySelector("video");
    this.problem = dialog.querySelector("#camera-problem");
    this.shutter = dialog.querySelector("#camera-take");
    this.take = take;
    this.stream = null;
    this.shutter.addEventListener("click", () => this.shoot());
    dialog.querySelector("#camera-cancel").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.stop());
  }

  async open() {
    this.problem.hidden = true;
    this.shutter.disabled = true;
    this.dialog.showModal();
    try {
      await this.start();
      this.shutter.disabled = false;
      this.shutter.focus();
    } catch (error) {
      this.problem.textContent = explainProblem(error);
      this.problem.hidden = false;
    }
  }

  async start() {
    const video = { facingMode: "environment", width: { ideal: 1920 } };
    this.stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    if (!this.dialog.open) this.stop(); // closed while the browser asked
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  async shoot() {
    const canvas = document.createElement("canvas");
    canvas.width = this.video.videoWidth;
    canvas.height = this.video.videoHeight;
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    this.dialog.close();
    this.take(await encodeCanvas(canvas));
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }
}

function explainProblem(error) {
  if (error.name === "NotAllowedError") return "The browser was not allowed to use the camera.";
  if (error.name === "NotFoundError") return "There is no camera.";
  return `The camera does not start: ${error.message}`;
}
