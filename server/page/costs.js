// What an answer has cost: seconds by stage, tokens, looks.

import { createElement } from "./element.js";

const STAGES = {
  preprocess: "picture prepared",
  vision: "picture encoded",
  reencode: "encoded again",
  prefill: "context read",
  decode: "answer written",
};
const REASONS = {
  length: "The answer ends at the limit of tokens.",
  look_limit: "The model wanted to look once more than it may.",
  mixed_triggers: "The model asked for two kinds of looks at once, which is not defined.",
  malformed_region: "The model named a region that is not one.",
  foreign_trigger: "The model asked for a look that this bundle does not have.",
};

// Why the answer ends, where that needs saying.
export function explainEnd(reason) {
  return REASONS[reason] ?? "";
}

// `usage` as OpenAI has it, `details` as the server's own block has it.
export function describeCosts(usage, details) {
  const element = createElement("details", "costs");
  element.append(summarize(usage, details), drawStages(details.seconds), listCounts(usage, details));
  element.addEventListener("toggle", () => element.scrollIntoView({ block: "nearest" }));
  return element;
}

function summarize(usage, details) {
  const parts = [formatSeconds(details.seconds.total), countLooks(details.looks.length)];
  if (usage) parts.push(`${usage.total_tokens} tokens`);
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  if (cached) parts.push(`${cached} cached`);
  return createElement("summary", "", parts.join(" · "));
}

function countLooks(count) {
  if (count === 0) return "no further look";
  return count === 1 ? "1 look" : `${count} looks`;
}

function drawStages(seconds) {
  const bar = createElement("div", "stages");
  bar.setAttribute("aria-hidden", "true"); // the same stands in words below
  const names = Object.keys(STAGES).filter((name) => seconds[name] > 0);
  for (const name of names) {
    const part = createElement("i", `stage-${name}`);
    part.style.flexGrow = seconds[name] / seconds.total;
    bar.append(part);
  }
  return bar;
}

function listCounts(usage, details) {
  const list = createElement("dl");
  for (const [name, words] of Object.entries(STAGES)) {
    const seconds = details.seconds[name];
    if (seconds > 0) list.append(describeItem(words, formatSeconds(seconds), `stage-${name}`));
  }
  const first = details.first_token_seconds[0];
  if (first !== undefined) list.append(describeItem("first word after", formatSeconds(first)));
  if (usage) {
    list.append(describeItem("tokens read", String(usage.prompt_tokens)));
    list.append(describeItem("of them cached", String(usage.prompt_tokens_details.cached_tokens)));
    list.append(describeItem("tokens written", String(usage.completion_tokens)));
  }
  list.append(describeItem("tokens computed", String(details.usage.computed_tokens)));
  return list;
}

function describeItem(name, value, key = "") {
  const item = createElement("div");
  const term = createElement("dt");
  if (key) term.append(createElement("i", key));
  term.append(name);
  item.append(term, createElement("dd", "", value));
  return item;
}

export function formatSeconds(seconds) {
  if (seconds < 0.0995) return `${(1000 * seconds).toFixed(0)} ms`;
  return `${seconds.toPrecision(seconds < 10 ? 2 : 3)} s`;
}
