// What went wrong, and what a person can do about it.

export class Notice {
  constructor(element) {
    this.element = element;
    this.text = element.querySelector("#notice-text");
    this.count = element.querySelector("#notice-count");
    this.keyForm = element.querySelector("#key-form");
    this.again = element.querySelector("#again");
    this.timer = null;
    this.repeat = () => {};
    this.again.addEventListener("click", () => this.runRepeat());
    element.querySelector("#dismiss").addEventListener("click", () => this.hide());
  }

  // `repeat`: what "Ask again" does; null where there is nothing to repeat.
  show(words, repeat = null) {
    this.hide();
    this.repeat = repeat;
    this.again.hidden = repeat === null;
    this.text.textContent = words;
    this.element.hidden = false;
  }

  // As the server says it: with a field for the key, or a time to wait.
  showError(error, repeat) {
    if (error.status === 401) this.showKeyField(error.message, repeat);
    else if (error.retryAfter) this.showCountdown(error.message, error.retryAfter, repeat);
    else this.show(error.message, repeat);
  }

  // Repeat by itself after so many seconds, counted down.
  showCountdown(words, seconds, repeat) {
    this.show(words, repeat);
    let left = Math.ceil(seconds);
    const count = () => {
      this.count.textContent = `Asking again in ${left} s`;
      if (left <= 0) this.runRepeat();
      left -= 1;
    };
    this.count.hidden = false;
    this.timer = setInterval(count, 1000);
    count();
  }

  showKeyField(words, repeat) {
    this.show(words, repeat);
    this.again.hidden = true;
    this.keyForm.hidden = false;
    this.keyForm.elements.key.focus();
  }

  hide() {
    clearInterval(this.timer);
    this.element.hidden = true;
    this.count.hidden = true;
    this.keyForm.hidden = true;
    this.text.textContent = "";
  }

  runRepeat() {
    const repeat = this.repeat;
    this.hide();
    repeat?.();
  }
}
