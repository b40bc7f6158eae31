// The ways in which a picture comes: chosen, dropped, pasted, taken.

import { Camera, hasCamera } from "./camera.js";

const byId = (id) => document.getElementById(id);

// `use` is called with each file, `refuse` with what is wrong with what came instead.
export function takePictures(use, refuse) {
  listenToFiles(use);
  listenToDrops(use, refuse);
  listenToPastes(use);
  listenToCamera(use);
}

function listenToFiles(use) {
  const field = byId("file");
  field.addEventListener("change", () => {
    if (field.files.length > 0) use(field.files[0]);
    field.value = ""; // the same file may be chosen again
  });
  byId("choose").addEventListener("click", () => field.click());
  byId("drop").addEventListener("click", () => field.click());
}

function listenToDrops(use, refuse) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging"); // left the window
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const file = event.dataTransfer.files[0];
    if (file) use(file);
    else refuse("What was dropped is not a file. Save the picture first, or copy and paste it.");
  });
}

function listenToPastes(use) {
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    const file = files.find((each) => each.type.startsWith("image/"));
    if (!file) return; // text goes where the cursor is
    event.preventDefault();
    use(file);
  });
}

function listenToCamera(use) {
  const camera = new Camera(byId("camera"), (blob) => use(blob, "picture from the camera"));
  byId("take").hidden = !hasCamera();
  byId("take").addEventListener("click", () => camera.open());
}
