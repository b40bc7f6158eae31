// Dark or light: as the system has it, until a person chooses.

const KEY = "vpt-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function startTheme(button) {
  showTheme(button);
  system.addEventListener("change", () => showTheme(button));
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, isDark() ? "light" : "dark");
    showTheme(button);
  });
}

function isDark() {
  const chosen = localStorage.getItem(KEY);
  return chosen ? chosen === "dark" : system.matches;
}

function showTheme(button) {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  button.setAttribute("aria-pressed", String(isDark()));
}
