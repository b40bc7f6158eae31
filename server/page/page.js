// The page: a picture, questions about it, and where the model looks.

import { announce } from "./announcer.js";
import { Conversation } from "./conversation.js";
import { Earlier } from "./earlier.js";
import { takePictures } from "./intake.js";
import { listenToKeys } from "./keyboard.js";
import { listSources, LiveView, openFrame } from "./live.js";
import { Looks } from "./looks.js";
import { Notice } from "./notice.js";
import { openPicture, showBitmap } from "./picture.js";
import { request, saveKey } from "./server.js";
import { startTheme } from "./theme.js";

const LOADING_PAUSE = 2000; // ms until the server is asked again whether it has loaded its model
const byId = (id) => document.getElementById(id);

const still = byId("still");
const question = byId("question");
const notice = new Notice(byId("notice"));
const live = new LiveView(byId("live"), byId("live-state"));
const conversation = new Conversation({
  list: byId("exchanges"),
  hint: byId("hint"),
  looks: new Looks(still, byId("looks"), byId("no-looks")),
  notice,
  earlier: new Earlier(byId("earlier"), byId("earlier-list"), openAnswer),
  show: showPicture,
  update: showState,
});

async function usePicture(file, name) {
  try {
    conversation.begin(await openPicture(file, name));
  } catch (error) {
    notice.show(error.message);
    return;
  }
  leaveLive();
  const { bitmap, name: shown } = conversation.picture;
  announce(`Picture: ${shown}, ${bitmap.width} by ${bitmap.height} pixels`);
  question.focus();
}

function showPicture(picture) {
  conversation.looks.clear();
  still.hidden = !picture;
  if (picture) {
    const { bitmap, name } = picture;
    showBitmap(still.querySelector("canvas"), bitmap);
    byId("still-caption").textContent = `${name} · ${bitmap.width} × ${bitmap.height}`;
  }
  showStage();
}

function showStage() {
  const { picture } = conversation;
  const isEmpty = !picture && !live.source;
  const hasBoth = Boolean(picture && live.source);
  byId("drop").hidden = !isEmpty;
  byId("stage").hidden = isEmpty;
  byId("clear").hidden = isEmpty;
  byId("stage").classList.toggle("both", hasBoth);
  byId("about-field").hidden = !hasBoth;
}

async function showSources() {
  const sources = await listSources();
  const options = sources.map(({ name }) => new Option(name, name));
  byId("source").replaceChildren(new Option("nothing", ""), ...options);
  byId("sources").hidden = options.length === 0;
}

function chooseSource() {
  const name = byId("source").value;
  conversation.begin(null);
  if (name) live.start(name);
  else live.stop();
  byId("about").value = "live";
  showStage();
}

function leaveLive() {
  live.stop();
  byId("source").value = "";
  showStage();
}

async function submit() {
  if (conversation.asking) return;
  const text = question.value.trim();
  if (!text) {
    question.focus();
    return;
  }
  const source = await freezeLive();
  if (!conversation.picture) {
    notice.show("Choose a picture first.");
    byId("choose").focus();
    return;
  }
  question.value = "";
  if (!byId("follow").checked) conversation.forget();
  await conversation.ask(text, byId("perception").value, source);
}

// Where the live picture is asked about, it stays beside the live view; returns its source, or "".
async function freezeLive() {
  const { source, frame } = live;
  const isStill = conversation.picture && byId("about").value === "still";
  if (!frame || isStill) return "";
  conversation.begin(await openFrame(source, frame.number, frame.blob));
  return source;
}

function showState() {
  const isAsking = Boolean(conversation.asking);
  byId("stop").hidden = !isAsking;
  byId("send").setAttribute("aria-disabled", String(isAsking));
  byId("exchanges").setAttribute("aria-busy", String(isAsking));
  const isLive = live.source && byId("about").value === "live";
  byId("follow-field").hidden = isLive || !byId("exchanges").querySelector(".exchange");
}

async function openAnswer(id) {
  try {
    await conversation.open(id);
    leaveLive();
  } catch (error) {
    if (error.status === 404) conversation.earlier.remove(id);
    notice.showError(error, () => openAnswer(id));
  }
}

function clear() {
  leaveLive();
  conversation.begin(null);
  byId("choose").focus();
}

async function start() {
  const id = new URLSearchParams(location.search).get("answer");
  await waitLoaded();
  try {
    const { data } = await (await request("v1/models")).json();
    byId("model").textContent = data[0].id;
    offerModes(data[0].vpt.perception);
  } catch (error) {
    notice.showError(error, start);
    return;
  }
  await showSources();
  if (id) await openAnswer(id);
}

// Only the modes that the model has can be chosen.
function offerModes(modes) {
  for (const option of [...byId("perception").options]) {
    if (option.value && !modes.includes(option.value)) option.remove();
  }
}

async function waitLoaded() {
  for (;;) {
    try {
      await request("health");
      return;
    } catch (error) {
      if (error.status !== 503) return; // what else is wrong, the next request says
    }
    byId("model").textContent = "The model is loading …";
    await new Promise((resolve) => setTimeout(resolve, LOADING_PAUSE));
  }
}

function listen() {
  takePictures(usePicture, (words) => notice.show(words));
  listenToKeys(submit, () => conversation.stop());
  startTheme(byId("theme"));
  byId("source").addEventListener("change", chooseSource);
  byId("about").addEventListener("change", showState);
  byId("clear").addEventListener("click", clear);
  byId("stop").addEventListener("click", () => conversation.stop());
  byId("open-shortcuts").addEventListener("click", () => byId("shortcuts").showModal());
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    saveKey(byId("key").value.trim());
    notice.runRepeat();
  });
}

listen();
start();
