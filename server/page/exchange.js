// A question with its answer, as far as it has come.

import { describeCosts, explainEnd } from "./costs.js";
import { createElement } from "./element.js";
import { describeLook } from "./looks.js";

export class Exchange {
  constructor(question) {
    this.question = question;
    this.text = ""; // of the answer, for certain
    this.provisional = ""; // of a turn that may still ask for a look
    this.looks = [];
    this.framing = null; // the Promise of the picture that a source showed
    this.usage = null;
    this.details = null; // the server's own block, when the answer is whole
    this.build();
  }

  build() {
    this.element = createElement("article", "exchange");
    this.steps = createElement("ol", "steps");
    this.answer = createElement("p", "answer waiting");
    this.note = createElement("p", "note");
    this.foot = createElement("div", "foot");
    this.thoughts = createElement("p", "thoughts");
    this.thinking = createElement("details", "thinking");
    this.thinking.append(createElement("summary", "", "What it thinks"), this.thoughts);
    this.element.append(createElement("h3", "question", this.question), this.steps, this.answer);
    this.element.append(this.note, this.foot);
  }

  // Take what a chunk of the stream brings; returns its look, if that is what it brings.
  take(chunk) {
    const own = chunk.vpt ?? {};
    const { content, reasoning_content: thought } = chunk.choices?.[0]?.delta ?? {};
    if (thought) this.think(thought);
    if (own.refused) this.refuse();
    if (own.look) this.addLook(own.look);
    if (content) this.text += content;
    else if (own.piece) this.provisional += own.piece;
    if (own.seconds) this.details = own;
    if (chunk.usage) this.usage = chunk.usage;
    this.showText();
    return own.look ?? null;
  }

  addLook(look) {
    this.looks.push(look);
    this.provisional = ""; // what was said before a look is not the answer
    this.steps.append(createElement("li", "", `looked again at ${describeLook(look)}`));
  }

  think(thought) {
    this.thoughts.textContent += thought;
    this.steps.after(this.thinking);
  }

  refuse() {
    this.provisional = "";
    this.steps.append(createElement("li", "", "asked for a look that there is not"));
  }

  showText() {
    this.answer.textContent = this.text || this.provisional;
    this.answer.classList.toggle("waiting", !this.text && !this.provisional);
    this.answer.classList.toggle("provisional", !this.text);
  }

  // `showLooks` is called where a person wants to see this answer's looks again.
  finish(showLooks) {
    this.answer.classList.remove("waiting", "provisional");
    this.note.textContent = explainEnd(this.details.finish_reason);
    this.foot.append(describeCosts(this.usage, this.details));
    const links = createElement("p", "links");
    if (this.looks.length > 0) links.append(createButton("Show the looks", showLooks));
    if (this.details.id) links.append(createLink(this.details.id));
    this.foot.append(links);
  }

  // It has no answer, and is no part of the conversation.
  fail(words) {
    this.answer.classList.remove("waiting");
    this.note.textContent = words;
    this.element.classList.add("failed");
  }
}

// As the server keeps it.
export function restoreExchange(stored) {
  const exchange = new Exchange(stored.question);
  for (const look of stored.vpt.looks) exchange.addLook(look);
  exchange.text = stored.text;
  exchange.usage = stored.usage;
  exchange.details = { ...stored.vpt, id: stored.id };
  exchange.showText();
  return exchange;
}

// Of the history that came before it: of this the server keeps the words alone.
export function restoreWords([question, text]) {
  const exchange = new Exchange(question);
  exchange.text = text;
  exchange.showText();
  return exchange;
}

export function addressOf(id) {
  return `?answer=${encodeURIComponent(id)}`;
}

function createButton(text, act) {
  const button = createElement("button", "link", text);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

function createLink(id) {
  const link = createElement("a", "", "Link to this answer");
  link.href = addressOf(id);
  return link;
}
