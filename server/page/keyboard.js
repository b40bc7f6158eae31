// Keys; the page lists them under "Shortcuts".

const byId = (id) => document.getElementById(id);

const WITH_ALT = {
  KeyO: () => byId("choose").click(),
  KeyC: () => byId("take").click(),
  KeyQ: () => byId("question").focus(),
  KeyN: () => byId("clear").click(),
};

export function listenToKeys(submit, stop) {
  byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  document.addEventListener("keydown", (event) => {
    const isInDialog = document.querySelector("dialog[open]");
    if (isInDialog) return;
    if (event.key === "Escape") stop();
    const act = WITH_ALT[event.code];
    if (!act || !event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
  });
}
