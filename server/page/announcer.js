// What happens, in words, for a screen reader: whole sentences, where the page shows single letters.

import { createElement } from "./element.js";

const LINES = 20;
const announcer = document.getElementById("announcer");

export function announce(words) {
  announcer.append(createElement("p", "", words));
  while (announcer.children.length > LINES) announcer.firstElementChild.remove();
}
