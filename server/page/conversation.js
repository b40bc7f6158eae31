// Questions about one picture, and their answers; another picture begins another conversation.

import { announce } from "./announcer.js";
import { ask, writeBody } from "./ask.js";
import { addressOf, Exchange, restoreExchange, restoreWords } from "./exchange.js";
import { fetchFrame } from "./live.js";
import { describeLook } from "./looks.js";
import { openPicture } from "./picture.js";
import { request } from "./server.js";

export class Conversation {
  // `list` and `hint`: elements; `show` is called with each new picture, or null; `update` when a
  // question is on its way, and when none is any more.
  constructor({ list, hint, looks, notice, earlier, show, update }) {
    Object.assign(this, { list, hint, looks, notice, earlier, show, update });
    this.picture = null; // {bitmap, address, name}
    this.exchanges = [];
    this.asking = null; // the AbortController of the question on its way
  }

  begin(picture) {
    this.stop();
    this.notice.hide();
    this.picture = picture;
    this.exchanges = [];
    this.list.replaceChildren(...(picture ? [] : [this.hint]));
    history.replaceState(null, "", location.pathname);
    this.show(picture);
    this.update();
  }

  // The next question stands alone; the answers stay in view.
  forget() {
    this.exchanges = [];
  }

  // `source`: its name, where the question is about its newest picture.
  async ask(question, perception, source = "") {
    this.notice.hide();
    const exchange = new Exchange(question);
    this.list.append(exchange.element);
    this.looks.clear();
    const { signal } = this.startAsking();
    announce(`Asked: ${question}`);
    try {
      const address = source ? `source:${source}` : this.picture.address;
      const body = writeBody(address, this.exchanges, question, perception);
      await ask(body, signal, (chunk) => this.hear(exchange, chunk, signal));
      await exchange.framing;
      this.finish(exchange);
    } catch (error) {
      const again = () => this.repeat(exchange, question, perception, source);
      if (exchange.element.isConnected) this.fail(exchange, error, again);
    } finally {
      if (this.asking?.signal === signal) this.endAsking();
    }
  }

  startAsking() {
    this.asking = new AbortController();
    this.update();
    return this.asking;
  }

  endAsking() {
    this.asking = null;
    this.update();
  }

  stop() {
    this.asking?.abort();
    this.endAsking();
  }

  hear(exchange, chunk, signal) {
    signal.throwIfAborted(); // what was on its way when a person stopped it
    const look = exchange.take(chunk);
    const frame = chunk.vpt?.frame;
    if (frame) exchange.framing ??= this.showFrame(exchange, frame).catch(keepShown);
    if (look) {
      this.looks.add(this.picture.bitmap, look);
      announce(`Look ${exchange.looks.length}: ${describeLook(look)}`);
    }
    this.scrollToEnd();
  }

  // The picture that the server took, where it is not the one that was shown when it was asked.
  async showFrame(exchange, { source, number }) {
    if (number === this.picture.number) return;
    const picture = await fetchFrame(source, number);
    if (!exchange.element.isConnected) return; // another conversation has begun
    this.picture = picture;
    this.show(picture);
    this.looks.show(picture.bitmap, exchange.looks);
  }

  finish(exchange) {
    this.finishView(exchange);
    this.exchanges.push(exchange);
    announce(`Answer: ${exchange.text}`);
    const { id } = exchange.details;
    if (id) {
      this.earlier.add(id, exchange.question, exchange.text, this.picture.bitmap);
      history.replaceState(null, "", addressOf(id));
    }
    this.scrollToEnd();
  }

  finishView(exchange) {
    exchange.finish(() => this.looks.show(this.picture.bitmap, exchange.looks));
  }

  fail(exchange, error, again) {
    if (error.name === "AbortError") {
      exchange.fail("Stopped.");
      announce("Stopped");
      return;
    }
    exchange.fail("There is no answer.");
    this.notice.showError(error, again);
    this.scrollToEnd();
  }

  repeat(exchange, question, perception, source) {
    exchange.element.remove();
    this.ask(question, perception, source);
  }

  // Show an answer that the server has kept. Throws what `request` throws.
  async open(id) {
    const stored = await (await request(pathOf(id))).json();
    const blob = await (await request(`${pathOf(id)}/picture`)).blob();
    this.begin(await openPicture(blob, "kept picture"));
    const last = restoreExchange(stored);
    this.exchanges = [...stored.history.map(restoreWords), last];
    this.list.replaceChildren(...this.exchanges.map((exchange) => exchange.element));
    this.finishView(last);
    this.update();
    this.looks.show(this.picture.bitmap, last.looks);
    history.replaceState(null, "", addressOf(id));
    announce(`Answer: ${last.text}`);
    this.scrollToEnd();
  }

  scrollToEnd() {
    this.list.scrollTop = this.list.scrollHeight;
  }
}

// The picture that was asked about is gone: the one that was shown, a moment older, stays.
function keepShown() {}

function pathOf(id) {
  return `answers/${encodeURIComponent(id)}`;
}
