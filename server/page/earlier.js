// Earlier answers of this browser session; the server keeps them, here are their links.

import { createElement } from "./element.js";
import { addressOf } from "./exchange.js";
import { shrink } from "./picture.js";

const KEY = "vpt-answers";
const COUNT = 24;
const WIDTH = 160;
const HEIGHT = 112;

export class Earlier {
  // `open` is called with the id of an answer that is to be shown again.
  constructor(section, list, open) {
    this.section = section;
    this.list = list;
    this.open = open;
    this.entries = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    this.show();
  }

  add(id, question, text, bitmap) {
    this.entries.unshift({ id, question, text, picture: shrink(bitmap, WIDTH, HEIGHT) });
    this.entries.length = Math.min(this.entries.length, COUNT);
    this.save();
    this.show();
  }

  remove(id) {
    this.entries = this.entries.filter((entry) => entry.id !== id);
    this.save();
    this.show();
  }

  save() {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(this.entries));
    } catch {
      this.entries.length = 0; // the store is full: begin again
    }
  }

  show() {
    this.section.hidden = this.entries.length === 0;
    this.list.replaceChildren(...this.entries.map((entry) => this.describe(entry)));
  }

  describe({ id, question, text, picture }) {
    const item = createElement("li");
    const link = createElement("a");
    link.href = addressOf(id);
    const image = createElement("img");
    image.src = picture;
    image.alt = "";
    image.width = WIDTH;
    image.height = HEIGHT;
    link.append(image, createElement("span", "asked", question), createElement("b", "", text));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab of its own
      event.preventDefault();
      this.open(id);
    });
    item.append(link);
    return item;
  }
}
