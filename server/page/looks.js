// Looks, drawn on the picture that the model looked at, and each crop beside it.

import { createElement } from "./element.js";

const GRID = 8;
const CROP_WIDTH = 640; // pixels of a crop's canvas, at most

// In words, for who cannot see the picture.
export function describeLook(look) {
  const which = look.picture ? ` of picture ${look.picture + 1}` : "";
  if (look.kind === "whole") return `the whole picture${which}, as large as it is`;
  if (!look.box) return `the whole picture, encoded again (${look.kind})`;
  const [left, top, right, bottom] = look.box;
  const size = `${right - left} × ${bottom - top} px`;
  if (!look.cells) return `${size} from (${left}, ${top})${which}`;
  const [x0, y0, x1, y1] = look.cells;
  const isOne = x0 === x1 && y0 === y1;
  const cells = isOne ? `cell (${x0}, ${y0})` : `cells (${x0}, ${y0}) to (${x1}, ${y1})`;
  return `${cells}, ${size}`;
}

export class Looks {
  // `figure` holds the picture and its overlay, `list` the crops, `empty` what stands in their place.
  constructor(figure, list, empty) {
    this.marks = figure.querySelector(".marks");
    this.overlay = figure.querySelector(".overlay");
    this.list = list;
    this.empty = empty;
  }

  clear() {
    this.marks.replaceChildren();
    this.list.replaceChildren();
    this.overlay.classList.remove("gridded");
    this.empty.hidden = false;
  }

  // All of `looks` at `bitmap`, at once.
  show(bitmap, looks) {
    this.clear();
    for (const look of looks) this.add(bitmap, look);
  }

  add(bitmap, look) {
    const number = this.list.children.length + 1;
    const mark = this.mark(bitmap, look, number);
    this.empty.hidden = true;
    this.list.append(this.describe(bitmap, look, number, mark));
    this.choose(mark);
  }

  mark(bitmap, look, number) {
    const mark = createElement("div", look.box ? "mark region" : "mark whole");
    if (look.cells) {
      this.overlay.classList.add("gridded");
      mark.append(place(createElement("div", "cells"), spanCells(look.cells)));
    }
    mark.hidden = look.picture > 0; // the first picture is the one that is shown
    const box = createElement("div", "box");
    if (look.box) place(box, scaleBox(look.box, bitmap));
    box.append(createElement("span", "number", look.box ? String(number) : `${number} · ${look.kind}`));
    mark.append(box);
    this.marks.append(mark);
    return mark;
  }

  describe(bitmap, look, number, mark) {
    const item = createElement("li", "look");
    const button = createElement("button", "card");
    button.type = "button";
    const words = createElement("span", "words");
    words.append(createElement("b", "", `Look ${number}`), ` ${describeLook(look)}`);
    const tokens = createElement("span", "tokens", `${look.tokens} visual tokens`);
    if (!look.picture) button.append(cutCrop(bitmap, look.box ?? [0, 0, bitmap.width, bitmap.height]));
    button.append(words, tokens);
    button.addEventListener("click", () => this.choose(mark));
    item.append(button);
    return item;
  }

  // Bring one mark to the front.
  choose(mark) {
    const marks = [...this.marks.children];
    marks.forEach((each, index) => {
      each.classList.toggle("chosen", each === mark);
      const button = this.list.children[index]?.firstElementChild;
      button?.setAttribute("aria-pressed", String(each === mark));
    });
  }
}

// Left, top, width, height as parts of the whole.
function spanCells([x0, y0, x1, y1]) {
  return [x0 / GRID, y0 / GRID, (x1 + 1 - x0) / GRID, (y1 + 1 - y0) / GRID];
}

function scaleBox([left, top, right, bottom], { width, height }) {
  return [left / width, top / height, (right - left) / width, (bottom - top) / height];
}

function place(element, parts) {
  ["left", "top", "width", "height"].forEach((side, index) => {
    element.style[side] = `${100 * parts[index]}%`;
  });
  return element;
}

function cutCrop(bitmap, [left, top, right, bottom]) {
  const canvas = document.createElement("canvas");
  const width = Math.max(1, right - left);
  const height = Math.max(1, bottom - top);
  canvas.width = Math.min(width, CROP_WIDTH);
  canvas.height = Math.max(1, Math.round((canvas.width * height) / width));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, left, top, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}
